"""Many messages through the writer, in order and in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from allocation.adapters.memory import MemoryStore
from allocation.domain.errors import InvalidMessage, InvalidSku
from allocation.domain.events import AllocationRequired, BatchCreated
from allocation.service_layer.messages import Message, Outcome, new_message
from allocation.service_layer.writing.stream import handle_stream, parse_line
from allocation.service_layer.writing.writer import Writer

Items = Sequence[tuple[int, Message | Exception]]


def with_writer(test: Callable[[Writer], Awaitable[None]], max_queued: int = 20) -> None:
    async def run() -> None:
        writer = Writer(MemoryStore(), max_queued=max_queued)
        writer.start()
        await test(writer)
        await writer.close()

    asyncio.run(run())


def lines(count: int, sku: str = "LAMP") -> Items:
    return [(number, new_message(AllocationRequired(f"o{number}", sku, 1), "test")) for number in range(count)]


async def one_batch(items: Items) -> AsyncIterator[Items]:
    yield items


async def collect(stream: AsyncIterator[list[Any]], into: list[Any] | None = None) -> list[Any]:
    collected = [] if into is None else into
    async for results in stream:
        collected += results
    return collected


def test_results_have_the_order_and_the_tags_of_the_items() -> None:
    refusal = InvalidMessage("nope")
    items: Items = [(0, new_message(BatchCreated("b", "LAMP", 9), "test")), (1, refusal), *lines(5)[2:], (7, refusal)]
    items = [*items, *lines(10, "nobody")[8:]]

    async def test(writer: Writer) -> None:
        results = await collect(handle_stream(writer, one_batch(items)))
        assert [tag for tag, _ in results] == [0, 1, 2, 3, 4, 7, 8, 9]
        outcomes = [result.result if isinstance(result, Outcome) else type(result) for _, result in results]
        assert outcomes == ["b", InvalidMessage, "b", "b", "b", InvalidMessage, InvalidSku, InvalidSku]

    with_writer(test)


def test_nothing_comes_of_nothing() -> None:
    async def test(writer: Writer) -> None:
        assert await collect(handle_stream(writer, one_batch([]))) == []

    with_writer(test)


def test_no_more_is_read_than_the_window_has_room_for() -> None:
    read = 0

    def counted() -> Any:
        nonlocal read
        for item in lines(1_000):
            read += 1
            yield item

    async def batches() -> AsyncIterator[Any]:
        yield counted()

    async def test(writer: Writer) -> None:
        yielded = 0
        async with aclosing(handle_stream(writer, batches(), window=10)) as stream:
            async for results in stream:
                await asyncio.sleep(0)
                yielded += len(results)
                assert len(results) <= 10
                assert read - yielded <= 11
        assert yielded == 1_000

    with_writer(test)


def test_it_waits_for_room_in_the_queue() -> None:
    async def test(writer: Writer) -> None:
        results = await collect(handle_stream(writer, one_batch(lines(50))))
        assert {type(result) for _, result in results} == {InvalidSku}
        assert len(results) == 50

    with_writer(test, max_queued=2)


def test_results_are_yielded_while_the_source_pauses() -> None:
    async def test(writer: Writer) -> None:
        more = asyncio.Event()

        async def batches() -> AsyncIterator[Items]:
            yield lines(1)
            await more.wait()
            yield lines(2)[1:]

        tags = []
        async with aclosing(handle_stream(writer, batches())) as stream:
            async for results in stream:
                tags += [tag for tag, _ in results]
                more.set()
        assert tags == [0, 1]

    with_writer(test)


def test_what_the_source_raises_comes_after_the_results_of_what_it_yielded() -> None:
    async def batches() -> AsyncIterator[Items]:
        yield lines(3)
        raise OSError("the disk is gone")

    async def test(writer: Writer) -> None:
        seen: list[Any] = []
        with pytest.raises(OSError, match="the disk is gone"):
            await collect(handle_stream(writer, batches()), seen)
        assert [tag for tag, _ in seen] == [0, 1, 2]

    with_writer(test)


def test_a_consumer_that_leaves_ends_the_reading() -> None:
    ended = False

    async def batches() -> AsyncIterator[Items]:
        nonlocal ended
        try:
            yield lines(1)
            await asyncio.sleep(60)
        finally:
            ended = True

    async def test(writer: Writer) -> None:
        async with aclosing(handle_stream(writer, batches())) as stream:
            await anext(stream)
        assert ended

    with_writer(test)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_line_may_bring_its_own_id(as_text: bool) -> None:
    def parsed(line: str) -> Message:
        return parse_line(line if as_text else line.encode(), "test")

    batch = '{"type":"BatchCreated","ref":"b","sku":"LAMP","qty":1'
    event = BatchCreated("b", "LAMP", 1)
    assert parsed(batch + ',"id":"k"}') == Message(event, "k", "test", keyed=True)
    assert parsed(batch + "}")[0] == event
    assert not parsed(batch + "}").keyed
    for wrong in ('"id":5', '"id":null', '"id":""', '"id":"a~1"', '"id":"k","more":1'):
        with pytest.raises(InvalidMessage):
            parsed(f"{batch},{wrong}}}")
    with pytest.raises(InvalidMessage):
        parsed('["id"]')
    assert parsed(batch.replace('"b"', r'"\"id\""') + "}").event == BatchCreated('"id"', "LAMP", 1)

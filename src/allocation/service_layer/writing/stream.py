"""Many messages through the writer: results in order, many in flight, memory bounded.

    async with aclosing(handle_stream(writer, batches)) as stream:
        async for results in stream:
            for tag, result in results:
                ...

``batches`` yields groups of items, each a tag (for example a line number) and a message, or the exception that explains
why there is none. A group may be lazy: its items are taken one by one, as there is room. The results are yielded in
groups too, as many as are ready, in the order of the items and with their tags.

No message has a task or a future of its own, so that files of millions of lines cost little more than the writer's
work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, Generic, TypeVar

from allocation.domain.errors import InvalidMessage
from allocation.service_layer.messages import (
    Message,
    Outcome,
    checked_message,
    cleaned_values,
    decode_object,
    decode_typed,
    from_typed,
)
from allocation.service_layer.writing.writer import Unavailable, Writer

GROUPS_UNDER_WAY = 4  # of messages read and not yet yielded: written, handled ahead, piled up, and being read
ROOM_POLL_S = 0.005
ROOM_TIMEOUT_S = 30.0

T = TypeVar("T")


def parse_line(line: bytes | str, actor: str, *, clean: bool = False) -> Message:
    """The message of a JSON line ``{"type": "BatchCreated", …}``; raises `InvalidMessage`.

    An ``id`` beside the type is the sender's own: the same line under the same id again gets its first answer.
    ``clean``: texts are trimmed and normalised, as in files, instead of refused.
    """
    mark: Any = '"id"' if isinstance(line, str) else b'"id"'
    if mark not in line and not clean:
        return checked_message(decode_typed(line), actor)
    values = decode_object(line)
    if clean:
        values = cleaned_values(values)
    if "id" not in values:
        return checked_message(from_typed(values), actor)
    key = values.pop("id")
    if not isinstance(key, str):
        raise InvalidMessage("id is not a text", "Send a text as id, a UUID for example, or leave it out.")
    return checked_message(from_typed(values), actor, key)


async def handle_stream(
    writer: Writer, batches: AsyncIterable[Iterable[tuple[T, Message | Exception]]], *, window: int | None = None
) -> AsyncGenerator[list[tuple[T, Outcome | Exception]]]:
    """Pass every message to the writer and yield each item's result: the outcome, the refusal, or the item's exception.

    Reading waits while ``window`` items, by default some groups of the writer, are under way or the writer has no room;
    only after `ROOM_TIMEOUT_S` without room is a message answered `Unavailable`. Errors of the source are raised here,
    after the results of all earlier items. Closing the generator stops reading; the writer still handles all accepted
    messages.
    """
    flight: _Flight[T] = _Flight(writer, window or GROUPS_UNDER_WAY * writer.max_group)
    feeding = asyncio.create_task(flight.feed(batches), name="stream")
    try:
        while True:
            flight.progress.clear()
            ready = flight.take()
            if ready:
                yield ready
            elif feeding.done() and not flight.entries:
                break
            else:
                await flight.progress.wait()
        await feeding
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


class _Flight(Generic[T]):
    """The items read and not yet yielded."""

    def __init__(self, writer: Writer, window: int) -> None:
        self.entries: deque[_Entry[T]] = deque()
        self.progress = asyncio.Event()  # an item was answered, or the source has ended
        self._space = asyncio.Event()
        self._writer = writer
        self._window = window

    async def feed(self, batches: AsyncIterable[Iterable[tuple[T, Message | Exception]]]) -> None:
        try:
            async for batch in batches:
                for tag, item in batch:
                    if len(self.entries) >= self._window:
                        await self._wait_for_space()
                    if not (self._writer.has_room or isinstance(item, Exception)):
                        await self._wait_for_room()
                    self._add(tag, item)
        finally:
            self.progress.set()

    def take(self) -> list[tuple[T, Outcome | Exception]]:
        """Remove and return the oldest items, as far as they are answered without a gap."""
        ready = []
        entries = self.entries
        while entries and (result := entries[0].result) is not None:
            ready.append((entries.popleft().tag, result))
        if ready:
            self._space.set()
        return ready

    def _add(self, tag: T, item: Message | Exception) -> None:
        entry = _Entry(tag, self.progress)
        self.entries.append(entry)
        if isinstance(item, Exception):
            entry.answer(item)
            return
        try:
            self._writer.submit(item, entry.answer)
        except Unavailable as unavailable:
            entry.answer(unavailable)

    async def _wait_for_space(self) -> None:
        while len(self.entries) >= self._window:
            self._space.clear()
            await self._space.wait()

    async def _wait_for_room(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ROOM_TIMEOUT_S
        while not self._writer.has_room and loop.time() < deadline:  # noqa: ASYNC110 - the writer announces no room
            await asyncio.sleep(ROOM_POLL_S)


class _Entry(Generic[T]):
    __slots__ = ("_progress", "result", "tag")

    def __init__(self, tag: T, progress: asyncio.Event) -> None:
        self.tag = tag
        self.result: Outcome | Exception | None = None  # None: not yet answered
        self._progress = progress

    def answer(self, result: Outcome | Exception) -> None:
        self.result = result
        self._progress.set()

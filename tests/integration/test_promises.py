"""The life of promises on real databases, through the writer: many lines at once, and holds by their id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import make_url

from allocation.adapters.database import is_sqlite
from allocation.adapters.long_reader import LongReader
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.errors import HoldConflict, UnknownHold
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    HoldConfirmed,
    HoldExpired,
    HoldReleased,
    LineReturned,
    LineShipped,
    MoveUpRequired,
    RulesChanged,
    StockHeld,
)
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.store import PAGE_SIZE, Store
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import audit_all
from tests.builders import Contents, contents, handle_together, message

LINES = 10_000
URGENT = 100  # of them
SKU = "SOFA"
DUE = date(2030, 1, 31)

Work = Callable[[Writer], Coroutine[Any, Any, Any]]


def store_at(url: str) -> Store:
    parsed = make_url(url)
    return SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)


async def work_at(url: str, work: Work, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Any:
    store = store_at(url)
    writer = Writer(store, clock=clock)
    writer.start()
    try:
        return await work(writer)
    finally:
        await writer.close()
        await store.close()


def kept_at(url: str) -> Contents:
    """What is there, once an audit has found nothing wrong with it."""
    _, found = asyncio.run(LongReader(make_url(url)).run(audit_all))
    assert found == []
    return asyncio.run(contents(make_url(url)))


def test_ten_thousand_lines_lose_their_warehouse_in_one_message_and_move_to_two_others_in_order(
    database_url: str,
) -> None:
    async def work(writer: Writer) -> Outcome | Exception:
        await handle_together(
            writer,
            message(BatchCreated("oslo", SKU, LINES, location="OSLO")),
            message(RulesChanged(SKU, "preferred-location", "OSLO")),
        )
        lines = [
            AllocationRequired(f"o{number:05}", SKU, 1, priority=9 if number >= LINES - URGENT else 0)
            for number in range(LINES)
        ]
        for start in range(0, LINES, 1_000):
            await handle_together(writer, *map(message, lines[start : start + 1_000]))
        await handle_together(
            writer,
            message(BatchCreated("lyon", SKU, LINES // 2, location="LYON")),
            message(BatchCreated("ship", SKU, LINES // 4, DUE, location="OSLO")),
        )
        [answer] = await handle_together(writer, message(BatchQuantityChanged("oslo", 0)))
        return answer

    answer = asyncio.run(work_at(database_url, work))
    assert isinstance(answer, Outcome)
    kept = kept_at(database_url)
    stands = {row[0]: row[3] for row in kept.lines}
    served = [f"o{number:05}" for number in (*range(LINES - URGENT, LINES), *range(LINES - URGENT))]
    expected = ["ship"] * (LINES // 4) + ["lyon"] * (LINES // 2) + [None] * (LINES // 4)
    assert stands == dict(zip(served, expected, strict=True))
    assert [row[:3] for row in kept.products] == [(SKU, kept.products[0][1], LINES // 4)]
    correlation_id = answer.message.id
    assert {row[0] for row in kept.ledger if row[3] == "Deallocated"} == {correlation_id}, "in one message"


def test_late_lines_move_up_by_priority_then_by_age_as_far_as_there_is_room(database_url: str) -> None:
    """All of them are late; what the batch in time has room for is a page and a half of storage."""
    needed, room = DUE - timedelta(days=7), PAGE_SIZE * 3 // 2

    async def work(writer: Writer) -> Sequence[Outcome | Exception]:
        await handle_together(
            writer, message(BatchCreated("slow", SKU, LINES, DUE)), message(RulesChanged(SKU, move_up=True))
        )
        lines = [
            AllocationRequired(f"o{number:05}", SKU, 1, needed, priority=9 if number >= LINES - URGENT else 0)
            for number in range(LINES)
        ]
        for start in range(0, LINES, 1_000):
            await handle_together(writer, *map(message, lines[start : start + 1_000]))
        return [
            *await handle_together(writer, message(BatchCreated("soon", SKU, room, DUE))),
            *await handle_together(writer, message(BatchEtaChanged("soon", needed))),
        ]

    created, moved = asyncio.run(work_at(database_url, work))
    assert isinstance(created, Outcome)
    assert isinstance(moved, Outcome)
    assert [type(event) for event in created.raised] == [MoveUpRequired], "it came too late for all of them"
    gone = [event.orderid for event in moved.raised if isinstance(event, Deallocated)]
    served = [f"o{number:05}" for number in (*range(LINES - URGENT, LINES), *range(room - URGENT))]
    assert gone == served
    assert {row[0] for row in kept_at(database_url).lines if row[3] == "soon"} == set(served)


def test_a_hold_is_found_by_its_id_alone(database_url: str) -> None:
    now = datetime(2030, 1, 1, 12, tzinfo=UTC)
    until = now + timedelta(hours=1)

    async def hold(writer: Writer) -> list[Outcome | Exception]:
        return await handle_together(
            writer,
            *(message(BatchCreated(f"b{sku}", sku, 9)) for sku in ("SOFA", "LAMP")),
            *(message(StockHeld(f"cart-{n}", "SOFA", 1, until)) for n in range(4)),
            message(StockHeld("cart-0", "LAMP", 1, until)),
            message(HoldConfirmed("cart-0", "order-0")),
        )

    async def end(writer: Writer) -> list[Outcome | Exception]:
        return [
            *await handle_together(writer, message(HoldConfirmed("cart-1", "order-1"))),
            *await handle_together(
                writer, message(HoldReleased("cart-2")), message(HoldReleased("order-1")), message(HoldReleased("x"))
            ),
            *await handle_together(writer, message(StockHeld("cart-2", "LAMP", 1, until))),
        ]

    async def expire(writer: Writer) -> list[Outcome | Exception]:
        return await handle_together(writer, message(HoldExpired("cart-3")))

    answers = asyncio.run(work_at(database_url, hold, lambda: now))
    assert [type(answer) for answer in answers[6:]] == [HoldConflict, Outcome]
    confirmed, released, *refused = asyncio.run(work_at(database_url, end, lambda: now))
    assert (confirmed.result, released.result) == ("bSOFA", "cart-2")
    assert [type(answer) for answer in refused] == [UnknownHold, UnknownHold, HoldConflict]
    [expired] = asyncio.run(work_at(database_url, expire, lambda: until))
    assert expired.result == "cart-3"
    lines = {row[0]: (row[3], row[7]) for row in kept_at(database_url).lines}
    assert lines == {
        "cart-0": (None, "confirmed"),
        "cart-1": (None, "confirmed"),
        "cart-2": (None, "released"),
        "cart-3": (None, "expired"),
        "order-0": ("bSOFA", None),
        "order-1": ("bSOFA", None),
    }


def test_of_two_writers_that_hold_under_one_id_one_is_refused(database_url: str) -> None:
    """Each for another product, so that no lock of a product keeps them apart."""
    now = datetime(2030, 1, 1, 12, tzinfo=UTC)
    until = now + timedelta(hours=1)
    rounds = 20

    async def scenario() -> list[tuple[Outcome | Exception, ...]]:
        stores = [store_at(database_url) for _ in range(2)]
        writers = [Writer(store, clock=lambda: now) for store in stores]
        for writer in writers:
            writer.start()
        await handle_together(writers[0], *(message(BatchCreated(f"b-{sku}", sku, 99)) for sku in ("SOFA", "LAMP")))
        answers = []
        for number in range(rounds):
            holds = (message(StockHeld(f"cart-{number}", sku, 1, until)) for sku in ("SOFA", "LAMP"))
            both = [handle_together(writer, hold) for writer, hold in zip(writers, holds, strict=True)]
            answers.append(tuple(answer for [answer] in await asyncio.gather(*both)))
        for writer, store in zip(writers, stores, strict=True):
            await writer.close()
            await store.close()
        return answers

    for pair in asyncio.run(scenario()):
        assert sorted(type(answer).__name__ for answer in pair) == ["HoldConflict", "Outcome"]
    assert len(kept_at(database_url).lines) == rounds


def test_what_was_shipped_and_returned_is_there_the_next_day(database_url: str) -> None:
    events = [
        BatchCreated("b1", SKU, 9, DUE),
        AllocationRequired("o1", SKU, 4),
        AllocationRequired("o2", SKU, 5),
        AllocationRequired("o3", SKU, 3),
        BatchReceived("b1"),
        LineShipped("o1", SKU),
        LineShipped("o2", SKU),
        LineReturned("o1", SKU, 3),
        LineReturned("o2", SKU, 1, scrapped=True),
    ]
    for event in events:  # each by a writer of its own, which knows nothing but what is stored
        asyncio.run(work_at(database_url, lambda writer, event=event: handle_together(writer, message(event))))  # type: ignore[misc]
    kept = kept_at(database_url)
    assert [row[:5] + row[8:9] for row in kept.batches] == [("b1", SKU, None, 8, 8, 5)]
    assert [(row[0], row[2], row[3], row[7]) for row in kept.lines] == [
        ("o1", 1, "b1", "shipped"),
        ("o2", 4, "b1", "shipped"),
        ("o3", 3, "b1", None),
    ]

"""The costs of messages about stock: rows and round trips, counted and not timed.

A receipt reads the lines on its batch; nothing grows with other batches, with other lines, or with the ledger.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from allocation.adapters.postgresql import PostgresSession
from allocation.adapters.sqlite import SqliteSession
from allocation.domain.events import (
    AllocationRequired,
    BatchCounted,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    DeliveryEtaChanged,
    DeliveryReceived,
    Event,
    LineShipped,
    ReceiptUndone,
    StockAdjusted,
)
from allocation.service_layer.writing.store import PAGE_SIZE
from allocation.service_layer.writing.writer import Writer
from tests.builders import handle_together, message
from tests.integration.test_promises import work_at

SKU = "SOFA"
LINES = 1_200
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DUE = NOW.date() + timedelta(days=3)
READS = (
    "load",
    "batch",
    "line",
    "newest_lines",
    "waiting_lines",
    "late_lines",
    "delivered",
    "stock_told",
    "told_before",
)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The calls of storage and, of those that return rows, the number of these, by method."""
    counts = Counter[str]()

    def counted(session: type, name: str) -> Callable[..., Any]:
        original = getattr(session, name)

        def method(*arguments: Any, **named: Any) -> Any:
            found = original(*arguments, **named)
            counts[f"{name} calls"] += 1
            if isinstance(found, Sequence):
                counts[name] += len(found)
            return found

        return method

    for session in (SqliteSession, PostgresSession):
        for name in READS:
            monkeypatch.setattr(session, name, counted(session, name))
    return counts


def read_by(url: str, read: Counter[str], before: Sequence[Event], event: Event) -> Counter[str]:
    """The calls and rows for this event, by a service that was started anew."""

    async def prepare(writer: Writer) -> None:
        for start in range(0, len(before), 500):
            for answer in await handle_together(writer, *map(message, before[start : start + 500])):
                assert not isinstance(answer, Exception), answer

    async def work(writer: Writer) -> None:
        read.clear()
        [answer] = await handle_together(writer, message(event))
        assert not isinstance(answer, Exception), answer

    asyncio.run(work_at(url, prepare, lambda: NOW - timedelta(hours=2)))
    asyncio.run(work_at(url, work, lambda: NOW))
    return Counter(read)


def orders(sku: str = SKU, number: int = LINES) -> Iterator[Event]:
    return (AllocationRequired(f"o{each}", sku, 1) for each in range(number))


def stock(first: str = "b1") -> list[Event]:
    """A batch with many lines, beside others with many lines, and many that wait."""
    others = [AllocationRequired(f"x{each}", SKU, 1) for each in range(LINES)]
    waiting = [AllocationRequired(f"w{each}", SKU, 900) for each in range(LINES)]
    return [
        *(BatchCreated(first, SKU, LINES, DUE), *orders()),
        *(BatchCreated("other", SKU, LINES, DUE), *others, *waiting),
    ]


@pytest.mark.parametrize(
    ("event", "times"),
    [
        (BatchReceived("b1"), 1),
        (BatchReceived("b1", 5), 2),
        (BatchEtaChanged("b1", DUE + timedelta(days=4)), 1),
        (BatchReceived("b1", 5, rest_eta=DUE + timedelta(days=4)), 2),
    ],
)
def test_a_receipt_reads_the_lines_on_its_batch_and_no_others(
    database_url: str, read: Counter[str], event: Event, times: int
) -> None:
    """Once to tell them their day, and once before to serve them, if some of the batch arrived."""
    found = read_by(database_url, read, stock(), event)
    assert found["newest_lines"] == times * LINES
    assert (found["waiting_lines"], found["late_lines"]) == (0, 0)


@pytest.mark.parametrize(
    "event", [BatchCounted("b1", LINES - 3), StockAdjusted("b1", -3, "lost"), BatchQuantityChanged("b1", LINES - 3)]
)
@pytest.mark.parametrize("arrived", [None, LINES - 5])
def test_a_count_reads_the_newest_lines_as_far_as_they_lose_their_stock(
    database_url: str, read: Counter[str], event: Event, arrived: int | None
) -> None:
    before = [*stock(), BatchReceived("b1", arrived)]
    if arrived is not None and not isinstance(event, BatchQuantityChanged):
        event = BatchCounted("b1", arrived - 3) if isinstance(event, BatchCounted) else event
    found = read_by(database_url, read, before, event)
    assert found["newest_lines"] <= 2 * PAGE_SIZE
    assert (found["stock_told calls"], found["told_before calls"]) == (0, 0), "a count of now needs no ledger"


def test_an_undone_receipt_reads_the_lines_on_its_batch(database_url: str, read: Counter[str]) -> None:
    found = read_by(database_url, read, [*stock(), BatchReceived("b1")], ReceiptUndone("b1"))
    assert found["newest_lines"] == LINES


def test_a_count_as_of_a_time_reads_the_facts_about_stock_and_the_ledger_since(
    database_url: str, read: Counter[str]
) -> None:
    """The lines that were ordered before are not read, however many there are."""
    shipped = [LineShipped(f"o{number}", SKU) for number in range(9)]
    before = [BatchCreated("b1", SKU, LINES), *orders(), *shipped, StockAdjusted("b1", 1, "found")]
    count = BatchCounted("b1", LINES, counted_at=NOW - timedelta(hours=1))
    found = read_by(database_url, read, before, count)
    assert found["stock_told"] == 2
    assert (found["told_before calls"], found["told_before"]) == (1, PAGE_SIZE), "one page, all of it from before"


@pytest.mark.parametrize("event", [DeliveryEtaChanged("po-1", DUE + timedelta(days=4)), DeliveryReceived("po-1")])
def test_a_delivery_of_many_products_is_loaded_at_once(database_url: str, read: Counter[str], event: Event) -> None:
    products = 40
    before: list[Event] = []
    for number in range(products):
        sku = f"SKU-{number}"
        before += [BatchCreated(f"full-{number}", sku, 3, DUE, delivery="po-1"), *orders(sku, 3)]
        before += [BatchCreated(f"free-{number}", sku, 3, DUE, delivery="po-1")]
    found = read_by(database_url, read, before, event)
    assert found["delivered calls"] == 1
    assert found["load calls"] <= 3
    assert found["batch calls"] == 0
    assert found["newest_lines"] == 3 * products


def test_a_batch_that_is_added_reads_nothing_for_its_delivery(database_url: str, read: Counter[str]) -> None:
    before = [BatchCreated(f"b{number}", SKU, 1, DUE, delivery="po-1") for number in range(300)]
    found = read_by(database_url, read, before, BatchCreated("new", SKU, 1, date(2030, 2, 1), delivery="po-1"))
    assert (found["delivered calls"], found["batch calls"]) == (0, 0)

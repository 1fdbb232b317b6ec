"""The costs of products with many lines or batches: rows read and calls made, counted and not timed.

The numbers must not grow with the lines that a message is not about.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from types import FrameType
from typing import Any

import pytest

from allocation.adapters.postgresql import PostgresSession
from allocation.adapters.sqlite import SqliteSession
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchReceived,
    Event,
    LineShipped,
    RulesChanged,
)
from allocation.domain.lines import OrderLine
from allocation.domain.model import Batch, Product
from allocation.domain.rules import Rules
from allocation.service_layer.writing.store import PAGE_SIZE
from allocation.service_layer.writing.writer import Writer
from tests.builders import handle_together, message, on
from tests.integration.test_promises import work_at

SKU = "SOFA"
LINES = 2_000
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
PAGES = ("newest_lines", "waiting_lines", "late_lines")


def day(number: int) -> date:
    return NOW.date() + timedelta(days=number)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The number of lines read from storage in pages, by method."""
    rows = Counter[str]()

    def counted(session: type, name: str) -> Callable[..., Sequence[Any]]:
        original = getattr(session, name)

        def method(*arguments: Any, **named: Any) -> Sequence[Any]:
            found: Sequence[Any] = original(*arguments, **named)
            rows[name] += len(found)
            return found

        return method

    for session in (SqliteSession, PostgresSession):
        for name in PAGES:
            monkeypatch.setattr(session, name, counted(session, name))
    return rows


def read_by(url: str, read: Counter[str], before: Sequence[Event], *events: Event) -> dict[str, int]:
    """The lines read for these events, once those ``before`` were handled."""

    async def work(writer: Writer) -> None:
        for start in range(0, len(before), 500):
            for answer in await handle_together(writer, *map(message, before[start : start + 500])):
                assert not isinstance(answer, Exception), answer
        read.clear()
        for each in events:
            [answer] = await handle_together(writer, message(each))
            assert not isinstance(answer, Exception), answer

    asyncio.run(work_at(url, work, lambda: NOW))
    return dict(+read)


def orders(qty: int, need_by: date | None = None, **more: Any) -> list[Event]:
    return [AllocationRequired(f"o{number}", SKU, qty, need_by, **more) for number in range(LINES)]


def test_waiting_lines_that_stock_expires_too_early_for_are_not_read(database_url: str, read: Counter[str]) -> None:
    before = [BatchCreated("b0", SKU, 1), *orders(2, day(30))]
    events = [BatchCreated(f"b{number}", SKU, 9, None, day(10 + number)) for number in range(1, 4)]
    assert read_by(database_url, read, before, *events) == {}


def test_of_two_batches_that_do_not_suit_either_no_waiting_line_is_read(database_url: str, read: Counter[str]) -> None:
    """One is too small, and the other expires too early."""
    before = [BatchCreated("b0", SKU, 1), *orders(3, day(30))]
    events = [BatchCreated("small", SKU, 2), BatchCreated("stale", SKU, 9, None, day(10))]
    assert read_by(database_url, read, before, *events) == {}


def test_only_the_waiting_lines_are_read_that_can_be_served(database_url: str, read: Counter[str]) -> None:
    needed_soon = AllocationRequired("soon", SKU, 2, day(5), priority=3)
    before = [BatchCreated("b0", SKU, 1), *orders(2, day(30)), needed_soon]
    assert read_by(database_url, read, before, BatchCreated("b1", SKU, 9, None, day(10))) == {"waiting_lines": 1}


def test_late_lines_that_no_stock_is_in_time_for_are_not_read(database_url: str, read: Counter[str]) -> None:
    before = [BatchCreated("slow", SKU, 2 * LINES, day(40)), RulesChanged(SKU, move_up=True), *orders(2, day(5))]
    events = [
        BatchCreated("later", SKU, 9, day(10)),
        BatchCreated("small", SKU, 1, day(1)),
        BatchEtaChanged("later", day(8)),
    ]
    assert read_by(database_url, read, before, *events) == {}


def test_of_a_batch_in_parts_no_line_is_read_for_another_one(database_url: str, read: Counter[str]) -> None:
    before = [
        *(BatchCreated("b1", SKU, LINES + 99, day(3)), *orders(1)),
        *(BatchReceived("b1", LINES // 2), AllocationRequired("waits", SKU, LINES)),
    ]
    events = [
        LineShipped("o0", SKU),
        AllocationCancelled("o1", SKU),
        AllocationCancelled(f"o{LINES - 1}", SKU),
        AllocationRequired("new", SKU, 1),
        BatchCreated("b2", SKU, 1),
    ]
    assert read_by(database_url, read, before, *events) == {}


def calls(work: Callable[[], object]) -> int:
    made = 0

    def count(_: FrameType, what: str, __: object) -> None:
        nonlocal made
        made += what in {"call", "c_call"}

    sys.setprofile(count)
    work()
    sys.setprofile(None)
    return made


def test_a_safety_stock_over_many_batches_is_summed_up_once_for_an_order() -> None:
    def calls_with(number: int) -> int:
        batches = [Batch(f"b{each}", SKU, 2, position=each + 1) for each in range(number)]
        product = Product(SKU, batches, number, rules=Rules(safety_stock=2 * number), today=on(NOW.date()))
        return calls(lambda: product.allocate(OrderLine("large", SKU, 2)))

    few, many = calls_with(100), calls_with(1_000)
    assert many <= 11 * few


def test_of_lines_that_have_aged_a_page_is_read_to_keep_stock_for_the_oldest(
    database_url: str, read: Counter[str]
) -> None:
    before = [
        BatchCreated("b0", SKU, 4),
        RulesChanged(SKU, ages_after=1),
        AllocationRequired("first", SKU, 2),
        *orders(4),
    ]
    found = read_by(database_url, read, before, AllocationRequired("new", SKU, 1))
    assert found == {"waiting_lines": PAGE_SIZE}


def test_lines_that_stock_is_kept_from_are_not_read(database_url: str, read: Counter[str]) -> None:
    """The first page is read to find the line that the stock is kept for, and the next one to serve those before it."""
    before = [
        *(BatchCreated("b0", SKU, 12), RulesChanged(SKU, ages_after=1), AllocationRequired("standing", SKU, 8)),
        *(AllocationRequired("large", SKU, 9), AllocationRequired("before it ages", SKU, 2), *orders(2)),
    ]
    assert read_by(database_url, read, before, BatchCreated("b1", SKU, 1)) == {"waiting_lines": 2 * PAGE_SIZE}

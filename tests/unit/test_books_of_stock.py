"""The audit finds whatever is wrong with a batch in parts, and with its lines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from allocation.adapters.memory import MemoryTables
from allocation.domain.events import (
    AllocationRequired,
    BatchCorrected,
    BatchCounted,
    BatchCreated,
    BatchReceived,
    LineReturned,
    LineShipped,
    ProductRetired,
)
from tests.bookkeeping import audited
from tests.unit.test_books import MOMENT, SKU, history

DUE, LATER = date(2026, 3, 1), date(2026, 3, 9)
HISTORY = (
    BatchCreated("b1", SKU, 20, DUE, delivery="PO-1"),
    *(AllocationRequired(f"o{number}", SKU, 4) for number in range(1, 5)),
    BatchReceived("b1", 9, rest_eta=LATER),  # for o1 and o2
    LineShipped("o1", SKU),
    LineReturned("o1", SKU, 2, disposition="inspect"),
    BatchCounted("b1", 6),
    BatchCreated("b2", SKU, 5, DUE),
    BatchReceived("b2"),
    BatchCorrected("b1", location="OSLO"),
    ProductRetired(SKU),
)
CREATED_AS = f'["{SKU}",20,"2026-03-01",null,null,"PO-1"]'


def batch(ref: str, **values: Any) -> Callable[[MemoryTables], None]:
    def change(tables: MemoryTables) -> None:
        tables.batches[ref] = tables.batches[ref]._replace(**values)

    return change


def line(orderid: str, **values: Any) -> Callable[[MemoryTables], None]:
    def change(tables: MemoryTables) -> None:
        tables.lines[orderid, SKU] = tables.lines[orderid, SKU]._replace(**values)

    return change


def reinstated(tables: MemoryTables) -> None:
    tables.products[SKU] = tables.products[SKU]._replace(retired=None)


def test_the_books_of_a_batch_in_parts_are_right() -> None:
    tables = history(*HISTORY)
    row = tables.batches["b1"]
    assert (row.arrived_quantity, row.arrived_allocated, row.inspect_quantity, row.eta) == (6, 6, 2, LATER)
    assert audited(tables).differences == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (batch("b1", arrived_allocated=5), ("arrived-allocated", "b1", 5, 6)),
        (batch("b1", arrived_quantity=8), ("batch-differs", "b1", "in parts, 8 arrived", "in parts, 6 arrived")),
        (
            batch("b1", arrived_quantity=None, arrived_allocated=None),
            ("batch-differs", "b1", "whole", "in parts, 6 arrived"),
        ),
        (batch("b1", inspect_quantity=0), ("batch-differs", "b1", "0 in inspection", "2 in inspection")),
        (batch("b1", delivery=None), ("batch-differs", "b1", "comes with no delivery", "comes with PO-1")),
        (batch("b1", eta=DUE), ("batch-differs", "b1", f"due {DUE}", f"due {LATER}")),
        (batch("b1", created_as=None), ("batch-differs", "b1", "created as it is", f"created as {CREATED_AS}")),
        (batch("b2", last_eta=LATER), ("batch-differs", "b2", f"was due {LATER}", f"was due {DUE}")),
        (
            batch("b2", counted_at=MOMENT),
            ("batch-differs", "b2", "counted at 2026-01-31T12:00:00Z", "never counted"),
        ),
        (reinstated, ("retired", SKU, "sold", "retired")),
    ],
)
def test_whatever_is_wrong_with_it_is_found(
    damage: Callable[[MemoryTables], None], expected: tuple[object, ...]
) -> None:
    tables = history(*HISTORY)
    damage(tables)
    [found] = audited(tables).differences
    assert (found.kind, found.name, found.stored, found.expected) == expected


def test_another_time_of_the_last_count_is_found() -> None:
    tables = history(*HISTORY)
    batch("b1", counted_at=MOMENT - timedelta(days=1))(tables)
    [found] = audited(tables).differences
    assert (found.kind, found.stored) == ("batch-differs", "counted at 2026-01-30T12:00:00Z")


def test_a_line_that_says_it_has_stock_that_arrived_is_found() -> None:
    """The counter of what arrived does not know of it."""
    tables = history(*HISTORY)
    line("o4", arrived=True)(tables)
    found = [(each.kind, each.name, each.stored, each.expected) for each in audited(tables).differences]
    assert found == [
        ("line-differs", "o4", "has stock that arrived", "has stock that is due, or whole"),
        ("arrived-allocated", "b1", 6, 10),
    ]


def test_a_line_that_does_not_say_so_is_found() -> None:
    tables = history(*HISTORY)
    line("o2", arrived=None)(tables)
    found = [(each.kind, each.name, each.stored, each.expected) for each in audited(tables).differences]
    assert found == [
        ("line-differs", "o2", "has stock that is due, or whole", "has stock that arrived"),
        ("arrived-allocated", "b1", 6, 2),
    ]

"""Rows for the contract of stores, and changes that no store may write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from allocation.domain.lines import HELD_PRIORITY, Fit
from allocation.service_layer.writing.store import (
    BatchRow,
    DeliveryRow,
    LineRow,
    MessageRow,
    ProductRow,
    ProductVersion,
)

Parts = Mapping[str, Any]  # of `Changes`

MOMENT: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
SKU: Final = "ADORABLE-SETTEE"


def product(sku: str = SKU, version: int = 1, waiting: int = 0) -> ProductRow:
    return ProductRow(sku, version, waiting)


def changed(sku: str = SKU, version: int = 2, waiting: int = 0, loaded: int = 1) -> ProductVersion:
    return ProductVersion(sku, version, waiting, loaded)


def batch(ref: str = "b1", sku: str = SKU, purchased: int = 10, allocated: int = 0, position: int = 1) -> BatchRow:
    return BatchRow(ref, sku, None, purchased, allocated, position, purchased, None)


def in_parts(arrived: int, allocated: int) -> BatchRow:
    due = MOMENT.date() + timedelta(days=9)
    return batch(allocated=8)._replace(eta=due, arrived_quantity=arrived, arrived_allocated=allocated)


def line(orderid: str, batchref: str | None = "b1", qty: int = 1, position: int = 2, sku: str = SKU) -> LineRow:
    return LineRow(orderid, sku, qty, batchref, position)


def up_to(qty: int) -> Fit:
    """Lines of no more than that, whenever they are needed."""
    return Fit(qty, date.max)


def held(holdid: str, sku: str = SKU) -> LineRow:
    return LineRow(holdid, sku, 1, "b1", 2, HELD_PRIORITY, None, MOMENT + timedelta(hours=1))


def ledger(id_: str, step: int = 0, sku: str = SKU) -> MessageRow:
    result = None if step else '"b1"'
    cause = step - 1 if step else None
    return MessageRow(id_, step, cause, "OutOfStock", sku, None, f'{{"sku":"{sku}"}}', None, result, "test")


def delivery(id_: str, step: int = 0, sku: str = SKU) -> DeliveryRow:
    return DeliveryRow(id_, step, "send_out_of_stock_notification", sku, "OutOfStock", f'{{"sku":"{sku}"}}')


REFS: Final = frozenset({"b1", "b2", "b7"})
LINES: Final = frozenset({("o1", SKU), ("o2", SKU), ("o7", SKU)})
NOT_UNIQUE: Final[Mapping[str, Parts]] = {
    "product": {"new_products": [product()]},
    "batch": {"new_batches": [batch("b1")]},
    "batch of another product": {"new_products": [product("LAMP")], "new_batches": [batch("b1", "LAMP")]},
    "line": {"new_lines": [line("o1", None, qty=5, position=9)]},
    "hold of another product": {"new_lines": [held("h0", "LAMP")]},
    "hold twice": {"new_lines": [held("h7"), held("h7", "LAMP")]},
    "message": {"messages": [ledger("innocent"), ledger("m1")]},
    "product twice": {"new_products": [product("LAMP"), product("LAMP")]},
    "batch twice": {"new_batches": [batch("b7"), batch("b7", "LAMP")]},
    "line twice": {"new_lines": [line("o7"), line("o7")]},
    "message twice": {"messages": [ledger("m2"), ledger("m2")]},
    "delivery twice": {"deliveries": [delivery("m2"), delivery("m2")]},
}
IMPOSSIBLE: Final[Mapping[str, Parts]] = {
    "oversold when new": {"new_batches": [batch("b2", purchased=10, allocated=11)]},
    "negative when new": {"new_batches": [batch("b2", allocated=-1)]},
    "oversold": {"batches": [batch("b1", purchased=10, allocated=11)]},
    "negative": {"batches": [batch("b1", purchased=-1, allocated=-1)]},
    "cut below the allocated quantity": {"batches": [batch("b1", purchased=3, allocated=4)]},
    "more shipped than allocated": {"rewritten_batches": [batch("b1", allocated=1)._replace(shipped_quantity=2)]},
    "less than nothing shipped": {"new_batches": [batch("b2")._replace(shipped_quantity=-1)]},
    "more arrived than purchased": {"rewritten_batches": [in_parts(11, 0)]},
    "less than nothing arrived": {"new_batches": [in_parts(-1, -1)._replace(ref="b2")]},
    "more allocated of the arrived part than it has": {"rewritten_batches": [in_parts(3, 4)]},
    "more shipped than allocated of the arrived part": {
        "rewritten_batches": [in_parts(3, 1)._replace(shipped_quantity=2)]
    },
    "less than nothing in inspection": {"new_batches": [batch("b2")._replace(inspect_quantity=-1)]},
    "less than nobody waits": {"products": [changed(version=2, waiting=-1)]},
    "a line of nothing": {"new_lines": [line("o2", qty=0)]},
}

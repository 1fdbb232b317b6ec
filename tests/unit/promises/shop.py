"""A shop on plain objects to tell stories with: what was sent, where lines stand, what is told.

After each message everything that always has to be true is checked (`tests.plain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    Event,
    PromiseChanged,
    RulesChanged,
    StockHeld,
)
from allocation.domain.lines import Promise
from allocation.domain.model import Batch, Product
from tests.lives import BEGIN
from tests.plain import PlainShop

SKU = "LAMP"
TODAY = BEGIN.date()


def day(number: int) -> date:
    """So many days from today."""
    return TODAY + timedelta(days=number)


def at(hours: float) -> datetime:
    """So many hours from now."""
    return BEGIN + timedelta(hours=hours)


def bought(ref: str, qty: int, due: int | None = None, **more: Any) -> BatchCreated:
    return BatchCreated(ref, SKU, qty, None if due is None else day(due), **more)


def ordered(
    orderid: str, qty: int, by: int | None = None, priority: int = 0, *, split: bool = False
) -> AllocationRequired:
    return AllocationRequired(orderid, SKU, qty, None if by is None else day(by), priority, split)


def held(holdid: str, qty: int, hours: float = 1) -> StockHeld:
    return StockHeld(holdid, SKU, qty, at(hours))


def ruled(**rules: Any) -> RulesChanged:
    return RulesChanged(SKU, **rules)


class Shop:
    """One product, `SKU`, to which all of this has happened."""

    def __init__(self, *events: Event) -> None:
        self._plain = PlainShop()
        self.result: Any = None  # of the last message
        self.now = BEGIN
        for event in events:
            self.send(event)

    def send(self, event: Event) -> Sequence[Event]:
        """What it set off; raises its refusal."""
        self.result, raised = self._plain.send(event, self.now)
        return list(raised)

    @property
    def product(self) -> Product:
        return next(product for product in self._plain.products() if product.sku == SKU)

    def batch(self, ref: str) -> Batch:
        return next(batch for batch in self.product.batches if batch.reference == ref)

    def line(self, orderid: str) -> Promise:
        return self.product.changed_promises[orderid]

    @property
    def stands(self) -> dict[str, str | None]:
        """Where each line stands, or how it ended."""
        return {orderid: closed or batchref for orderid, (_, batchref, closed) in self.product.changed_promises.items()}

    @property
    def parts(self) -> dict[str, tuple[int, str | None]]:
        """The quantity of each open line, and where it stands."""
        return {
            orderid: (line.qty, batchref)
            for orderid, (line, batchref, closed) in self.product.changed_promises.items()
            if closed is None
        }

    @property
    def available(self) -> dict[str, int]:
        return {batch.reference: batch.available_quantity for batch in self.product.batches}


def told(raised: Sequence[Event]) -> list[tuple[str, date | None, date | None, int]]:
    """Whose day changed, from which to which, and by how many days it is late."""
    return [
        (each.orderid, each.before, each.after, each.late_days) for each in raised if isinstance(each, PromiseChanged)
    ]


def kinds(raised: Sequence[Event]) -> list[str]:
    return [type(each).__name__ for each in raised]

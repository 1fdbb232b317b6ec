"""All that plain products are at a moment, as plain values to compare."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

from allocation.domain.fields import MAX_PRIORITY
from allocation.domain.lines import NO_DAY, OrderLine, Promise
from allocation.domain.model import Batch
from allocation.domain.rules import Rules
from allocation.service_layer.writing.store import BatchRow

ALLOWANCE = timedelta(days=1)


class PlainProduct(NamedTuple):
    """What there is of a product besides its batches and lines."""

    version_number: int
    waiting_lines: int
    rules: Rules
    retired: bool


class Snapshot(NamedTuple):
    """All rows of all products: by SKU, by batch reference, by SKU and order id."""

    products: dict[str, PlainProduct]
    batches: dict[str, BatchRow]
    lines: dict[tuple[str, str], Promise]
    days: dict[str, date]  # from which a batch's stock is there; of one in parts, the rest
    today: date

    def day_of(self, line: OrderLine, ref: str) -> date:
        """From which the stock of a line on that batch is there."""
        return self.today if line.arrived else self.days[ref]

    def lasts(self, line: OrderLine, ref: str) -> bool:
        """Whether a batch can be used long enough when the line gets it; if it is pinned, at least on that day."""
        batch, day = self.batches[ref], self.day_of(line, ref)
        if batch.expires_on is None:
            return True
        if line.priority > MAX_PRIORITY:
            return day <= batch.expires_on
        used_from = max(day, line.need_by or date.min)
        return (batch.expires_on - used_from).days >= self.products[batch.sku].rules.shelf_life_days

    def open_on(self, ref: str) -> list[OrderLine]:
        """The open lines on a batch."""
        sku = self.batches[ref].sku
        return [
            line
            for (of, _), (line, standing, closed) in self.lines.items()
            if (of, standing, closed) == (sku, ref, None)
        ]


def day_of(batch: Batch, today: date) -> date:
    """The day its stock is there: nobody knows when a delivery comes whose day is past, but not before tomorrow."""
    if batch.eta is None:
        return today
    return today + ALLOWANCE if batch.eta < today else batch.eta


def known_day(day: date) -> date | None:
    """None for a day that nobody knows: no promise is made for it."""
    return None if day == NO_DAY else day

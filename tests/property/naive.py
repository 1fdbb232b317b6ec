"""The rules, as plainly as they can be said: lists, looked through from the start each time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

Fact = tuple[str, str, str | None]  # what happened, to which order, on which batch


class Declined(Exception):
    """Answered no; nothing changed."""


@dataclass
class NaiveBatch:
    ref: str
    sku: str
    created_with: tuple[str, int, date | None]
    purchased: int
    eta: date | None


@dataclass
class NaiveLine:
    orderid: str
    sku: str
    qty: int
    batch: NaiveBatch | None = None


class NaiveShop:
    def __init__(self) -> None:
        self.batches: list[NaiveBatch] = []  # in the order created
        self.lines: list[NaiveLine] = []  # in the order taken
        self.answers: dict[str, tuple[Any, Any, list[Fact]]] = {}  # by message id

    def room(self, batch: NaiveBatch) -> int:
        return batch.purchased - sum(line.qty for line in self.lines if line.batch is batch)

    def waiting(self, sku: str) -> list[NaiveLine]:
        return [line for line in self.lines if line.sku == sku and line.batch is None]

    def batch_created(self, ref: str, sku: str, qty: int, eta: date | None) -> tuple[str, list[Fact]]:
        for known in self.batches:
            if known.ref == ref:
                if known.created_with != (sku, qty, eta):
                    raise Declined("BatchConflict")
                return ref, []
        self.batches.append(NaiveBatch(ref, sku, (sku, qty, eta), qty, eta))
        return ref, self._serve(self.waiting(sku))

    def allocation_required(self, orderid: str, sku: str, qty: int) -> tuple[str | None, list[Fact]]:
        if all(batch.sku != sku for batch in self.batches):
            raise Declined("InvalidSku")
        for known in self.lines:
            if (known.orderid, known.sku) == (orderid, sku):
                if known.qty != qty:
                    raise Declined("LineConflict")
                return (known.batch.ref if known.batch else None), []
        line = NaiveLine(orderid, sku, qty)
        self.lines.append(line)
        facts = self._serve([line]) or [("Backordered", orderid, None)]
        return (line.batch.ref if line.batch else None), facts

    def batch_quantity_changed(self, ref: str, qty: int) -> tuple[str, list[Fact]]:
        batch = next((batch for batch in self.batches if batch.ref == ref), None)
        if batch is None:
            raise Declined("UnknownBatch")
        if batch.purchased == qty:
            return ref, []
        batch.purchased = qty
        freed = []
        for line in reversed([line for line in self.lines if line.batch is batch]):
            if self.room(batch) < 0:
                line.batch = None
                freed.append(line)
        facts: list[Fact] = [("Deallocated", line.orderid, ref) for line in freed]
        for line in self.waiting(batch.sku):
            served = self._serve([line])
            facts += served or ([("Backordered", line.orderid, None)] if line in freed else [])
        return ref, facts

    def _serve(self, lines: list[NaiveLine]) -> list[Fact]:
        """Each line in turn gets the first batch with room: warehouse first, then by ETA, then by age."""
        facts: list[Fact] = []
        for line in lines:
            preferred = sorted((b for b in self.batches if b.sku == line.sku), key=lambda b: b.eta or date.min)
            line.batch = next((batch for batch in preferred if self.room(batch) >= line.qty), None)
            if line.batch is not None:
                facts.append(("Allocated", line.orderid, line.batch.ref))
        return facts

"""The rules, as plainly as they can be said: lists, looked through from the start each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from allocation.domain import events
from allocation.domain.events import Event

Fact = tuple[str, str, str | None]  # what happened, to which order, on which batch
Answer = tuple[Any, list[Fact]]


class Declined(Exception):
    """Answered no; nothing changed."""


@dataclass
class NaiveBatch:
    """With ``arrived``, so much of it is in the warehouse, and the rest is due."""

    ref: str
    sku: str
    created_with: tuple[str, int, date | None, str | None]
    purchased: int
    eta: date | None
    delivery: str | None = None
    arrived: int | None = None
    last_eta: date | None = None

    @property
    def came(self) -> int:
        return self.purchased if self.eta is None else self.arrived or 0


@dataclass
class NaiveLine:
    """``of_arrived``: its stock is in the warehouse, and the rest of its batch is due."""

    orderid: str
    sku: str
    qty: int
    batch: NaiveBatch | None = None
    of_arrived: bool = False


class Place(NamedTuple):
    """Where a line can have stock: a batch, or what has arrived of one in parts."""

    day: date
    batch: NaiveBatch
    of_arrived: bool


class NaiveShop:
    def __init__(self) -> None:
        self.batches: list[NaiveBatch] = []  # in the order created
        self.lines: list[NaiveLine] = []  # in the order taken
        self.answers: dict[str, tuple[Any, Any, list[Fact]]] = {}  # by message id

    def answer(self, event: Event) -> Answer:
        """The result and the facts; raises `Declined`."""
        return ANSWERS[type(event)](self, event)

    def room(self, batch: NaiveBatch) -> int:
        return batch.purchased - sum(line.qty for line in self.on(batch))

    def on(self, batch: NaiveBatch) -> list[NaiveLine]:
        return [line for line in self.lines if line.batch is batch]

    def waiting(self, sku: str) -> list[NaiveLine]:
        return [line for line in self.lines if line.sku == sku and line.batch is None]

    # What is bought and ordered

    def batch_created(self, event: events.BatchCreated) -> Answer:
        wanted = (event.sku, event.qty, event.eta, event.delivery)
        for known in self.batches:
            if known.ref == event.ref:
                if wanted not in {known.created_with, (known.sku, known.purchased, known.eta, known.delivery)}:
                    raise Declined("BatchConflict")
                if not known.purchased:
                    raise Declined("BatchClosed")
                return event.ref, []
        self.batches.append(NaiveBatch(event.ref, event.sku, wanted, event.qty, event.eta, event.delivery))
        return event.ref, self._call(event.sku, [])

    def allocation_required(self, event: events.AllocationRequired) -> Answer:
        if all(batch.sku != event.sku for batch in self.batches):
            raise Declined("InvalidSku")
        for known in self.lines:
            if (known.orderid, known.sku) == (event.orderid, event.sku):
                if known.qty != event.qty:
                    raise Declined("LineConflict")
                return (known.batch.ref if known.batch else None), []
        line = NaiveLine(event.orderid, event.sku, event.qty)
        self.lines.append(line)
        facts = self._serve(line) or [("Backordered", event.orderid, None)]
        return (line.batch.ref if line.batch else None), facts

    # What the warehouse says

    def batch_quantity_changed(self, event: events.BatchQuantityChanged) -> Answer:
        """No more than has arrived: then nothing is due any more."""
        batch = self._batch(event.ref)
        if batch.purchased == event.qty:
            return batch.ref, []
        batch.purchased = event.qty
        freed = self._free(batch)
        facts = self._whole(batch) if batch.arrived is not None and event.qty <= batch.arrived else []
        return batch.ref, _lost(batch, freed) + facts + self._call(batch.sku, freed)

    def batch_eta_changed(self, event: events.BatchEtaChanged) -> Answer:
        batch = self._batch(event.ref)
        if batch.eta is None:
            raise Declined("BatchArrived")
        batch.eta = event.eta
        return batch.ref, self._call(batch.sku, [])

    def batch_received(self, event: events.BatchReceived) -> Answer:
        batch = self._batch(event.ref)
        due = batch.purchased - batch.came
        if not due:
            raise Declined("NothingDue")
        qty = due if event.qty is None else event.qty
        if qty < due and event.rest == "expected":
            batch.arrived = batch.came + qty or None
            served = self._serve_arrived(batch)
            return batch.ref, served + self._call(batch.sku, [])
        batch.purchased = batch.came + qty
        freed = self._free(batch)
        return batch.ref, _lost(batch, freed) + self._whole(batch) + self._call(batch.sku, freed)

    def receipt_undone(self, event: events.ReceiptUndone) -> Answer:
        batch = self._batch(event.ref)
        came = batch.came
        undone = came if event.qty is None else event.qty
        if not came:
            raise Declined("NotArrived")
        if undone > came:
            raise Declined("ShippedAlready")
        was_here = batch.eta is None
        batch.eta = batch.eta or batch.last_eta or date.max
        batch.arrived = came - undone or None
        if batch.arrived is None:
            return batch.ref, self._mark(batch, self._newest(batch), of_arrived=False) + self._call(batch.sku, [])
        has_stock = None if was_here else True
        freed = self._free(batch, batch.arrived, of_arrived=has_stock)
        facts = self._mark(batch, self._newest(batch), of_arrived=True) if was_here else []
        return batch.ref, _lost(batch, freed) + facts + self._call(batch.sku, freed)

    def stock_adjusted(self, event: events.StockAdjusted) -> Answer:
        batch = self._batch(event.ref)
        if batch.eta is not None and not batch.came:
            raise Declined("NotArrived")
        if batch.came + event.by < 0:
            raise Declined("NotOnHand")
        return batch.ref, self._differ(batch, event.by)

    def batch_counted(self, event: events.BatchCounted) -> Answer:
        batch = self._batch(event.ref)
        if batch.eta is not None and not batch.came and event.on_hand:
            raise Declined("NotArrived")
        return batch.ref, self._differ(batch, event.on_hand - batch.came)

    def stock_transferred(self, event: events.StockTransferred) -> Answer:
        """A part; the lines that do not fit into what is left follow, in the order taken."""
        batch, qty = self._batch(event.ref), event.qty or 0
        ref = event.new_ref or f"{event.ref}@{event.to_location}"
        if any(known.ref == ref for known in self.batches):
            raise Declined("BatchConflict")
        if qty > batch.came:
            raise Declined("NotOnHand")
        created = (batch.sku, qty, event.eta, batch.delivery)
        part = NaiveBatch(ref, batch.sku, created, qty, event.eta, batch.delivery)
        freed = self._lose(batch, -qty)
        self.batches.append(part)
        facts = _lost(batch, freed)
        for line in [line for line in self.lines if line in freed]:
            if line.qty <= self.room(part):
                line.batch = part
                facts.append(("Allocated", line.orderid, ref))
        return ref, facts + self._call(batch.sku, freed)

    def delivery_eta_changed(self, event: events.DeliveryEtaChanged) -> Answer:
        for batch in self._due_with(event.delivery):
            batch.eta = event.eta
        return event.delivery, []

    def delivery_received(self, event: events.DeliveryReceived) -> Answer:
        """Nobody can have been waiting for it, as the whole of it was promised before."""
        return event.delivery, [fact for batch in self._due_with(event.delivery) for fact in self._whole(batch)]

    # Steps

    def _batch(self, ref: str) -> NaiveBatch:
        found = next((batch for batch in self.batches if batch.ref == ref), None)
        if found is None:
            raise Declined("UnknownBatch")
        return found

    def _due_with(self, delivery: str) -> list[NaiveBatch]:
        found = [batch for batch in self.batches if batch.delivery == delivery]
        if not found:
            raise Declined("UnknownDelivery")
        due = [batch for batch in found if batch.purchased > batch.came]
        if not due:
            raise Declined("DeliveryArrived")
        return sorted(due, key=lambda batch: (batch.sku, batch.ref))

    def _differ(self, batch: NaiveBatch, by: int) -> list[Fact]:
        """So much more is in the warehouse, or less."""
        freed = self._lose(batch, by)
        return _lost(batch, freed) + self._call(batch.sku, freed)

    def _lose(self, batch: NaiveBatch, by: int) -> list[NaiveLine]:
        batch.purchased += by
        freed = self._free(batch)
        if batch.arrived is not None:
            batch.arrived = batch.arrived + by or None
            freed += self._free(batch, batch.arrived or 0, of_arrived=True)
        return freed

    def _free(self, batch: NaiveBatch, most: int | None = None, *, of_arrived: bool | None = None) -> list[NaiveLine]:
        """The newest lines lose their stock, until they have no more than is there."""
        freed = []
        for line in self._newest(batch):
            held = sum(each.qty for each in self.on(batch) if of_arrived in {None, each.of_arrived})
            if held > (batch.purchased if most is None else most) and of_arrived in {None, line.of_arrived}:
                line.batch, line.of_arrived = None, False
                freed.append(line)
        return freed

    def _newest(self, batch: NaiveBatch) -> list[NaiveLine]:
        return self.on(batch)[::-1]

    def _whole(self, batch: NaiveBatch) -> list[Fact]:
        """All of it is in the warehouse."""
        batch.last_eta, batch.eta, batch.arrived = batch.eta, None, None
        return self._mark(batch, self._newest(batch), of_arrived=False)

    def _mark(self, batch: NaiveBatch, lines: Iterable[NaiveLine], *, of_arrived: bool) -> list[Fact]:
        facts: list[Fact] = []
        for line in lines:
            if line.of_arrived != of_arrived:
                line.of_arrived = of_arrived
                facts.append(("Served", line.orderid, batch.ref))
        return facts

    def _serve_arrived(self, batch: NaiveBatch) -> list[Fact]:
        """The lines on the batch get what has arrived, the oldest first, each that it is enough for."""
        facts: list[Fact] = []
        for line in self.on(batch):
            if not line.of_arrived and line.qty <= self._room_of_arrived(batch):
                facts += self._mark(batch, [line], of_arrived=True)
        return facts

    def _room_of_arrived(self, batch: NaiveBatch) -> int:
        return (batch.arrived or 0) - sum(line.qty for line in self.on(batch) if line.of_arrived)

    def _call(self, sku: str, freed: list[NaiveLine]) -> list[Fact]:
        """Each line without stock, the oldest first."""
        facts: list[Fact] = []
        for line in self.waiting(sku):
            facts += self._serve(line) or ([("Backordered", line.orderid, None)] if line in freed else [])
        return facts

    def _serve(self, line: NaiveLine) -> list[Fact]:
        """The line gets the first stock that is enough: warehouse first, then by ETA, then by age."""
        places = []
        for batch in self.batches:
            if batch.sku == line.sku:
                places.append(Place(batch.eta or date.min, batch, of_arrived=False))
                if batch.arrived is not None:
                    places.append(Place(date.min, batch, of_arrived=True))
        for _, batch, of_arrived in sorted(places, key=lambda place: place.day):
            if self.room(batch) >= line.qty and (not of_arrived or self._room_of_arrived(batch) >= line.qty):
                line.batch, line.of_arrived = batch, of_arrived
                return [("Allocated", line.orderid, batch.ref)]
        return []


def _lost(batch: NaiveBatch, freed: Iterable[NaiveLine]) -> list[Fact]:
    return [("Deallocated", line.orderid, batch.ref) for line in freed]


ANSWERS: dict[type[Event], Callable[[NaiveShop, Any], Answer]] = {
    events.BatchCreated: NaiveShop.batch_created,
    events.AllocationRequired: NaiveShop.allocation_required,
    events.BatchQuantityChanged: NaiveShop.batch_quantity_changed,
    events.BatchEtaChanged: NaiveShop.batch_eta_changed,
    events.BatchReceived: NaiveShop.batch_received,
    events.ReceiptUndone: NaiveShop.receipt_undone,
    events.StockAdjusted: NaiveShop.stock_adjusted,
    events.BatchCounted: NaiveShop.batch_counted,
    events.StockTransferred: NaiveShop.stock_transferred,
    events.DeliveryEtaChanged: NaiveShop.delivery_eta_changed,
    events.DeliveryReceived: NaiveShop.delivery_received,
}

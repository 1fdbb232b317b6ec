"""Products, their batches and the lines promised from them.

A product is loaded in part: the batches with room, and of its lines only those asked about. Whatever else a
rule needs (the newest lines of a batch, the oldest that wait) it draws from `Records`, page by page. A product
made without records knows everything it has, so that the rules run on plain objects.
"""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, Protocol

from allocation.domain import events
from allocation.domain.errors import BatchConflict, LineConflict


@dataclass(frozen=True, slots=True)
class OrderLine:
    """What a customer ordered of one SKU; ``(orderid, sku)`` identifies it.

    ``position`` is its age: the product's version when the line was taken. It keeps it wherever it moves.
    """

    orderid: str
    sku: str
    qty: int
    position: int = field(default=0, compare=False)


class Promise(NamedTuple):
    """Where a line stands: on a batch, or waiting (``batchref`` is None)."""

    line: OrderLine
    batchref: str | None


class Miscount(NamedTuple):
    """By how much a counter is above what the lines say: a batch's, or that of the lines that wait (None)."""

    batchref: str | None
    excess: int


class Records(Protocol):
    """What storage knows of one product. Pages may be of any length; an empty page is the last."""

    def promise(self, orderid: str) -> Promise | None:
        """Where the order's line stands, or None if it was never taken."""

    def batch(self, ref: str) -> Batch | None:
        """The batch of this product with that reference, exhausted or not."""

    def newest_lines(self, ref: str, before: int) -> Sequence[OrderLine]:
        """A page of the lines on a batch, newest first, of positions below ``before``."""

    def waiting_lines(self, after: int, max_qty: int) -> Sequence[OrderLine]:
        """A page of waiting lines, oldest first, of positions above ``after``, none above ``max_qty``."""

    def miscounts(self) -> Sequence[Miscount]:
        """The counters that are off in storage."""


class _NoRecords:
    """The records of a product that knows everything it has."""

    def promise(self, orderid: str) -> Promise | None:
        return None

    def batch(self, ref: str) -> Batch | None:
        return None

    def newest_lines(self, ref: str, before: int) -> Sequence[OrderLine]:
        return ()

    def waiting_lines(self, after: int, max_qty: int) -> Sequence[OrderLine]:
        return ()

    def miscounts(self) -> Sequence[Miscount]:
        return ()


NO_RECORDS: Records = _NoRecords()


def _age(line: OrderLine) -> int:
    return line.position


def _preference(batch: Batch) -> tuple[date, int]:
    """Warehouse batches first, then the earliest ETA; among equals the one created first."""
    return (batch.eta or date.min, batch.position)


class Batch:
    """Stock bought together: in the warehouse (``eta`` is None), or inbound and due on a day.

    The available quantity is never negative when a message is done. ``initial_quantity`` and ``initial_eta`` are
    what the batch was created with, so that creating it again is recognised after it was counted anew.
    """

    def __init__(  # noqa: PLR0913 - the seed's four, and what storage remembers
        self,
        ref: str,
        sku: str,
        qty: int,
        eta: date | None = None,
        *,
        allocated_quantity: int = 0,
        position: int = 0,
        initial: tuple[int, date | None] | None = None,
        records: Records = NO_RECORDS,
    ) -> None:
        self.reference = ref
        self.sku = sku
        self.eta = eta
        self.position = position
        self.initial_quantity, self.initial_eta = initial or (qty, eta)
        self._purchased_quantity = qty
        self._allocated_quantity = allocated_quantity
        self._records = records
        self._lines: list[OrderLine] = []  # by age; complete from position _complete_from on
        self._complete_from = 0 if records is NO_RECORDS else sys.maxsize

    def __repr__(self) -> str:
        return f"<Batch {self.reference}>"

    @property
    def purchased_quantity(self) -> int:
        return self._purchased_quantity

    @property
    def allocated_quantity(self) -> int:
        return self._allocated_quantity

    @property
    def available_quantity(self) -> int:
        return self._purchased_quantity - self._allocated_quantity

    def check_is_same(self, batch: Batch) -> None:
        """Raise `BatchConflict` unless the other batch was created with the same SKU, quantity and ETA."""
        created = (self.sku, self.initial_quantity, self.initial_eta)
        if created != (batch.sku, batch.initial_quantity, batch.initial_eta):
            raise BatchConflict(self)

    def can_allocate(self, line: OrderLine) -> bool:
        """Whether the whole line fits."""
        return self._purchased_quantity - self._allocated_quantity >= line.qty and self.sku == line.sku

    def allocate(self, line: OrderLine) -> None:
        """Hold stock for the whole line."""
        self._allocated_quantity += line.qty
        insort(self._lines, line, key=_age)

    def deallocate_one(self) -> OrderLine:
        """Free the newest line and return it."""
        while not self._lines or self._lines[-1].position < self._complete_from:
            self._recall_older_lines()
        line = self._lines.pop()
        self._allocated_quantity -= line.qty
        return line

    def change_quantity(self, qty: int) -> list[OrderLine]:
        """Set the purchased quantity; free the newest lines, no more than needed, and return them."""
        if qty < 0:
            raise ValueError(f"batch {self.reference} cannot hold {qty}")
        self._purchased_quantity = qty
        freed = []
        while self.available_quantity < 0:
            freed.append(self.deallocate_one())
        return freed

    def repair(self, excess: int) -> bool:
        """Correct the allocated quantity; not if that would say that more is sold than was purchased."""
        counted = self._allocated_quantity - excess
        if not 0 <= counted <= self._purchased_quantity:
            return False
        self._allocated_quantity = counted
        return True

    def leave_lines(self, records: Records) -> None:
        """Know none of the lines any more: the records have them all."""
        self._records = records
        self._lines = []
        self._complete_from = sys.maxsize

    def _recall_older_lines(self) -> None:
        if self._complete_from == 0:
            raise LookupError(f"batch {self.reference} counts more allocated than it has lines for")
        page = self._records.newest_lines(self.reference, before=self._complete_from)
        self._complete_from = page[-1].position if page else 0
        self._lines.extend(page)  # none of them has left: only the newest do
        self._lines.sort(key=_age)


class Product:
    """One SKU: its batches, and the lines promised from them or waiting. The aggregate and the unit of locking.

    ``version_number`` grows with every change and numbers what the change brings: it is the position of a new batch
    or line. ``changed_batches`` and ``changed_promises`` are what storage has yet to write.
    """

    def __init__(
        self,
        sku: str,
        batches: Iterable[Batch],
        version_number: int = 0,
        *,
        waiting_lines: int = 0,
        records: Records = NO_RECORDS,
    ) -> None:
        self.sku = sku
        self.batches = sorted(batches, key=_preference)
        self.version_number = version_number
        self.waiting_lines = waiting_lines
        self.events: list[events.Event] = []
        self.changed_batches: dict[str, Batch] = {}
        self.changed_promises: dict[str, Promise] = {}
        self._records = records
        self._freed: dict[str, OrderLine] = {}  # between losing one promise and getting the next
        self._waiting: list[OrderLine] = []  # those that came to wait after loading, by age
        self._repaired = False

    def __repr__(self) -> str:
        return f"<Product {self.sku}>"

    def promise(self, orderid: str) -> Promise | None:
        """Where the order's line stands; None if it was never taken, or just lost its batch."""
        known = self.changed_promises.get(orderid)
        if known is None and orderid not in self._freed:
            known = self._records.promise(orderid)
        return known

    def batch(self, ref: str) -> Batch | None:
        """The batch with that reference, whether it has room or not."""
        known = next((batch for batch in self.batches if batch.reference == ref), None)
        if known is None and (known := self._records.batch(ref)) is not None:
            insort(self.batches, known, key=_preference)
        return known

    def add_batch(self, batch: Batch) -> None:
        """Take a new batch in, and call the waiting lines it can serve, oldest first.

        The same batch again changes nothing; another one under its reference raises `BatchConflict`.
        """
        known = self.batch(batch.reference)
        if known is not None:
            known.check_is_same(batch)
            return
        batch.position = self._next_version()
        self.changed_batches[batch.reference] = batch
        insort(self.batches, batch, key=_preference)
        self._call_lines(batch)

    def allocate(self, line: OrderLine) -> str | None:
        """Promise the whole line from the first batch with room, and return the batch's reference.

        A line that no batch can take waits: None. The same line again gets the same answer and changes nothing; the
        same line with another quantity raises `LineConflict`.
        """
        known = self.promise(line.orderid)
        if known is not None:
            if known.line.qty != line.qty:
                raise LineConflict(known.line, line)
            if known.batchref is not None:
                return known.batchref
        for batch in self.batches:
            if batch.can_allocate(line):
                break
        else:
            if known is None:
                self._let_wait(self._freed_or_new(line))
            return None
        if known is not None:
            line = known.line
            self._serve(line)
        else:
            line = self._freed_or_new(line)
        self._promise(line, batch)
        return batch.reference

    def change_batch_quantity(self, ref: str, qty: int) -> None:
        """Set a batch's purchased quantity and free what no longer fits: the newest lines, no more than needed.

        The freed lines, and the waiting ones that will find room, are called oldest first.
        """
        batch = self.batch(ref)
        if batch is None:
            raise LookupError(f"product {self.sku} has no batch {ref}")
        if batch.purchased_quantity == qty:
            return
        self._next_version()
        self.changed_batches[ref] = batch
        freed = batch.change_quantity(qty)
        for line in freed:
            self.changed_promises.pop(line.orderid, None)
            self._freed[line.orderid] = line
            self.events.append(events.Deallocated(line.orderid, line.sku, line.qty, ref))
        self._call_lines(batch, sorted(freed, key=_age))

    def repair_counters(self) -> None:
        """Set the counters to what the lines add up to. No promise is touched, and none is called to be served.

        How far a counter is off does not change with what was promised since loading, for that moves both alike.
        """
        miscounts = [] if self._repaired else self._records.miscounts()
        self._repaired = True
        for batchref, excess in miscounts:
            if batchref is None:
                self._repair_waiting_lines(excess)
            elif (batch := self.batch(batchref)) is not None and batch.repair(excess):
                self._next_version()
                self.changed_batches[batchref] = batch
                counted = batch.allocated_quantity
                self.events.append(events.AllocatedQuantityRepaired(self.sku, batchref, counted + excess, counted))

    def leave_changes(self) -> bool:
        """Be as if loaded anew, with all that was changed in the records; False if not all of it can be there."""
        if self._records is NO_RECORDS or self._freed or self.events:
            return False
        for batch in self.changed_batches.values():
            batch.leave_lines(self._records)
            if batch.available_quantity == 0:
                self.batches.remove(batch)
        self.changed_batches = {}
        self.changed_promises = {}
        self._waiting = []
        self._repaired = False
        return True

    def _repair_waiting_lines(self, excess: int) -> None:
        self._next_version()
        stored = self.waiting_lines
        self.waiting_lines -= excess
        self.events.append(events.WaitingLinesRepaired(self.sku, stored, self.waiting_lines))

    def _next_version(self) -> int:
        self.version_number += 1
        return self.version_number

    def _freed_or_new(self, line: OrderLine) -> OrderLine:
        if line.orderid in self._freed:
            return self._freed.pop(line.orderid)
        return OrderLine(line.orderid, line.sku, line.qty, self._next_version())

    def _promise(self, line: OrderLine, batch: Batch) -> None:
        batch.allocate(line)
        self.changed_batches[batch.reference] = batch
        self.changed_promises[line.orderid] = Promise(line, batch.reference)
        self.events.append(events.Allocated(line.orderid, line.sku, line.qty, batch.reference))

    def _let_wait(self, line: OrderLine) -> None:
        self.waiting_lines += 1
        insort(self._waiting, line, key=_age)
        self.changed_promises[line.orderid] = Promise(line, None)
        self.events.append(events.Backordered(line.orderid, line.sku, line.qty))
        self.events.append(events.OutOfStock(line.sku))

    def _serve(self, line: OrderLine) -> None:
        self._next_version()
        self.waiting_lines -= 1
        place = bisect_left(self._waiting, line.position, key=_age)
        if self._waiting[place : place + 1] == [line]:
            del self._waiting[place]

    def _call_lines(self, batch: Batch, freed: Iterable[OrderLine] = ()) -> None:
        """Require allocation for the freed lines, and for the waiting lines that will find room, oldest first.

        Which ones will is rehearsed on a copy of the room left, since an older line may take it from a younger one.
        """
        room = {each.reference: each.available_quantity for each in self.batches}
        waiting = self._waiting_lines(room, batch.reference) if self.waiting_lines else iter(())
        for line in heapq.merge(freed, waiting, key=_age):
            ref = next((ref for ref, left in room.items() if left >= line.qty), None)
            if ref is not None:
                room[ref] -= line.qty
            if ref is not None or line.orderid in self._freed:
                self.events.append(events.AllocationRequired(line.orderid, line.sku, line.qty))

    def _waiting_lines(self, room: dict[str, int], ref: str) -> Iterator[OrderLine]:
        """The waiting lines that batch ``ref`` may have room for, oldest first."""
        return heapq.merge(self._stored_waiting_lines(room, ref), self._waiting, key=_age)

    def _stored_waiting_lines(self, room: dict[str, int], ref: str) -> Iterator[OrderLine]:
        after = 0
        while room[ref] > 0 and (page := self._records.waiting_lines(after, max_qty=room[ref])):
            yield from (line for line in page if not self._has_moved(line.orderid))
            after = page[-1].position

    def _has_moved(self, orderid: str) -> bool:
        """Whether the order's line does not stand any more where storage has it."""
        return orderid in self.changed_promises or orderid in self._freed

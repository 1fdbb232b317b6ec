"""Batches: stock bought together, and the lines that hold it."""

from __future__ import annotations

import heapq
import sys
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date

from allocation.domain.errors import BatchConflict, CountBelowShipped
from allocation.domain.lines import NO_RECORDS, Miscount, OrderLine, Records, stock_day


def by_age(line: OrderLine) -> int:
    return line.position


def _by_youth(line: OrderLine) -> int:
    return -line.position


class Batch:
    """Stock bought together: in the warehouse (``eta`` is None), or inbound and due on a day.

    The available quantity is never negative when a message is done. What was shipped counts as allocated, for it takes
    up what was purchased. ``initial_quantity`` and ``initial_eta`` are what the batch was created with, so that it is
    recognised when created again, whatever became of it. ``quarantine`` is the reason why it must not be sold now.
    """

    def __init__(  # noqa: PLR0913 - the seed's four, and what storage remembers
        self,
        ref: str,
        sku: str,
        qty: int,
        eta: date | None = None,
        *,
        expires_on: date | None = None,
        location: str | None = None,
        quarantine: str | None = None,
        allocated_quantity: int = 0,
        shipped_quantity: int = 0,
        position: int = 0,
        initial: tuple[int, date | None] | None = None,
        records: Records = NO_RECORDS,
    ) -> None:
        self.reference = ref
        self.sku = sku
        self.eta = eta
        self.expires_on = expires_on
        self.location = location
        self.quarantine = quarantine
        self.position = position
        self.initial_quantity, self.initial_eta = initial or (qty, eta)
        self._purchased_quantity = qty
        self._allocated_quantity = allocated_quantity
        self._shipped_quantity = shipped_quantity
        self.is_rewritten = False  # more than its quantities changed
        self._records = records
        self._lines: defaultdict[int, list[OrderLine]] = defaultdict(
            list
        )  # that came after loading; by priority, by age
        self._left: set[str] = set()  # the order ids of lines that do not stand here any more as storage has them

    def __repr__(self) -> str:
        return f"<Batch {self.reference}>"

    @property
    def purchased_quantity(self) -> int:
        return self._purchased_quantity

    @property
    def allocated_quantity(self) -> int:
        return self._allocated_quantity

    @property
    def shipped_quantity(self) -> int:
        return self._shipped_quantity

    @property
    def available_quantity(self) -> int:
        return self._purchased_quantity - self._allocated_quantity

    def day(self, today: date) -> date:
        """The day from which its stock is there: not before today, however long it is overdue."""
        return stock_day(self.eta, today)

    def check_is_same(self, batch: Batch) -> None:
        """Raise `BatchConflict` unless the other batch is created as this one was."""
        created = (self.sku, self.initial_quantity, self.initial_eta, self.expires_on, self.location)
        again = (batch.sku, batch.initial_quantity, batch.initial_eta, batch.expires_on, batch.location)
        if created != again:
            raise BatchConflict(self)

    def can_allocate(self, line: OrderLine) -> bool:
        """Whether the whole line fits, and the batch may be sold."""
        return (
            self._purchased_quantity - self._allocated_quantity >= line.qty
            and self.sku == line.sku
            and self.quarantine is None
        )

    def allocate(self, line: OrderLine) -> None:
        """Hold stock for the whole line."""
        self._allocated_quantity += line.qty
        here = self._lines[line.priority]
        if here and here[-1].position > line.position:
            insort(here, line, key=by_age)
        else:
            here.append(line)

    def deallocate(self, line: OrderLine) -> None:
        """Free a line that stands on the batch."""
        self._allocated_quantity -= line.qty
        self._left.add(line.orderid)
        here = self._lines[line.priority]
        if line in here:
            here.remove(line)

    def deallocate_one(self) -> OrderLine:
        """Free the line that is to lose its stock first, and return it."""
        line = next(self.lines_to_lose(), None)
        if line is None:
            raise LookupError(f"batch {self.reference} counts more allocated than it has lines for")
        self.deallocate(line)
        return line

    def lines_to_lose(self) -> Iterator[OrderLine]:
        """The lines that can leave, from the one to lose its stock first: the lowest priority, and of it the newest.

        They are drawn as far as needed. The batch must not change meanwhile.
        """
        for priority in sorted({0, *self._lines, *self._records.priorities(self.reference)}):
            here = reversed(self._lines[priority])
            yield from heapq.merge(self._stored_lines(priority), here, key=_by_youth)

    def check_quantity(self, qty: int) -> None:
        """Raise `CountBelowShipped` if more left the batch than the count leaves room for."""
        if qty < self._shipped_quantity:
            raise CountBelowShipped(self, qty)

    def change_quantity(self, qty: int, is_spared: Callable[[OrderLine], bool] = lambda _: False) -> list[OrderLine]:
        """Set the purchased quantity; free the lines to lose it first, no more than needed, and return them.

        The lines that are spared are the last.
        """
        if qty < 0:
            raise ValueError(f"batch {self.reference} cannot hold {qty}")
        self._purchased_quantity = qty
        freed: list[OrderLine] = []
        missing = -self.available_quantity
        lines = self._sparing(is_spared)
        while missing > 0:
            line = next(lines, None)
            if line is None:
                raise LookupError(f"batch {self.reference} counts more allocated than it has lines for")
            freed.append(line)
            missing -= line.qty
        for line in freed:
            self.deallocate(line)
        return freed

    def change_eta(self, eta: date | None) -> None:
        """It is due on another day, or in the warehouse (None)."""
        self.eta = eta
        self.is_rewritten = True

    def put_in_quarantine(self, reason: str | None) -> None:
        """It must not be sold now for that reason, or may be again (None)."""
        self.quarantine = reason
        self.is_rewritten = True

    def ship(self, line: OrderLine) -> None:
        """The line leaves with its stock."""
        self._shipped_quantity += line.qty
        self.is_rewritten = True
        self._left.add(line.orderid)
        here = self._lines[line.priority]
        if line in here:
            here.remove(line)

    def take_back(self, qty: int, *, scrapped: bool) -> None:
        """Shipped stock comes back; what is scrapped was as good as never purchased."""
        self._allocated_quantity -= qty
        self._shipped_quantity -= qty
        self.is_rewritten = True
        if scrapped:
            self._purchased_quantity -= qty

    def repair(self, miscount: Miscount) -> bool:
        """Correct what is allocated and what was shipped; not if it would say that more is sold than was purchased."""
        allocated = self._allocated_quantity - miscount.excess
        shipped = self._shipped_quantity - miscount.shipped_excess
        if not 0 <= shipped <= allocated <= self._purchased_quantity:
            return False
        self._allocated_quantity, self._shipped_quantity = allocated, shipped
        self.is_rewritten = self.is_rewritten or miscount.shipped_excess != 0
        return True

    def leave_lines(self, records: Records) -> None:
        """Know none of the lines any more: the records have them all."""
        self._records = records
        self._lines.clear()
        self._left.clear()
        self.is_rewritten = False

    def _sparing(self, is_spared: Callable[[OrderLine], bool]) -> Iterator[OrderLine]:
        spared = []
        for line in self.lines_to_lose():
            if is_spared(line):
                spared.append(line)
            else:
                yield line
        yield from spared

    def _stored_lines(self, priority: int) -> Iterator[OrderLine]:
        before = sys.maxsize
        while page := self._records.newest_lines(self.reference, priority, before):
            yield from (line for line in page if line.orderid not in self._left)
            before = page[-1].position

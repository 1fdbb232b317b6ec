"""Batches: stock bought together, and the lines that hold it."""

from __future__ import annotations

import heapq
import sys
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from allocation.domain.errors import BatchConflict, CountBelowShipped
from allocation.domain.lines import Miscount, OrderLine
from allocation.domain.stock import Arrived, Stock


class StoredLines(Protocol):
    """The open lines that storage has of a batch. Pages may have any length; an empty page is the last."""

    def priorities(self, ref: str | None) -> Sequence[int]:
        """The priorities besides 0 of the lines on a batch, or of backorders (None)."""

    def newest_lines(self, ref: str, priority: int, before: int) -> Sequence[OrderLine]:
        """A page of the lines of a priority on a batch, newest first, with positions below ``before``."""


class NoStoredLines:
    """Storage has none: every line of the batch is in memory."""

    def priorities(self, ref: str | None) -> Sequence[int]:
        return ()

    def newest_lines(self, ref: str, priority: int, before: int) -> Sequence[OrderLine]:
        return ()


NO_STORED_LINES: Final[StoredLines] = NoStoredLines()


def by_age(line: OrderLine) -> int:
    return line.position


def _by_youth(line: OrderLine) -> int:
    return -line.position


class Batch(Stock):
    """Stock bought together, and its lines: in memory those it got since it was loaded, all others in storage.

    `allocate`, `deallocate` and `deallocate_one` are for batches on their own. The batches of a product change by the
    facts that the product tells; a change by hand is refused when the message is done (`Product.check_told`).
    """

    _records: StoredLines

    def check_is_same(self, batch: Batch) -> None:
        """Raise `BatchConflict` unless the other batch is created as this one was, or as this one is now."""
        if batch.created not in {self.created, self.bought_now}:
            raise BatchConflict(self.reference, self.created)

    def check_quantity(self, qty: int) -> None:
        """Raise `CountBelowShipped` if more of the batch was shipped, or is in inspection, than that."""
        if qty < self._shipped_quantity + self.inspect_quantity:
            raise CountBelowShipped(self.reference, qty, self._shipped_quantity, self.inspect_quantity)

    def can_repair(self, miscount: Miscount) -> bool:
        """Whether the counters may be corrected: not to more sold than was purchased."""
        allocated = self._allocated_quantity - miscount.excess
        return 0 <= self._shipped_quantity - miscount.shipped_excess <= allocated <= self._purchased_quantity

    def allocate(self, line: OrderLine) -> None:
        """Hold stock for the whole line; the same line again changes nothing."""
        if line not in self._lines[line.priority]:
            self.hold(line)

    def deallocate(self, line: OrderLine) -> None:
        """Free the line's stock; a line that the batch does not have changes nothing."""
        if line in self._lines[line.priority]:
            self.let_go(line)

    def deallocate_one(self) -> OrderLine:
        """Free the line that is the first to lose its stock, and return it."""
        line = next(self.lines_to_lose(), None)
        if line is None:
            raise LookupError(f"batch {self.reference} counts more allocated than it has lines for")
        self.let_go(line)
        return line

    def lines_to_lose(self) -> Iterator[OrderLine]:
        """The open lines, the first to lose its stock first: by priority, the lowest first, then the newest first.

        They are read as far as needed. The batch must not change meanwhile.
        """
        for priority in sorted({0, *self._lines, *self._records.priorities(self.reference)}):
            here = reversed(self._lines[priority])
            yield from heapq.merge(self._stored_lines(priority), here, key=_by_youth)

    def lines_over(
        self, qty: int, is_spared: Callable[[OrderLine], bool] = lambda _: False, *, arrived: int | None = None
    ) -> list[OrderLine]:
        """The lines that no longer fit into that quantity: the first to lose their stock, no more than needed.

        Spared lines are the last. Of a batch in parts, also the lines that no longer fit into the ``arrived`` part.
        """
        missing = self._allocated_quantity - qty
        found = self._first_to_lose(missing, self._sparing(is_spared))
        if self.arrived is not None and arrived is not None:
            missing = self.arrived.allocated_quantity - arrived - sum(line.qty for line in found if line.arrived)
            lost = set(found)
            others = (line for line in self._sparing(is_spared) if line.arrived and line not in lost)
            found += self._first_to_lose(missing, others)
        return found

    def _first_to_lose(self, missing: int, lines: Iterator[OrderLine]) -> list[OrderLine]:
        found: list[OrderLine] = []
        while missing > 0:
            line = next(lines, None)
            if line is None:
                raise LookupError(f"batch {self.reference} counts more allocated than it has lines for")
            found.append(line)
            missing -= line.qty
        return found

    def leave_lines(self, records: StoredLines) -> None:
        """Forget the lines: the records have them all."""
        self._records = records
        self._lines.clear()
        self._left.clear()
        self.on_hand_stored = self.on_hand_quantity
        self.is_rewritten = False

    def _begin(self) -> None:
        self._records = NO_STORED_LINES
        self.on_hand_stored = self.on_hand_quantity
        # Lines that came since it was loaded, by priority, by age; and the order ids of stored lines that left since.
        self._lines: defaultdict[int, list[OrderLine]] = defaultdict(list)
        self._left: set[str] = set()

    def _keep(self, line: OrderLine) -> None:
        here = self._lines[line.priority]
        if here and here[-1].position > line.position:
            insort(here, line, key=by_age)
        else:
            here.append(line)

    def _drop(self, line: OrderLine) -> None:
        self._left.add(line.orderid)
        here = self._lines[line.priority]
        if line in here:
            here.remove(line)

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


BatchSource = Batch | Arrived  # of a line's stock

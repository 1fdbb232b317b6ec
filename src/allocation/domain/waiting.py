"""The lines of a product that wait, in the order they are served."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

from allocation.domain.batches import Batch, BatchSource, by_age
from allocation.domain.lines import OrderLine
from allocation.domain.records import Records
from allocation.domain.rules import Choice


class WaitingLines:
    """The lines that started to wait since loading, by age; all others are read from the records as needed."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._new: list[OrderLine] = []

    def add(self, line: OrderLine) -> None:
        insort(self._new, line, key=by_age)

    def discard(self, line: OrderLine) -> None:
        """It waits no longer; the records may still have it."""
        place = bisect_left(self._new, line.position, key=by_age)
        if self._new[place : place + 1] == [line]:
            del self._new[place]

    def clear(self) -> None:
        """The records have them all."""
        self._new = []

    def in_order(
        self,
        choice: Choice[BatchSource],
        batch: Batch | None,
        has_moved: Callable[[str], bool],
        service_key: Callable[[OrderLine], tuple[int, int]],
    ) -> Iterator[OrderLine]:
        """The waiting lines that may find room, in that batch or in any (None), except lines that have moved since."""
        ref = None if batch is None else batch.reference
        fits = choice.fits(ref)
        any_stored = bool(fits) and self._records.any_waiting(fits)
        priorities = {0, *self._records.priorities(None)} if any_stored else ()
        stored = [self._stored(priority, choice, ref, has_moved) for priority in priorities]
        return heapq.merge(*stored, iter(sorted(self._new, key=service_key)), key=service_key)

    def _stored(
        self, priority: int, choice: Choice[BatchSource], ref: str | None, has_moved: Callable[[str], bool]
    ) -> Iterator[OrderLine]:
        after = 0
        while fits := choice.fits(ref):
            page = self._records.waiting_lines(priority, after, fits)
            if not page:
                return
            yield from (line for line in page if not has_moved(line.orderid))
            after = page[-1].position

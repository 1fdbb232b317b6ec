"""The lines of a product that wait, in the order they are served."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence

from allocation.domain.batches import Batch, BatchSource, by_age
from allocation.domain.lines import Fit, OrderLine
from allocation.domain.records import Records
from allocation.domain.rules import Choice


class WaitingLines:
    """The lines that started to wait since loading, by age; all others are read from the records as needed."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._new: list[OrderLine] = []
        self._pages: dict[tuple[int, Sequence[Fit]], Sequence[OrderLine]] = {}  # by priority and fits: the oldest left

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
        self._pages = {}

    def oldest(
        self, fits: Sequence[Fit], is_gone: Callable[[str], bool], is_served: Callable[[str], bool]
    ) -> OrderLine | None:
        """The oldest waiting line that stays whole and fits, and is not served.

        Lines that are gone have moved since they were stored.
        """
        new = next(
            (line for line in self._new if stays_whole(line) and fits_into(line, fits) and not is_served(line.orderid)),
            None,
        )
        found = [] if new is None else [new]
        if self._records.any_waiting(fits):
            for priority in {0, *self._records.priorities(None)}:
                stored = self._oldest_stored(priority, fits, is_gone, is_served)
                found += [] if stored is None else [stored]
        return min(found, key=by_age, default=None)

    def _oldest_stored(
        self, priority: int, fits: Sequence[Fit], is_gone: Callable[[str], bool], is_served: Callable[[str], bool]
    ) -> OrderLine | None:
        key = (priority, tuple(fits))
        page = self._pages.get(key) or self._records.waiting_lines(priority, 0, fits)
        while page:
            self._pages[key] = page
            for line in page:
                if stays_whole(line) and not is_gone(line.orderid) and not is_served(line.orderid):
                    return line
            page = self._records.waiting_lines(priority, page[-1].position, fits)
        return None

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
        while fits := choice.fits(ref, priority, after):
            page = self._records.waiting_lines(priority, after, fits)
            if not page:
                return
            yield from (line for line in page if not has_moved(line.orderid))
            after = page[-1].position


def stays_whole(line: OrderLine) -> bool:
    return not line.part or line.rest > 0


def fits_into(line: OrderLine, fits: Sequence[Fit]) -> bool:
    return any(line.qty <= fit.qty and (line.need_by is None or line.need_by <= fit.day) for fit in fits)

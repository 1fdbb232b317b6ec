"""Chooses the lines to serve when there is room: lines that lost their batch, backorders, and late lines.

Nothing is changed here. The result is a plan, for the product to carry out.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from allocation.domain.batches import BatchSource, by_age
from allocation.domain.fields import MAX_PRIORITY
from allocation.domain.leaving import Plan, stays
from allocation.domain.lines import HELD_PRIORITY, OrderLine, Promise, Today
from allocation.domain.records import Records
from allocation.domain.rules import Choice, Room, is_hold, late_days
from allocation.domain.splitting import parts_of
from allocation.domain.stock import ARRIVED_MARK, sources_of

ServiceKey = Callable[[OrderLine], tuple[int, int]]
Keeping = Callable[[Choice[BatchSource], Collection[str], Sequence[OrderLine]], None]


class Called(NamedTuple):
    """The lines that need allocation now, in the order of service; and the holds, each with its new batch, if any."""

    lines: Sequence[OrderLine]
    holds: Sequence[tuple[OrderLine, BatchSource | None]]


class Serving(NamedTuple):
    """The room left in each batch, the choice made from it, and the key that sorts lines by the order of service.

    ``is_free`` says whether an order id is unused, so that a part of a line may have it. ``keep`` keeps stock for an
    aged backorder, as if lines were served, and others, by age, waited; None: nothing is kept.
    """

    room: Room
    choice: Choice[BatchSource]
    service_key: ServiceKey
    is_free: Callable[[str], bool]
    keep: Keeping | None

    def called(self, freed: Sequence[OrderLine], waiting: Callable[[], Iterable[OrderLine]], plan: Plan) -> Called:
        """All freed lines, and the backorders that will find room.

        A dry run on the free quantities decides which ones fit, because one line can use up the stock of the next one.
        Lines with a planned batch come first, so that no other line takes their room. Holds come last. When stock is
        kept for another line than before, the backorders are read again: one of them may get it now.
        """
        freed = sorted(freed, key=self.service_key)
        run = _DryRun(self, {line.orderid for line in freed})
        for line in freed if plan else ():
            if key := plan.get(line.orderid):
                run.place(line, key)
        others = [line for line in freed if not plan.get(line.orderid)]
        while last := next(filter(run.serve, heapq.merge(others, waiting(), key=self.service_key)), None):
            others = others[bisect_right(others, self.service_key(last), key=self.service_key) :]
        return Called(run.lines, [*run.placed, *((hold, self.batch_for(hold)) for hold in run.holds)])

    def has_room(self, line: OrderLine) -> bool:
        """Whether the line gets a batch, or a part of it does; the room is used up."""
        if line.part:
            (_, batch), *_ = parts_of(line, self.choice, self.room, self.is_free)
            return batch is not None
        return self.batch_for(line) is not None

    def batch_for(self, line: OrderLine) -> BatchSource | None:
        batch = self.choice.of(line)
        if batch is not None:
            self.room.take(batch.key, line.qty)
        return batch


class _DryRun:
    """Serves lines one after the other, and remembers which of them found room."""

    def __init__(self, serving: Serving, freed: Collection[str]) -> None:
        self._serving = serving
        self._freed = freed
        self.lines: list[OrderLine] = []
        self.placed: list[tuple[OrderLine, BatchSource | None]] = []  # holds
        self.holds: list[OrderLine] = []  # the others
        self._served: set[str] = set()
        self._waits: list[OrderLine] = []  # the freed lines without room, by age

    def place(self, line: OrderLine, key: str) -> None:
        """The line has the room that is planned for it."""
        self._serving.room.take(key, line.qty)
        if is_hold(line):
            self.placed.append((line, self._serving.choice.source(key)))
        else:
            self._served.add(line.orderid)
            self.lines.append(line)
        self._keeps_other()

    def serve(self, line: OrderLine) -> bool:
        """Serve the line if there is room for it; return whether other stock is kept than before."""
        if line.priority == HELD_PRIORITY:
            self.holds.append(line)
            return False
        if line.orderid in self._served:
            return False
        if self._serving.has_room(line):
            self._served.add(line.orderid)
        elif line.orderid in self._freed:
            insort(self._waits, line, key=by_age)
        else:
            return False
        self.lines.append(line)
        return self._serving.keep is not None and self._keeps_other()

    def _keeps_other(self) -> bool:
        choice, keep = self._serving.choice, self._serving.keep
        if keep is None:
            return False
        before = choice.kept
        keep(choice, self._served, self._waits)
        return choice.kept != before


class LateLines(NamedTuple):
    """The open lines on batches that are due after they are needed: those changed since loading, and those stored.

    ``changed`` are the changed lines by order id; ``source_of`` is where a line has its stock, and
    ``sources`` are the sources known by now, in the order that they are looked at.
    """

    records: Records
    changed: Mapping[str, Promise]
    rewritten: Collection[str]
    source_of: Callable[[Promise], BatchSource]
    sources: Callable[[], Sequence[BatchSource]]
    today: Today

    def moves(self, room: Room, choice: Choice[BatchSource], most: int | None) -> Iterator[tuple[Promise, BatchSource]]:
        """The lines that another batch can serve in time, at most ``most``, each with its place there.

        By priority, the highest first, then by age. When all were looked at, the stock that they leave is given to the
        others that it is in time for, in the same way, until no line moves any more. That ends: a line moves once.
        """
        moved: set[str] = set()
        only: set[str] | None = None  # the sources that have more room than before; None: any may have
        while only is None or only:
            leaving: list[Promise] = []
            for late in self._in_order(choice, only):
                if len(moved) == most:
                    return
                better = None if late.line.orderid in moved else choice.on_time(late.line)
                if better is not None:
                    moved.add(late.line.orderid)
                    leaving.append(late)
                    room.take(better.key, late.line.qty)
                    yield late, better
            only = {key for late in leaving for key in self._give_back(late, room, choice)}

    def _give_back(self, late: Promise, room: Room, choice: Choice[BatchSource]) -> Sequence[str]:
        """The line leaves its source; return the keys of the sources that have more room now."""
        left = self.source_of(late)
        if left.key not in room:  # it had none
            room.admit(sources_of([left.batch if left.is_part else left]))
            choice.look_at(self.sources())
        room.take(left.key, -late.line.qty)
        return left.reference, left.reference + ARRIVED_MARK

    def _in_order(self, choice: Choice[BatchSource], only: Collection[str] | None) -> Iterator[Promise]:
        new = sorted(filter(self._is_late, self.changed.values()), key=_by_priority)
        return heapq.merge(new, self._stored(choice, only), key=_by_priority)

    def _stored(self, choice: Choice[BatchSource], only: Collection[str] | None) -> Iterator[Promise]:
        after = (-MAX_PRIORITY - 1, 0)
        while fits := choice.fits_in_time(only):
            page = self.records.late_lines(self.today, fits, self.rewritten, after)
            if not page:
                return
            yield from (each for each in page if each.line.orderid not in self.changed and self._is_late(each))
            after = _by_priority(page[-1])

    def _is_late(self, promise: Promise) -> bool:
        line, batchref, closed = promise
        if batchref is None or closed is not None or stays(line):
            return False
        return late_days(line, self.source_of(promise).day(self.today)) > 0


def _by_priority(promise: Promise) -> tuple[int, int]:
    return -promise.line.priority, promise.line.position

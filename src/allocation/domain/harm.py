"""The least harmful reallocation after a batch changed: the problem, for an exact solver.

Lines without a relevant difference are one kind: a solution only needs the number of lines of each kind for each place.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Final, NamedTuple

from allocation.domain.fields import MAX_DAYS
from allocation.domain.lines import OrderLine, days_late

WAITING_DAYS: Final = MAX_DAYS  # as late is a line that waits


class Kind(NamedTuple):
    """Lines of the same quantity, day and priority, those to leave first first."""

    qty: int
    need_by: date | None
    priority: int
    lines: Sequence[OrderLine]

    def harm(self, day: date | None) -> int:
        """The days that one of the lines is late when its stock is there on that day (None: it waits), by priority."""
        if day is None:
            return WAITING_DAYS * self._weight
        return min(days_late(self.need_by, day), WAITING_DAYS) * self._weight

    @property
    def _weight(self) -> int:
        return self.priority + 1


class Place(NamedTuple):
    """A batch that lines may go to: its room, and the day its stock is there."""

    batchref: str
    room: int
    day: date


class Task(NamedTuple):
    """The problem: find the number of lines of each kind for each place.

    From a batch that was cut, ``leaving`` lines leave, the fewest that cover the ``missing`` quantity; lines without a
    place wait. From a late batch, ``missing`` is 0, at most ``leaving`` lines leave, and the others stay. The best
    solution has the least harm, and among equals the fewest leaving lines.
    """

    kinds: Sequence[Kind]
    places: Sequence[Place]
    leaving: int
    missing: int
    otherwise: date | None  # the day of the late batch, where a line stays; None: it waits

    @property
    def is_cut(self) -> bool:
        return self.missing > 0

    def harms(self, kind: Kind) -> list[int]:
        """Of a line of that kind, in each place and in none of them."""
        return [*(kind.harm(place.day) for place in self.places), kind.harm(self.otherwise)]


Plan = Sequence[
    Sequence[int]
]  # for each kind how many of its lines go to each place, and last how many to none of them
Solver = Callable[[Task], Plan | None]  # None: no plan was found


class Placing(NamedTuple):
    """A line that leaves its batch, and its new batch; None: it waits."""

    line: OrderLine
    batchref: str | None


def no_solver(_: Task) -> None:
    """Finds no plan."""


class MissingSolver:
    """Takes the place of a solver that is not installed. It finds no plan, and no product may ask for one.

    ``warn`` is called when a product asks that has the rule from before.
    """

    def __init__(self, warn: Callable[[], None]) -> None:
        self._warn = warn

    def __call__(self, _: Task) -> None:
        self._warn()


def kinds_of(lines: Iterable[OrderLine]) -> list[Kind]:
    """The lines by kind, in the order given."""
    kinds: defaultdict[tuple[int, date | None, int], list[OrderLine]] = defaultdict(list)
    for line in lines:
        kinds[line.qty, line.need_by, line.priority].append(line)
    return [Kind(*key, same) for key, same in kinds.items()]


def fewest(lines: Iterable[OrderLine], missing: int) -> int | None:
    """The number of lines that cover the missing quantity if the largest leave; None: all together are too few."""
    for number, qty in enumerate(sorted((line.qty for line in lines), reverse=True), start=1):
        missing -= qty
        if missing <= 0:
            return number
    return None


def least_harmful(task: Task, greedy: Sequence[Placing], solve: Solver) -> Sequence[Placing]:
    """The solver's plan if it is better than the greedy one, otherwise that."""
    plan = solve(task)
    if plan is None:
        return greedy
    return min(greedy, list(_placings(task, plan)), key=lambda placings: harm_of(task, placings))


def harm_of(task: Task, placings: Sequence[Placing]) -> tuple[int, int]:
    """The criteria in order: for a cut the leaving lines, then their harm; for a late batch the reverse."""
    kind_of = {line.orderid: kind for kind in task.kinds for line in kind.lines}
    day_of = {place.batchref: place.day for place in task.places}
    harm = sum(kind_of[line.orderid].harm(day_of.get(ref or "")) for line, ref in placings)
    if task.is_cut:
        return len(placings), harm
    gone = {placing.line.orderid for placing in placings}
    stays = (kind.harm(task.otherwise) for kind in task.kinds for line in kind.lines if line.orderid not in gone)
    return harm + sum(stays), len(placings)


def _placings(task: Task, plan: Plan) -> Iterator[Placing]:
    for kind, counts in zip(task.kinds, plan, strict=True):
        lines = iter(kind.lines)
        for place, count in zip(task.places, counts, strict=False):
            for line in itertools.islice(lines, count):
                yield Placing(line, place.batchref)
        if task.is_cut:
            for line in itertools.islice(lines, counts[-1]):
                yield Placing(line, None)

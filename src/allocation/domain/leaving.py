"""Chooses the lines that leave a batch that was cut, is late or must make room for a pinned line, and their places.

Nothing is changed here: the result is a plan, for the product to carry out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

from allocation.domain.batches import Batch, BatchSource
from allocation.domain.errors import NotPinnable
from allocation.domain.harm import Place, Placing, Solver, Task, fewest, kinds_of, least_harmful
from allocation.domain.lines import OrderLine, Today, is_pinned
from allocation.domain.rules import Choice, Room, Rules, is_hold, late_days
from allocation.domain.stock import Arrived

MAX_PLANNED: Final = 10_000  # lines on a batch; beyond, the newest are the ones to leave


class Plan(dict[str, str | None]):
    """By order id, the key of the next source of a line that loses its own; None: the line becomes a backorder."""

    def add(self, placings: Iterable[Placing]) -> None:
        self.update({line.orderid: ref for line, ref in placings})


class Leaving(NamedTuple):
    """The sources of a product as they are, its rules, and the key that puts lines in the order they are served.

    Lines that are ``placed`` have left their sources, and have the room that is planned for them.
    """

    sources: Sequence[BatchSource]
    rules: Rules
    today: Today
    service_key: Callable[[OrderLine], tuple[int, int]]
    placed: Sequence[Placing] = ()
    keep: Callable[[Choice[BatchSource]], None] = lambda _: None

    def of_late(
        self, batch: Batch, lines: Iterable[OrderLine], solve: Solver, lost: Collection[OrderLine] = ()
    ) -> Sequence[Placing]:
        """The lines that come too late on the batch and sooner on another one with room, in the order served.

        The ``lost`` lines leave it anyway.
        """
        late = [line for line in lines if late_days(line, batch.day(self.today)) and not stays(line)]
        if not late and not lost:
            return []
        greedy = self._greedy_late(batch, late, lost)
        if lost or not self.rules.least_harm:
            return greedy
        most = len(late) if self.rules.most_moved is None else self.rules.most_moved
        return least_harmful(Task(kinds_of(late), self._places(batch), most, 0, batch.day(self.today)), greedy, solve)

    def of_cut(self, batch: Batch, missing: int, solve: Solver) -> Sequence[Placing]:
        """The lines that cover the missing quantity with the least harm: holds, and of the orders as few as possible.

        None if the rules do not have `least_harm`, or the holds are enough: then the newest leave.
        """
        if missing <= 0 or not self.rules.least_harm:
            return []
        lines = [line for line in batch.lines_to_lose() if not self.rules.is_frozen(line, self.today)]
        holds = [line for line in lines if is_hold(line)]
        orders = [line for line in lines if not is_hold(line)]
        missing -= sum(hold.qty for hold in holds)
        leaving = fewest(orders, missing)
        if missing <= 0 or leaving is None or len(orders) > MAX_PLANNED:
            return []
        task = Task(kinds_of(orders), self._places(batch), leaving, missing, None)
        placings = least_harmful(task, self._greedy_cut(batch, orders, missing), solve)
        return [*(Placing(hold, None) for hold in holds), *placings]

    def for_pinned(self, batch: Batch, line: OrderLine) -> Sequence[OrderLine]:
        """The lines that make room for a pinned line; raises `NotPinnable`."""
        found: list[OrderLine] = []
        missing = line.qty - batch.available_quantity
        lines = batch.lines_to_lose()
        while missing > 0:
            each = next(lines, None)
            if each is None:
                raise NotPinnable(
                    line,
                    batch.reference,
                    f"moving other lines leaves it {missing} short",
                    "Choose another batch, or recount this one.",
                )
            if self.rules.is_frozen(each, self.today):
                continue
            found.append(each)
            missing -= each.qty
            if self.rules.most_moved is not None and len(found) > self.rules.most_moved:
                raise NotPinnable(
                    line,
                    batch.reference,
                    f"more than {self.rules.most_moved} lines would have to move",
                    "Choose another batch, or allow more with most_moved.",
                )
        return found

    def _greedy_late(self, batch: Batch, late: Iterable[OrderLine], lost: Collection[OrderLine]) -> Sequence[Placing]:
        room = self._room()
        choice = Choice(self.sources, self.rules, self.today, room)
        self.keep(choice)
        placings: list[Placing] = []
        for line in sorted({*late, *lost}, key=self.service_key):
            better = choice.of(line)
            is_sooner = better is not None and better.day(self.today) < batch.day(self.today)
            if better is not None and (line in lost or (is_sooner and len(placings) != self.rules.most_moved)):
                room.take(better.key, line.qty)
                placings.append(Placing(line, better.key))
            elif line in lost:
                placings.append(Placing(line, None))
        return placings

    def _greedy_cut(self, batch: Batch, lines: Iterable[OrderLine], missing: int) -> Sequence[Placing]:
        """The new places of a batch's lines without a plan."""
        freed = []
        for line in lines:
            if missing <= 0:
                break
            freed.append(line)
            missing -= line.qty
        room = Room(self.sources)
        room.take(batch.key, batch.available_quantity + missing)
        choice = Choice(self.sources, self.rules, self.today, room)
        self.keep(choice)
        placings = []
        for line in sorted(freed, key=self.service_key):
            chosen = choice.of(line)
            if chosen is not None:
                room.take(chosen.key, line.qty)
            if chosen is None or chosen.reference != batch.reference:
                placings.append(Placing(line, chosen.key if chosen else None))
        return placings

    def _room(self) -> Room:
        room = Room(self.sources)
        for line, key in self.placed:
            if key is not None:
                room.take(key, line.qty)
        return room

    def _places(self, batch: Batch) -> list[Place]:
        """The other batches that lines may go to. There is no room for the solver where not any line may have it.

        The solver takes their room for independent: so the arrived part of a batch is not in the room of the rest.
        """
        room = self._room()
        for arrived in self.sources:
            if isinstance(arrived, Arrived):
                room[arrived.reference] -= arrived.available_quantity
        choice = Choice(self.sources, self.rules, self.today, room)
        self.keep(choice)
        kept = choice.kept and choice.kept.batchref
        return [
            Place(
                each.key,
                room[each.key] if each.reference != kept and self._is_for_any(each, batch) else 0,
                each.day(self.today),
            )
            for each in self.sources
            if each is not batch and room[each.key] > 0 and each.quarantine is None
        ]

    def _is_for_any(self, source: BatchSource, left: Batch) -> bool:
        """Whether any line that leaves the batch may have stock of that source as far as there is room."""
        if source.reference == left.reference or source.expires_on is not None:
            return False
        return not (source.eta is None and self.rules.safety_stock)


def stays(line: OrderLine) -> bool:
    """Whether it does not move because it is late: somebody put it where it is, or it is no order yet."""
    return is_pinned(line.priority) or is_hold(line)

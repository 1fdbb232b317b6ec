"""The rules by which a product's lines are promised: which batch comes first, and why one is passed over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Final, Generic, NamedTuple, TypeVar

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import RulesChanged
from allocation.domain.keeping import Kept
from allocation.domain.lines import HELD_PRIORITY, PINNED_PRIORITY, Fit, OrderLine, Today, days_late, is_pinned
from allocation.domain.stock import ARRIVED_MARK, Source

WAREHOUSE_FIRST: Final = "warehouse-first"
FIRST_EXPIRED: Final = "first-expired"
PREFERRED_LOCATION: Final = "preferred-location"
JUST_IN_TIME: Final = "just-in-time"

NO_ROOM: Final = "no room"
QUARANTINED: Final = "quarantined"
OVER: Final = "expired"
EXPIRES: Final = "expires too early"
SAFETY_STOCK: Final = "safety stock"
TOO_LATE: Final = "too late"
KEPT: Final = "kept for a backorder"

B = TypeVar("B", bound=Source)
Order = Callable[[Source], tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a product, as set by `RulesChanged`."""

    strategy: str = WAREHOUSE_FIRST
    location: str | None = None
    safety_stock: int = 0
    shelf_life_days: int = 0
    most_waiting: int | None = None
    ages_after: int | None = None
    frozen_days: int = 0
    most_moved: int | None = None
    least_harm: bool = False
    move_up: bool = False

    @classmethod
    def of(cls, event: RulesChanged, usual: Rules) -> Rules:
        """The rules that the event sets; the usual strategy where it names none, the usual ones if it names nothing."""
        said = {each.name: getattr(event, each.name) for each in fields(cls)}
        rules = cls(**said | {"strategy": event.strategy or usual.strategy})
        if rules.strategy == PREFERRED_LOCATION and rules.location is None:
            raise InvalidMessage(f"{rules.strategy} is without a location", "Name the one preferred as location.")
        return usual if event.strategy is None and rules == usual else rules

    @property
    def order(self) -> Order:
        """The key that puts the batches in the order they are looked at; among equals the one created first."""
        match self.strategy:
            case "first-expired":
                return lambda batch: (batch.expires_on or date.max, batch.eta or date.min, batch.position)
            case "preferred-location":
                return lambda batch: (batch.location != self.location, batch.eta or date.min, batch.position)
        return preference

    def service_key(self, line: OrderLine, version_number: int) -> tuple[int, int]:
        """The key that puts lines in the order they are served: by priority, then by age."""
        priority = self.aged_priority(line, version_number) if self.ages_after else line.priority
        return (-priority, line.position)

    def aged_priority(self, line: OrderLine, version_number: int) -> int:
        """The priority of a line, raised by its age."""
        if not self.ages_after or line.priority < 0:
            return line.priority
        return min(line.priority + (version_number - line.position) // self.ages_after, PINNED_PRIORITY)

    def is_frozen(self, line: OrderLine, today: Today) -> bool:
        """Whether the line is not displaced: it is needed soon, or somebody put it where it is."""
        if is_pinned(line.priority):
            return True
        return line.need_by is not None and self.frozen_days > 0 and (line.need_by - today.day).days <= self.frozen_days


USUAL: Final = Rules()


def usual_rules(strategy: str) -> Rules:
    """The rules of products that have none of their own."""
    return USUAL if strategy == USUAL.strategy else Rules(strategy)


def preference(batch: Source) -> tuple[date, int]:
    """Warehouse batches first, then the earliest ETA; among equals the one created first."""
    return (batch.eta or date.min, batch.position)


class Room(dict[str, int]):
    """The quantity that lines can still get of each source, by key.

    The part of a batch that has arrived shares its stock with the rest: no more is left of it than of the batch.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        super().__init__()
        # The free stock of the parts that have arrived, by itself: the lines on the rest may need it, too.
        self._arrived: dict[str, int] = {}
        self.admit(sources)
        self._summed: frozenset[str] = frozenset()
        self._sum = 0

    def admit(self, sources: Iterable[Source]) -> None:
        """Lines can get stock of these sources, too."""
        for source in sources:
            self[source.key] = source.available_quantity
            if source.is_part:
                self._arrived[source.key] = source.quantity - source.allocated_quantity

    def take(self, key: str, qty: int) -> None:
        """A line gets so much of that source; with a negative quantity, it gives it back."""
        if not self._arrived and not self._summed:  # as of most products: each batch is by itself
            self[key] -= qty
            return
        batch = key.removesuffix(ARRIVED_MARK)
        arrived = batch + ARRIVED_MARK
        before = self._sum_of(batch, arrived)
        self[batch] -= qty
        if arrived in self._arrived:
            self._arrived[arrived] -= qty if key == arrived else 0
            self[arrived] = min(self._arrived[arrived], self[batch])
        self._sum += self._sum_of(batch, arrived) - before

    def sum_up(self, keys: Iterable[str]) -> None:
        """Keep the sum over these sources from now on."""
        self._summed = frozenset(keys)
        self._sum = self._sum_of(*self._summed)

    @property
    def sum(self) -> int:
        """The quantity left of the sources that are summed up."""
        return self._sum

    def _sum_of(self, *keys: str) -> int:
        return sum(self[key] for key in keys if key in self._summed)


class Candidate(NamedTuple, Generic[B]):
    """A batch that was looked at for a line, and why it was passed over; empty if it can take the line."""

    batch: B
    obstacle: str


class Piece(NamedTuple, Generic[B]):
    """So much of a line, of that batch."""

    batch: B
    qty: int


class Choice(Generic[B]):
    """Chooses among the sources of one product for a line, in order, with a given free quantity in each."""

    def __init__(self, batches: Sequence[B], rules: Rules, today: Today, room: Room) -> None:
        self._rules = rules
        self._today = today
        self._room = room
        self._kept: Kept | None = None
        self.look_at(batches)

    def look_at(self, batches: Sequence[B]) -> None:
        """Choose among these, in their order."""
        self._batches = tuple(batches)  # others may be drawn from the records meanwhile
        self._on_sale = [batch for batch in batches if batch.quarantine is None and self._lasts(batch, None)]
        if self._rules.safety_stock:
            self._room.sum_up(batch.key for batch in self._on_sale if batch.eta is None)

    def keep(self, oldest: Callable[[Sequence[Fit]], OrderLine | None], version_number: int) -> None:
        """Keep stock for the ``oldest`` line that waits and fits into a batch with free stock, if it has aged.

        Of the batches that could hold the line at all, it is the one with the most free stock, as it is now.
        """
        self._kept = None
        roomy = [batch for batch in self._on_sale if self._room[batch.key] > 0]
        fits = [Fit(self._capacity(batch), self.last_day(batch) or date.max) for batch in roomy]
        line = oldest(wide) if (wide := _widest(fits, key=lambda fit: -fit.day.toordinal())) else None
        if line is None or not self._rules.ages_after or version_number - line.position < self._rules.ages_after:
            return
        able = [each for each in roomy if self._capacity(each) >= line.qty and self._lasts(each, line.need_by)]
        if able:
            batch = max(able, key=lambda batch: self._room[batch.key])
            self._kept = Kept(line, batch.reference, self._rules.aged_priority(line, version_number))

    @property
    def kept(self) -> Kept | None:
        """The line that stock is kept for, and where."""
        return self._kept

    def _capacity(self, batch: B) -> int:
        """The most that a line could get there if all others left."""
        return batch.capacity - (self._rules.safety_stock if batch.eta is None else 0)

    def _is_kept(self, batch: B, line: OrderLine) -> bool:
        return self._kept is not None and self._kept.batchref == batch.reference and not self._kept.is_for(line)

    def of(self, line: OrderLine) -> B | None:
        """The batch that takes the whole line.

        A day after the one it is needed by is better than none: then it is the earliest there is.
        """
        if line.need_by is None and not self._rules.safety_stock:  # as most are; there may be ten thousand of them
            for batch in self._on_sale:
                if self._room[batch.key] >= line.qty and not (self._kept and self._is_kept(batch, line)):
                    return batch
            return None
        on_time = None
        late: B | None = None
        for batch, obstacle in self.candidates(line):
            if not obstacle:
                on_time = batch
                if self._rules.strategy != JUST_IN_TIME or line.need_by is None:
                    break
            elif obstacle == TOO_LATE and (late is None or preference(batch) < preference(late)):
                late = batch
        return on_time or late

    def piece(self, line: OrderLine) -> Piece[B] | None:
        """The part of a line that no batch can take whole: all free stock of its first batch."""
        batch = self.of(replace(line, qty=1))
        if batch is None:
            return None
        return Piece(batch, self._most(batch))

    def source(self, key: str) -> B:
        """The one with this key."""
        return next(batch for batch in self._batches if batch.key == key)

    def on_time(self, line: OrderLine) -> B | None:
        """The batch that takes the whole line by the day it is needed."""
        batch = self.of(line)
        return batch if batch is not None and not self._is_late(batch, line) else None

    def can_take(self, batch: B, line: OrderLine) -> bool:
        """Whether the batch can take the whole line, on time or not."""
        return self._obstacle(batch, line) in {"", TOO_LATE}

    def lasts_for(self, batch: B, line: OrderLine) -> bool:
        """Whether the batch does not expire too early for the line. For a pinned line, somebody decides that."""
        if is_pinned(line.priority):
            return batch.expires_on is None or batch.day(self._today) <= batch.expires_on
        return self._lasts(batch, line.need_by)

    def fits(self, only: str | None = None, priority: int = 0, after: int = 0) -> Sequence[Fit]:
        """The lines of that priority, after that position, that find room; ``day`` is the last one.

        They find it in the batch of that reference, or in any (None). With a safety stock, another batch than the one
        that grew may get free stock, so then it is any batch. Stock that is kept for a line before them is no room.
        """
        everywhere = only is None or bool(self._rules.safety_stock)
        kept = self._kept.batchref if self._kept is not None and not self._kept.is_for_any(priority, after) else None
        found = [
            Fit(self._most(batch), self.last_day(batch) or date.max)
            for batch in self._on_sale
            if (everywhere or batch.reference == only) and batch.reference != kept
        ]
        return _widest(found, key=lambda fit: -fit.day.toordinal())

    def fits_in_time(self, only: Collection[str] | None = None) -> Sequence[Fit]:
        """The lines that find room in time: in the sources of these keys, or in any (None); ``day`` is the first."""
        found = [
            Fit(self._most(batch), batch.day(self._today))
            for batch in self._on_sale
            if only is None or batch.key in only
        ]
        return _widest(found, key=lambda fit: fit.day.toordinal())

    def _most(self, batch: B) -> int:
        """The largest line that finds room there."""
        room = self._room[batch.key]
        if batch.eta is None and self._rules.safety_stock:
            return min(room, self._room.sum - self._rules.safety_stock)
        return room

    def candidates(self, line: OrderLine) -> Iterator[Candidate[B]]:
        """The batches in the order looked at. For a line just in time, the last without an obstacle is taken."""
        return (Candidate(batch, self._obstacle(batch, line)) for batch in self._batches)

    def _obstacle(self, batch: B, line: OrderLine) -> str:  # noqa: PLR0911 - one for each obstacle
        if batch.quarantine is not None:
            return QUARANTINED
        if batch.expires_on is not None and batch.expires_on < self._today.day:
            return OVER
        if not self._lasts(batch, line.need_by):
            return EXPIRES
        if self._room[batch.key] < line.qty:
            return NO_ROOM
        if batch.eta is None and self._rules.safety_stock and self._room.sum - line.qty < self._rules.safety_stock:
            return SAFETY_STOCK
        if self._kept is not None and self._is_kept(batch, line):
            return KEPT
        return TOO_LATE if self._is_late(batch, line) else ""

    def _is_late(self, batch: B, line: OrderLine) -> bool:
        return line.need_by is not None and batch.day(self._today) > line.need_by

    def last_day(self, batch: B) -> date | None:
        """The last day for which it can be promised; None: whichever."""
        return batch.expires_on and batch.expires_on - timedelta(days=self._rules.shelf_life_days)

    def _lasts(self, batch: B, need_by: date | None) -> bool:
        """Whether it can be used for long enough after the day it is there and needed."""
        if batch.expires_on is None:
            return True
        from_day = max(batch.day(self._today), need_by or self._today.day)
        return (batch.expires_on - from_day).days >= self._rules.shelf_life_days


def _widest(fits: Iterable[Fit], key: Callable[[Fit], int]) -> Sequence[Fit]:
    """The fits that no other one includes, the largest quantity first; the lower key is the wider one."""
    found: list[Fit] = []
    for fit in sorted(fits, key=lambda fit: (-fit.qty, key(fit))):
        if fit.qty > 0 and (not found or key(fit) < key(found[-1])):
            found.append(fit)
    return found


def late_days(line: OrderLine, day: date | None) -> int:
    """By how many days the line is late when its stock is there on that day."""
    return days_late(line.need_by, day)


def is_hold(line: OrderLine) -> bool:
    return line.priority == HELD_PRIORITY

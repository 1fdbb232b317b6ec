"""The state of a product, and the only two ways to change it: by a fact about a line, and by one about stock."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Final

from allocation.domain import events
from allocation.domain.batches import Batch, BatchSource, by_age
from allocation.domain.leaving import Plan
from allocation.domain.lines import FREED, NO_DAY, PASSING, Fit, OrderLine, Promise, Today, own_priority
from allocation.domain.records import NO_RECORDS, Records
from allocation.domain.rules import USUAL, Choice, Room, Rules, late_days
from allocation.domain.standing import GIVEN, STOCK, apply, cut_off
from allocation.domain.waiting import WaitingLines, fits_into, stays_whole

_UNASKED: Final = Today(date.min, date.min)  # for products that are asked nothing about days


DayOf = Callable[[OrderLine], date]


class ChangedWithoutFact(RuntimeError):
    """A product is not as its facts say. That is a bug in a rule: the ledger would contradict the product."""


class ProductState:
    """One SKU: its batches, and the lines promised from them or waiting. The unit of locking.

    ``version_number`` counts the changes; the position of a batch or line is the version that brought it.
    ``changed_batches`` and ``changed_promises`` are the rows to write. ``events`` are for the bus to handle next.
    ``given`` are facts of types that senders can send too; except for the message itself, they are recorded as its
    consequences. ``today`` is the day that stock in the warehouse is promised for.
    """

    def __init__(  # noqa: PLR0913 - the seed's three, and stored values
        self,
        sku: str,
        batches: Iterable[Batch],
        version_number: int = 0,
        *,
        waiting_lines: int = 0,
        rules: Rules = USUAL,
        usual_rules: Rules = USUAL,
        today: Today = _UNASKED,
        retired: bool = False,
        records: Records = NO_RECORDS,
    ) -> None:
        self.sku = sku
        self.rules = rules
        self.usual_rules = usual_rules
        self.batches = list(batches)
        self._sources: Sequence[BatchSource] = ()
        self._arrange()
        self.version_number = version_number
        self.waiting_lines = waiting_lines
        self.today = today
        self.retired = retired
        self.events: list[events.Event] = []
        self.given: list[events.Event] = []
        self._records = records
        self._changed_batches: dict[str, Batch] = {}
        self._changed_promises: dict[str, Promise] = {}
        self._waiting = WaitingLines(records)
        self._days: dict[str, date | None] = {}  # by order id: the day of a line that has no place now
        self._untold: dict[str, date | None] = {}  # by order id: the day a line was promised for at first
        self._called_at: dict[str, int] = {}  # by order id: the version at which a line was called
        self._as_of = 0  # the version at which lines have their age, if that is not the present one
        self._moves_up = 0  # how often late lines will be moved up before the message is done
        self._plan = Plan()
        self._repaired = False
        self._told_version, self._told_waiting, self._told_rules = version_number, waiting_lines, rules

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.sku}>"

    @property
    def changed_batches(self) -> Mapping[str, Batch]:
        """By reference."""
        return self._changed_batches

    @property
    def changed_promises(self) -> Mapping[str, Promise]:
        """By order id."""
        return self._changed_promises

    def promise(self, orderid: str) -> Promise | None:
        """The order's line and its place; None if it was never ordered, or lost its batch a moment ago."""
        known = self._standing(orderid)
        return None if known is None or known.closed in PASSING else known

    def batch(self, ref: str) -> Batch | None:
        """The batch with that reference, whether it has room or not."""
        known = next((batch for batch in self.batches if batch.reference == ref), None)
        if known is None and (known := self._records.batch(ref)) is not None:
            insort(self.batches, known, key=self.rules.order)
            if known.arrived is not None or self._sources is not self.batches:
                self._arrange()
        return known

    def begin(self, usual_rules: Rules, today: Today) -> None:
        """A product that is new has the usual rules."""
        self.rules = self.usual_rules = self._told_rules = usual_rules
        self.today = today

    def check_told(self) -> None:
        """Raise `ChangedWithoutFact` if anything changed that no fact explains."""
        told = self._told_version, self._told_waiting, self._told_rules
        now = self.version_number, self.waiting_lines, self.rules
        if now != told or any(batch.unexplained for batch in self.batches):
            raise ChangedWithoutFact(f"{self.sku} changed without a fact; only Product._tell and _tell_stock change it")

    def leave_changes(self) -> bool:
        """Be as if loaded again, with all changes in the records; False if not all of them can be there."""
        if self._records is NO_RECORDS or self._days or self._untold or self.events:
            return False
        for batch in self._changed_batches.values():
            batch.leave_lines(self._records)
            if batch.available_quantity == 0:
                self.batches.remove(batch)
        if self._sources is not self.batches:
            self._arrange()
        self._changed_batches = {}
        self._changed_promises = {}
        self._waiting.clear()
        self._plan.clear()
        self._repaired = False
        return True

    # Facts

    def _tell(self, fact: events.Event, before: Promise | None) -> Promise:
        """Tell a fact about a line, which changes it; return the line with its place."""
        version = self.version_number
        after = apply(self, before, fact)
        self._told_version += self.version_number - version
        self._changed_promises[after.line.orderid] = after
        self.events.append(fact)
        return after

    def _tell_stock(self, fact: events.Event) -> None:
        """Tell a fact about a batch or about the product, which changes it."""
        version = self.version_number
        STOCK[type(fact)](self, fact)
        self._told_version += self.version_number - version
        self._arrange()
        (self.given if type(fact) in GIVEN else self.events).append(fact)

    # The ways of a line

    def _place(self, known: Promise, source: BatchSource) -> None:
        """The line gets stock of that source."""
        if not source.is_part:
            self._changed_batches[source.reference] = source
        line = known.line
        self._tell(events.Allocated(line.orderid, line.sku, line.qty, source.reference, source.is_part), known)
        if self._days and line.orderid in self._days:
            self._tell_day(line, self._days.pop(line.orderid), source.day(self.today))

    def _wait(self, known: Promise) -> None:
        line = known.line
        self._tell(events.Backordered(line.orderid, line.sku, line.qty), known)
        if line.orderid in self._days:
            self._tell_day(line, self._days.pop(line.orderid), None)
        self.events.append(events.OutOfStock(line.sku))

    def _cut(self, known: Promise, part: OrderLine) -> tuple[Promise, Promise]:
        """Cut the rest off a line; return both. The rest gets its position after the line got its own."""
        position = self.version_number + (1 if known.closed == FREED else 2)
        fact = events.Split(part.orderid, self.sku, part.qty, part.rest, part.next_part, position)
        cut = self._tell(fact, known)
        return cut, cut_off(cut, fact)

    def _free(self, known: Promise, day: date) -> Promise:
        """The line loses its batch and needs a new place; it was promised for that day."""
        line = known.line
        self._days[line.orderid] = day
        return self._tell(events.Deallocated(line.orderid, self.sku, line.qty, known.batchref or ""), known)

    def _free_all(self, lines: Iterable[OrderLine], batch: Batch, day_of: DayOf) -> None:
        for line in lines:
            self._free(Promise(line, batch.reference), day_of(line))

    def _end_hold(self, known: Promise, how: str) -> None:
        hold = known.line
        self._tell(events.HoldEnded(hold.orderid, self.sku, hold.qty, known.batchref, how), known)

    def _tell_day(self, line: OrderLine, before: date | None, after: date | None, *, later: bool = False) -> None:
        """Tell a line its new day; ``later``, if late lines are moved up first: it may have another one then."""
        if later or self._moves_up:
            self._untold.setdefault(line.orderid, before)
            return
        if before != after:
            before, after = None if before == NO_DAY else before, None if after == NO_DAY else after
        if before != after:
            late = late_days(line, after)
            self.events.append(events.PromiseChanged(line.orderid, line.sku, line.qty, before, after, late))

    def _require(self, line: OrderLine) -> None:
        asked = (line.orderid, line.sku, line.qty, line.need_by, own_priority(line.priority), line.part > 0)
        self.events.append(events.AllocationRequired(*asked))

    # For facts alone: `standing.Evolving`

    def stock(self, ref: str) -> Batch:
        if ref not in self._changed_batches:
            self._changed_batches[ref] = self._known_batch(ref)
        batch = self._changed_batches[ref]
        batch.unexplained -= 1
        return batch

    def take_in(self, event: events.BatchCreated) -> Batch:
        return self._changed_batches[event.ref]

    def retire(self, *, retired: bool) -> bool:
        before, self.retired = self.retired, retired
        return before != retired

    def take_rules(self, event: events.RulesChanged) -> None:
        self.rules = self._told_rules = Rules.of(event, self.usual_rules)

    def begin_waiting(self, line: OrderLine) -> None:
        self.waiting_lines += 1
        self._told_waiting += 1
        self._waiting.add(line)

    def end_waiting(self, line: OrderLine) -> None:
        self.waiting_lines -= 1
        self._told_waiting -= 1
        self._waiting.discard(line)

    def correct_waiting(self, number: int) -> None:
        self._told_waiting += number - self.waiting_lines
        self.waiting_lines = number

    # Look-ups

    def _standing(self, orderid: str) -> Promise | None:
        """The order's line and its place, or that it has none at this moment."""
        known = self._changed_promises.get(orderid)
        return self._records.promise(orderid) if known is None else known

    def _is_free(self, orderid: str) -> bool:
        """Whether no line has this order id, so that a part may."""
        return self._standing(orderid) is None

    def _known_batch(self, ref: str) -> Batch:
        batch = self.batch(ref)
        if batch is None:
            raise LookupError(f"product {self.sku} has no batch {ref}")
        return batch

    def _source_of(self, known: Promise) -> BatchSource:
        """The source of a line that has a batch."""
        return self._known_batch(known.batchref or "").source_of(known.line)

    def _day_of(self, known: Promise) -> date:
        """The day of the stock of a line that has a batch."""
        return self._source_of(known).day(self.today)

    def _days_on(self, batch: Batch) -> DayOf:
        """The days of the lines on a batch as it is now, for when it has changed."""
        day, is_in_parts = batch.day(self.today), batch.arrived is not None
        return lambda line: self.today.day if is_in_parts and line.arrived else day

    def choice(self) -> Choice[BatchSource]:
        """The batches as they are now, to choose from for a line."""
        return self._choice(self._room())

    def _choice(self, room: Room) -> Choice[BatchSource]:
        choice = Choice(self._sources, self.rules, self.today, room)
        self._keep(choice)
        return choice

    def _keep(
        self, choice: Choice[BatchSource], served: Collection[str] = (), others: Sequence[OrderLine] = ()
    ) -> None:
        """Keep stock for the oldest line that waits, as if lines were ``served``, and ``others``, by age, waited."""
        if not self.rules.ages_after or not (self.waiting_lines or others):
            return

        def oldest(fits: Sequence[Fit]) -> OrderLine | None:
            is_gone = self._changed_promises.__contains__
            waiting = self._waiting.oldest(fits, is_gone, served.__contains__) if self.waiting_lines else None
            other = next((line for line in others if stays_whole(line) and fits_into(line, fits)), None)
            return min(filter(None, (waiting, other)), key=by_age, default=None)

        choice.keep(oldest, self._as_of or self.version_number)

    def _room(self) -> Room:
        return Room(self._sources)

    def _arrange(self) -> None:
        """Put the batches in the order that they are looked at, with the arrived parts among them."""
        self.batches.sort(key=self.rules.order)
        arrived = [batch.arrived for batch in self.batches if batch.arrived is not None]
        self._sources = sorted([*self.batches, *arrived], key=self.rules.order) if arrived else self.batches

    def _choose(self, line: OrderLine) -> BatchSource | None:
        if self._plan and (planned := self._plan.pop(line.orderid, None)):
            source = next(source for source in self._sources if source.key == planned)
            if source.available_quantity >= line.qty:  # though blocked goods may be on the move with their lines
                return source
        if self.rules is not USUAL or line.need_by is not None:
            return self.choice().of(line)
        for batch in self._sources:
            if batch.can_allocate(line):
                if batch.expires_on is not None:
                    return self.choice().of(line)
                return batch
        return None

"""The books: a product as the ledger has it, one fact applied after the other.

Nothing here reads or writes. `Books` applies the table of `allocation.domain.standing`, as the product does when it
tells the fact, and names the contradictions. It remembers batches but no lines, however many there are; `PastProduct`
remembers the lines, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, NamedTuple

from allocation.domain.events import (
    Allocated,
    AllocationRequired,
    Backordered,
    BatchCreated,
    Deallocated,
    Event,
    Held,
    RulesChanged,
    Split,
)
from allocation.domain.lines import ASKED, FREED, OrderLine, Promise
from allocation.domain.standing import FACTS, LINES, STOCK, apply, cut_off
from allocation.domain.stock import Stock
from allocation.service_layer.messages import recall

BOOKED: Final[Sequence[type[Event]]] = FACTS
WAITING: Final = "waiting"


class Fact(NamedTuple):
    """A message of the ledger that changes the books; ``orderid`` is None if it is about no line."""

    position: int
    sku: str
    type: str
    orderid: str | None
    body: str


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a product's books begin: the sums over closed lines that were deleted.

    ``version_number`` counts their changes; ``shipped`` is their shipped quantity by batch. All
    their messages were recorded by ``recorded_at`` (None: there are none), at positions up to ``position``.
    """

    version_number: int = 0
    shipped: Mapping[str, int] = field(default_factory=dict)
    position: int = 0
    recorded_at: datetime | None = None


NOTHING_GONE: Final = Opening()


class Difference(NamedTuple):
    """A stored value and the expected one; ``position`` is that of the last message about it, as far as known."""

    kind: str
    sku: str
    name: str  # of the batch, order or message it is about; otherwise the SKU
    stored: object
    expected: object
    position: int | None = None


class Booked(NamedTuple):
    """A line or hold as the ledger has it; ``last`` is the position of the last message about it."""

    promise: Promise
    last: int

    @property
    def line(self) -> OrderLine:
        return self.promise.line

    @property
    def place(self) -> str:
        return place_of(self.promise.batchref, self.promise.closed)


class Books:
    """One product as the ledger has it.

    Facts about no line come in their order, and so do the facts about one line; the order of different lines does not
    matter. One exception: a part of a line gets its terms from the `Split` of the part before it. ``rules`` is the last
    `RulesChanged`, None if there was none; ``last`` is the position of the last message, by batch.
    """

    def __init__(self, sku: str, opening: Opening = NOTHING_GONE) -> None:
        self.sku = sku
        self.version_number = opening.version_number
        self.waiting_lines = 0
        self.batches: dict[str, Stock] = {}
        self.last: dict[str, int] = {}
        self.contradictions: list[Difference] = []
        self.rules: RulesChanged | None = None
        self.retired = False
        self.rules_position: int | None = None
        self._position = 0  # of the message now booked
        self._opening = opening
        self._asked: dict[str, Promise] = {}  # lines without a place yet, by order id
        self._cut_from: dict[str, str] = {}  # parts cut off a part that has no terms yet

    def book(self, fact: Fact, line: Booked | None = None) -> Booked | None:
        """Book the next message; ``line`` is the line it is about as it was, returned is the line as it is now."""
        event = recall(fact.type, fact.body)
        self._position = fact.position
        if type(event) in STOCK:
            STOCK[type(event)](self, event)
            return None
        if type(event) not in LINES or fact.orderid is None:  # a row kept for others is no longer about its line
            return line
        if isinstance(event, AllocationRequired) and line is not None:
            return line
        return self._book_line(event, fact.orderid, line)

    def terms_of(self, line: OrderLine) -> OrderLine:
        """The line with its terms, for a part that was booked before its `Split`."""
        asked = self._asked.get(line.orderid)
        if asked is not None:
            known = asked.line
        elif line.orderid in self._cut_from:
            whole = self.terms_of(OrderLine(self._cut_from[line.orderid], line.sku, 1))
            known = replace(whole, part=whole.part + 1)
        else:
            return line
        return replace(line, need_by=known.need_by, priority=line.priority + known.priority, part=known.part)

    def _book_line(self, event: Event, orderid: str, line: Booked | None) -> Booked | None:
        before = self._checked(event, orderid, line)
        after = apply(self, before, event)
        if isinstance(event, Split):
            if after.line.part:
                self._asked[event.next_part] = cut_off(after, event)
            else:
                self._cut_from[event.next_part] = event.orderid
        if after.closed == ASKED:
            self._asked[orderid] = after
            return None
        return Booked(after, self._position)

    def _checked(self, event: Event, orderid: str, line: Booked | None) -> Promise | None:
        """The line before the event; if the two do not fit, the ledger contradicts itself."""
        if line is None:
            return self._before_first(event, orderid)
        before, place = line.promise, line.place
        match event:
            case Allocated(batchref=ref) if before.batchref is not None:
                self._contradict(orderid, f"{place}, then {place_of(ref)}", "freed first")
            case Allocated(qty=qty) if before.line.qty != qty:
                self._contradict(orderid, f"quantity {qty}", f"quantity {before.line.qty}")
                return before._replace(line=replace(before.line, qty=qty))
            case Deallocated(batchref=ref) if before.batchref != ref:
                self._contradict(orderid, f"{place}, then freed", f"{place_of(ref)}, then freed")
            case Backordered() if before.closed != FREED:
                self._contradict(orderid, f"{place}, then {WAITING}", "freed first")
        return before

    def _before_first(self, event: Event, orderid: str) -> Promise | None:
        """The initial record of a line from its first event."""
        match event:
            case AllocationRequired():  # the name may have been another line's
                return None
            case Split():
                return self._asked.get(orderid)
            case Deallocated(batchref=ref):
                self._contradict(orderid, "nowhere, then freed", f"{place_of(ref)}, then freed")
            case Allocated() | Backordered() | Held():
                pass
            case _:
                self._contradict(orderid, f"nowhere, then {type(event).__name__}", "taken first")
        return self._asked.pop(orderid, None)

    # `standing.Evolving`

    def stock(self, ref: str) -> Stock:
        batch = self.batches.get(ref)
        if batch is None:
            self._contradict(ref, "used", "created first")
            batch = self.batches[ref] = Stock(ref, self.sku, 0)
        self.last[ref] = max(self.last.get(ref, 0), self._position)
        return batch

    def take_in(self, event: BatchCreated) -> Stock:
        if event.ref not in self.batches:
            gone = self._opening.shipped.get(event.ref, 0)
            batch = self.batches[event.ref] = Stock.bought(event)
            batch.correct(allocated=gone, shipped=gone)
            self.last[event.ref] = self._position
        return self.batches[event.ref]

    def retire(self, *, retired: bool) -> bool:
        before, self.retired = self.retired, retired
        return before != retired

    def take_rules(self, event: RulesChanged) -> None:
        self.rules, self.rules_position = event, self._position

    def begin_waiting(self, line: OrderLine) -> None:
        self.waiting_lines += 1

    def end_waiting(self, line: OrderLine) -> None:
        self.waiting_lines -= 1

    def correct_waiting(self, number: int) -> None:
        """The books count the lines themselves."""

    def _contradict(self, name: str, stored: str, expected: str) -> None:
        self.contradictions.append(Difference("ledger", self.sku, name, stored, expected, self._position))


class PastProduct:
    """A product at a moment: its books after the facts recorded until then, and every line by order id."""

    def __init__(self, sku: str, facts: Iterable[Fact], opening: Opening = NOTHING_GONE) -> None:
        """``facts`` are those of the product, in the order of the ledger, at least as far as its opening."""
        self.sku = sku
        self.books = Books(sku, opening)
        self.lines: dict[str, Promise] = {}
        self._booked: dict[str, Booked] = {}
        self.book(facts)

    def book(self, facts: Iterable[Fact]) -> None:
        """Book the facts that follow."""
        for fact in facts:
            if fact.orderid is None:
                self.books.book(fact)
            elif (line := self.books.book(fact, self._booked.get(fact.orderid))) is not None:
                self._booked[fact.orderid] = line
        self.lines = {orderid: line.promise for orderid, line in self._booked.items()}

    def set_positions(self, positions: Mapping[str, int]) -> None:
        """Give lines the positions that storage has, by order id: those of deleted lines are not in the ledger."""
        for orderid, position in positions.items():
            line, batchref, closed = self.lines[orderid]
            self.lines[orderid] = Promise(line.at(position), batchref, closed)

    def lines_on(self, ref: str | None) -> list[Promise]:
        """The lines with stock of a batch, shipped ones too, or the waiting lines (None); oldest first."""
        found = [
            promise
            for promise in self.lines.values()
            if promise.batchref == ref and (ref is not None or promise.closed is None)
        ]
        return sorted(found, key=lambda promise: promise.line.position)


def past_order(facts: Iterable[Fact]) -> Mapping[tuple[str, str], Promise]:
    """Lines by SKU and order id. ``facts`` are those of an order and of its parts, in the order of the ledger."""
    books: dict[str, Books] = {}
    lines: dict[tuple[str, str], Booked] = {}
    for fact in facts:
        assert fact.orderid is not None  # noqa: S101 - as they are about lines
        of_line = fact.sku, fact.orderid
        line = books.setdefault(fact.sku, Books(fact.sku)).book(fact, lines.get(of_line))
        if line is not None:
            lines[of_line] = line
    return {of_line: line.promise for of_line, line in lines.items()}


def parts_cut_off(facts: Iterable[Fact]) -> list[str]:
    """The order ids of the parts that were cut off."""
    events = (recall(fact.type, fact.body) for fact in facts if fact.type == Split.__name__)
    return [event.next_part for event in events if isinstance(event, Split)]


def place_of(ref: str | None, closed: str | None = None) -> str:
    place = f"on {ref}" if ref else WAITING
    if closed is not None:
        return f"{closed} from {ref}" if ref else closed
    return place

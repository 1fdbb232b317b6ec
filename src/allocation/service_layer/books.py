"""The books: what the ledger alone says of a product, replayed into a second state, and compared with the rows.

Nothing here reads or writes. `Books` books one message after the other; `audit` goes through one product's rows and
messages side by side, in the order of their keys, so that it remembers batches but no lines, however many there are.
What a line was asked for with is told to the books where it is unusual: of most lines there is nothing to tell.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import (
    STRATEGIES,
    Allocated,
    AllocatedQuantityRepaired,
    AllocationRequired,
    Backordered,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    Cancelled,
    Deallocated,
    Event,
    Held,
    HoldEnded,
    MoveUpRequired,
    Pinned,
    Resized,
    Returned,
    RulesChanged,
    Shipped,
    ShippedQuantityRepaired,
    Split,
    StockScrapped,
    WaitingLinesRepaired,
)
from allocation.domain.lines import (
    CANCELLED,
    HELD_PRIORITY,
    LOST,
    PART_MARK,
    PINNED_PRIORITY,
    RETURNED,
    SHIPPED,
    is_pinned,
    own_priority,
)
from allocation.domain.rules import USUAL, Rules
from allocation.service_layer.messages import UNREADABLE, recall
from allocation.service_layer.store import BatchRow, LineRow, ProductRow

# The events that change the books. The others ask for something, or tell somebody.
BOOKED: Final[Sequence[type[Event]]] = (
    BatchCreated,
    BatchQuantityChanged,
    BatchEtaChanged,
    BatchReceived,
    BatchQuarantined,
    BatchReleased,
    RulesChanged,
    MoveUpRequired,
    Allocated,
    Deallocated,
    Backordered,
    Cancelled,
    Resized,
    Split,
    Shipped,
    Returned,
    StockScrapped,
    Pinned,
    Held,
    HoldEnded,
    AllocatedQuantityRepaired,
    ShippedQuantityRepaired,
    WaitingLinesRepaired,
)
MAX_DIFFERENCES = 1_000  # kept in a report; beyond that they are only counted
WAITING = "waiting"

KINDS: Final = {
    "allocated-quantity": "a batch's counter is not what its lines add up to",
    "waiting-lines": "a product's counter is not the number of its waiting lines",
    "oversold": "the lines on a batch add up to more than was purchased",
    "rules-differ": "a product's rules are not those it was last given",
    "version": "a product's version number is not the number of its changes",
    "position": "a batch or line has a position that its product never gave",
    "product-missing": "there are batches, lines or messages of a product that is not there",
    "batch-missing": "the ledger has a batch that is not there",
    "batch-unexplained": "there is a batch that the ledger does not have",
    "batch-differs": "a batch is not as it was bought, or as it was said to be since",
    "purchased-quantity": "a batch's quantity is not as last counted",
    "shipped-quantity": "what is counted as shipped of a batch is not what its shipped lines add up to",
    "unknown-batch": "a line stands on a batch that its product does not have",
    "line-missing": "the ledger has a line that is not there",
    "line-unexplained": "there is a line that the ledger does not have",
    "line-elsewhere": "a line stands elsewhere than the ledger says",
    "line-differs": "a line is not as it was ordered, held, split or pinned",
    "ledger": "the ledger contradicts itself: a message is missing, or out of order",
}
COUNTERS: Final = frozenset({"allocated-quantity", "shipped-quantity", "waiting-lines"})
# While one of these is open, nobody knows what a product's counters should say.
DOUBTS: Final = frozenset(
    kind
    for kind in KINDS
    if kind.startswith(("batch-", "line-")) or kind in {"product-missing", "unknown-batch", "position"}
)


class Fact(NamedTuple):
    """A message of the ledger that changed the books; ``orderid`` is None if it is about no line."""

    position: int
    sku: str
    type: str
    orderid: str | None
    body: str


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a product's books begin: what the lines that are kept no longer came to.

    ``version_number`` counts their changes; ``shipped`` is by batch what they took with them, and counts as allocated.
    All of their messages were recorded by this moment (None: there are none), at positions up to this one.
    """

    version_number: int = 0
    shipped: Mapping[str, int] = field(default_factory=dict)
    position: int = 0
    recorded_at: datetime | None = None


NOTHING_GONE: Final = Opening()


class Difference(NamedTuple):
    """What is stored and what it should be; ``position`` is that of the last message about it, as far as known."""

    kind: str
    sku: str
    name: str  # of the batch, order or message it is about; otherwise the SKU
    stored: object
    expected: object
    position: int | None = None


@dataclass(slots=True)
class BookedBatch:
    """A batch as the ledger has it; ``last`` is the position in the ledger of the last message about it."""

    eta: date | None
    purchased_quantity: int
    position: int
    initial_quantity: int
    last: int
    initial_eta: date | None = None
    quarantine: str | None = None
    allocated_quantity: int = 0
    shipped_quantity: int = 0
    location: str | None = None
    expires_on: date | None = None


class Terms(NamedTuple):
    """What a line was asked for with; ``part`` is which part it is of one that may be split, 0: it stays whole."""

    need_by: date | None = None
    priority: int = 0
    part: int = 0


AS_USUAL: Final = Terms()


class BookedLine(NamedTuple):
    """A line or hold as the ledger has it. ``freed``: it lost its batch and has not found its place yet.

    ``pinned`` is the position in the ledger of the message that put it on its batch by hand, 0: none did; ``rest`` is
    what was cut off it.
    """

    qty: int
    batchref: str | None
    last: int
    freed: bool = False
    closed: str | None = None
    expires_at: datetime | None = None
    terms: Terms = AS_USUAL
    pinned: int = 0
    rest: int = 0

    @property
    def priority(self) -> int:
        """As storage has it: that of a hold, or its own and that of being pinned."""
        if self.expires_at is not None:
            return HELD_PRIORITY
        return self.terms.priority + (PINNED_PRIORITY if self.pinned else 0)

    @property
    def place(self) -> str:
        return "freed" if self.freed else _place(self.batchref, self.closed)


class Books:
    """One product as the ledger has it.

    The messages about no line come first or in between, in their order; those about one line in theirs. What two
    lines did first does not matter, but that a part knows what it was asked for with only once it was cut off.
    ``rules`` are those the product was last given, None: it never was given any.
    """

    def __init__(self, sku: str, opening: Opening = NOTHING_GONE) -> None:
        self.sku = sku
        self.version_number = opening.version_number
        self.batches: dict[str, BookedBatch] = {}
        self.contradictions: list[Difference] = []
        self.rules: RulesChanged | None = None
        self.rules_position: int | None = None  # in the ledger
        self._opening = opening
        self._asked: dict[str, BookedLine] = {}  # what is known of lines that have no place yet, by order id
        self._cut_from: dict[str, str] = {}  # the parts of parts of which that is not known

    def terms_of_part(self, orderid: str) -> Terms:
        """What a part was asked for with that was cut off only after its own messages were booked."""
        if orderid in self._asked:
            return self._asked[orderid].terms
        if orderid not in self._cut_from:
            return AS_USUAL
        terms = self.terms_of_part(self._cut_from[orderid])
        return terms._replace(part=terms.part + 1)

    def book(  # noqa: PLR0911 - a way to be booked each
        self, fact: Fact, line: BookedLine | None = None
    ) -> BookedLine | None:
        """Book the next message; ``line`` is what the line it is about was before, returned is what it is now."""
        event = recall(fact.type, fact.body)
        match event:
            case Allocated():
                return self._allocated(event, line, fact.position)
            case Deallocated():
                return self._deallocated(event, line, fact.position)
            case Backordered():
                return self._backordered(event, line, fact.position)
            case Held():
                return self._held(event, line, fact.position)
            case AllocationRequired() | Split():  # which come before the line is placed, or first of all
                return self._asked_for(event, line, fact)
            case Cancelled() | Resized() | Shipped() | Returned() | Pinned() | HoldEnded():
                if line is None:
                    self._contradiction(fact.orderid or "", f"nowhere, then {fact.type}", "taken first", fact.position)
                    line = BookedLine(event.qty, None, last=fact.position)
                return self._book_change(event, line, fact.position)
        self._book_batch(event, fact.position)
        return None

    def _allocated(self, event: Allocated, line: BookedLine | None, position: int) -> BookedLine:
        if line is not None and line.batchref is not None:
            self._contradiction(event.orderid, f"{line.place}, then {_place(event.batchref)}", "freed first", position)
        elif line is not None and line.qty != event.qty:
            self._contradiction(event.orderid, f"quantity {event.qty}", f"quantity {line.qty}", position)
        self._change_unless_freed(line)
        batch = self._touched(event.batchref, position)
        batch.allocated_quantity += event.qty
        known = line or self._asked.pop(event.orderid, None)
        if known is None:  # as nearly always
            return BookedLine(event.qty, event.batchref, position)
        by_hand = known.pinned if known.pinned == position else 0
        return known._replace(
            qty=event.qty, batchref=event.batchref, last=position, freed=False, closed=None, pinned=by_hand
        )

    def _deallocated(self, event: Deallocated, line: BookedLine | None, position: int) -> BookedLine:
        if line is None or line.batchref != event.batchref:
            place = "nowhere" if line is None else line.place
            freed_from = _place(event.batchref)
            self._contradiction(event.orderid, f"{place}, then freed", f"{freed_from}, then freed", position)
        self._touched(event.batchref, position).allocated_quantity -= event.qty
        known = line or BookedLine(event.qty, None, position)
        return known._replace(qty=event.qty, batchref=None, last=position, freed=True, closed=None)

    def _backordered(self, event: Backordered, line: BookedLine | None, position: int) -> BookedLine:
        if line is not None and not line.freed:
            self._contradiction(event.orderid, f"{line.place}, then {WAITING}", "freed first", position)
        self._change_unless_freed(line)
        known = line or self._asked.pop(event.orderid, None) or BookedLine(event.qty, None, position)
        return known._replace(qty=event.qty, batchref=None, last=position, freed=False, closed=None)

    def _asked_for(self, event: AllocationRequired | Split, line: BookedLine | None, fact: Fact) -> BookedLine | None:
        """What is known of a line before it has a place. Asked for again it is as it was."""
        if isinstance(event, Split):
            return self._split(event, line, fact.position)
        if line is None and fact.orderid is not None:  # kept for others, the message is not about its line any more
            terms = Terms(event.need_by, event.priority, int(event.split))
            self._asked[event.orderid] = BookedLine(event.qty, None, fact.position, terms=terms)
        return line

    def _split(self, event: Split, line: BookedLine | None, position: int) -> BookedLine | None:
        known = line or self._asked.get(event.orderid) or BookedLine(event.qty, None, position)
        cut = known._replace(qty=event.qty, last=position, rest=event.rest)
        if cut.terms is AS_USUAL:
            self._cut_from[event.next_part] = event.orderid
        else:
            part = cut.terms._replace(part=cut.terms.part + 1)
            self._asked[event.next_part] = cut._replace(qty=event.rest, rest=0, terms=part, freed=False)
        if line is None:
            self._asked[event.orderid] = cut
            return None
        return cut

    def _held(self, event: Held, line: BookedLine | None, position: int) -> BookedLine:
        """A new hold and a longer one are changes; one that lost its batch and found another is part of one."""
        self.version_number += line is None or line.expires_at != event.expires_at
        self._move(line, event.batchref, event.qty, position)
        return BookedLine(event.qty, event.batchref, last=position, expires_at=event.expires_at)

    def _book_change(self, event: Event, line: BookedLine, position: int) -> BookedLine:
        """What happens to a line besides being placed."""
        self.version_number += not (isinstance(event, HoldEnded) and event.how == LOST)
        line = line._replace(last=position)
        match event:
            case Cancelled() | HoldEnded():
                self._move(line, None, 0, position)
                how = CANCELLED if isinstance(event, Cancelled) else event.how
                return line._replace(batchref=None, closed=how)
            case Resized():
                self._move(line, line.batchref, event.qty, position)
                return line._replace(qty=event.qty)
            case Shipped():
                self._touched(event.batchref, position).shipped_quantity += event.qty
                return line._replace(closed=SHIPPED)
            case Returned():
                self._touched(event.batchref, position).shipped_quantity -= event.qty
                self._move(line, event.batchref, event.kept, position)
                return line._replace(qty=event.kept) if event.kept else line._replace(batchref=None, closed=RETURNED)
            case Pinned():
                return line._replace(pinned=position)
        return line

    def _move(self, line: BookedLine | None, ref: str | None, qty: int, position: int) -> None:
        """So much is held of a batch now, and what the line held before is not any more."""
        if line is not None and line.batchref is not None:
            self._touched(line.batchref, position).allocated_quantity -= line.qty
        if ref is not None:
            self._touched(ref, position).allocated_quantity += qty

    def _book_batch(self, event: Event, position: int) -> None:
        match event:
            case BatchCreated(ref, _, qty, eta, expires_on, location):
                if ref not in self.batches:  # the same batch again changes nothing
                    self.version_number += 1
                    batch = BookedBatch(eta, qty, self.version_number, qty, position, eta)
                    batch.location, batch.expires_on = location, expires_on
                    self.batches[ref] = self._opened(ref, batch)
            case BatchQuantityChanged(ref, qty):
                batch = self._touched(ref, position)
                self.version_number += batch.purchased_quantity != qty
                batch.purchased_quantity = qty
            case StockScrapped(_, batchref, qty):
                self._touched(batchref, position).purchased_quantity -= qty
            case AllocatedQuantityRepaired(_, batchref) | ShippedQuantityRepaired(_, batchref):
                self.version_number += 1
                self._touched(batchref, position)
            case _:
                self.version_number += 1
                self._book_state(event, position)

    def _book_state(self, event: Event, position: int) -> None:
        """What is always a change, even where all stays as it was."""
        match event:
            case BatchEtaChanged(ref, eta):
                self._touched(ref, position).eta = eta
            case BatchReceived(ref, qty):
                batch = self._touched(ref, position)
                batch.eta = None
                batch.purchased_quantity = batch.purchased_quantity if qty is None else qty
            case BatchQuarantined(ref, reason):
                self._touched(ref, position).quarantine = reason
            case BatchReleased(ref):
                self._touched(ref, position).quarantine = None
            case RulesChanged():
                self.rules, self.rules_position = event, position

    def _opened(self, ref: str, batch: BookedBatch) -> BookedBatch:
        """The batch with what was taken of it by lines that are kept no longer."""
        batch.allocated_quantity = batch.shipped_quantity = self._opening.shipped.get(ref, 0)
        return batch

    def _change_unless_freed(self, line: BookedLine | None) -> None:
        """A line that is new or was served is a change; that one was freed has been one already."""
        if line is None or not line.freed:
            self.version_number += 1

    def _touched(self, ref: str, position: int) -> BookedBatch:
        batch = self.batches.get(ref)
        if batch is None:
            self._contradiction(ref, "used", "created first", position)
            batch = self.batches[ref] = BookedBatch(None, 0, 0, 0, position)
        elif batch.last < position:
            batch.last = position
        return batch

    def _contradiction(self, name: str, stored: str, expected: str, position: int) -> None:
        self.contradictions.append(Difference("ledger", self.sku, name, stored, expected, position))


@dataclass(slots=True)
class Report:
    """What an audit went through and found, the first `MAX_DIFFERENCES` of it in full."""

    products: int = 0
    batches: int = 0
    lines: int = 0
    messages: int = 0
    found: Counter[str] = field(default_factory=Counter)  # by kind
    differences: list[Difference] = field(default_factory=list)
    miscounted: set[str] = field(default_factory=set)  # SKUs of which a counter is off
    doubted: set[str] = field(default_factory=set)  # SKUs of which more than that is

    def add(self, difference: Difference) -> None:
        self.found[difference.kind] += 1
        if difference.kind in COUNTERS:
            self.miscounted.add(difference.sku)
        if difference.kind in DOUBTS:
            self.doubted.add(difference.sku)
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(difference)


class ProductRows(NamedTuple):
    """All there is of one product: lines by order id, messages by order id and position, those about no line first."""

    sku: str
    product: ProductRow | None
    batches: Sequence[BatchRow]
    lines: Iterable[LineRow]
    facts: Iterable[Fact]
    opening: Opening = NOTHING_GONE


def audit(rows: ProductRows, report: Report) -> None:
    """Recompute every sum of a product, replay its messages, and report what differs from what is stored."""
    _Audit(rows, report).run()


class _Audit:
    def __init__(self, rows: ProductRows, report: Report) -> None:
        self._rows = rows
        self._report = report
        self._books = Books(rows.sku, rows.opening)
        self._stored = {batch.ref: batch for batch in rows.batches}
        # By batch: what its lines add up to, those that are kept no longer among them, and what of it was shipped.
        self._held: defaultdict[str, int] = defaultdict(int, rows.opening.shipped)
        self._shipped: defaultdict[str, int] = defaultdict(int, rows.opening.shipped)
        self._waiting = 0
        self._early_parts: list[tuple[LineRow, BookedLine]] = []
        self._version = rows.product.version_number if rows.product else 0

    def run(self) -> None:
        self._check_lines()
        if self._rows.product is None:
            self._differ("product-missing", self._rows.sku, None, "a product")
        else:
            self._check_product(self._rows.product)
        for ref in sorted(self._stored.keys() | self._books.batches.keys() | self._rows.opening.shipped.keys()):
            self._check_batch(ref, self._stored.get(ref), self._books.batches.get(ref))
        for contradiction in self._books.contradictions:
            self._report.add(contradiction)
        self._report.products += 1
        self._report.batches += len(self._stored)

    def _check_lines(self) -> None:
        """Rows and messages are both in the order of the order ids, so neither has to be remembered."""
        lines = iter(self._rows.lines)
        line = next(lines, None)
        for orderid, booked in self._booked_lines():
            while line is not None and line.orderid < orderid:
                self._check_line(line, None)
                line = next(lines, None)
            if line is not None and line.orderid == orderid:
                self._check_line(line, booked)
                line = next(lines, None)
            else:
                self._differ("line-missing", orderid, None, f"{booked.qty}, {booked.place}", booked.last)
        while line is not None:
            self._check_line(line, None)
            line = next(lines, None)
        for line, booked in self._early_parts:
            self._compare_terms(line, booked._replace(terms=self._books.terms_of_part(line.orderid)))

    def _booked_lines(self) -> Iterator[tuple[str, BookedLine]]:
        for orderid, facts in groupby(self._rows.facts, key=attrgetter("orderid")):
            booked: BookedLine | None = None
            for fact in facts:
                self._report.messages += 1
                booked = self._books.book(fact, booked)
            if orderid is not None and booked is not None:
                if booked.freed:
                    self._differ("ledger", orderid, "freed", "placed again", booked.last)
                yield orderid, booked

    def _check_line(self, line: LineRow, booked: BookedLine | None) -> None:
        self._report.lines += 1
        ref = line.batchref
        if ref is None:
            self._waiting += line.closed is None
        else:
            self._held[ref] += line.qty
            self._shipped[ref] += line.qty if line.closed else 0
            if ref not in self._stored:
                self._differ("unknown-batch", line.orderid, ref, "a batch of the product", booked and booked.last)
        if not 0 < line.position <= self._version:
            self._differ("position", line.orderid, line.position, f"1 to {self._version}", booked and booked.last)
        if booked is None:
            self._differ("line-unexplained", line.orderid, f"{line.qty}, {_place(ref, line.closed)}", None)
            return
        if (ref, line.closed) != (booked.batchref, booked.closed):
            self._differ("line-elsewhere", line.orderid, _place(ref, line.closed), booked.place, booked.last)
        if line.qty != booked.qty:
            self._differ("line-differs", line.orderid, line.qty, booked.qty, booked.last)
        if _is_unusual(line) or booked.terms is not AS_USUAL or booked.pinned or booked.expires_at:
            self._check_terms(line, booked)

    def _check_terms(self, line: LineRow, booked: BookedLine) -> None:
        """The tenth part of a line comes before the second, and so before what tells from what it was cut: it waits."""
        if PART_MARK in line.orderid and booked.terms is AS_USUAL:
            self._early_parts.append((line, booked))
        else:
            self._compare_terms(line, booked)

    def _compare_terms(self, line: LineRow, booked: BookedLine) -> None:
        for stored, expected in (
            (_needed(line.need_by), _needed(booked.terms.need_by)),
            (_ranked(line.priority), _ranked(booked.priority)),
            (_held_until(line.expires_at), _held_until(booked.expires_at)),
            (_cut(line.part, line.rest), _cut(booked.terms.part, booked.rest)),
        ):
            if stored != expected:
                self._differ("line-differs", line.orderid, stored, expected, booked.last)

    def _check_product(self, product: ProductRow) -> None:
        if product.waiting_lines != self._waiting:
            self._differ("waiting-lines", product.sku, product.waiting_lines, self._waiting)
        if product.version_number != self._books.version_number:
            self._differ("version", product.sku, product.version_number, self._books.version_number)
        rules = _rules_in(product.rules)
        expected = _rules_of(self._books.rules, rules)
        if rules != expected:
            self._differ(
                "rules-differ", product.sku, _ruled(product.rules), _ruled(expected), self._books.rules_position
            )

    def _check_batch(self, ref: str, stored: BatchRow | None, booked: BookedBatch | None) -> None:
        last = booked.last if booked else None
        if stored is None:
            self._differ("batch-missing", ref, None, booked and f"{booked.purchased_quantity} purchased", last)
            return
        held = self._held[ref]
        if stored.allocated_quantity != held:
            self._differ("allocated-quantity", ref, stored.allocated_quantity, held, last)
            if ref in self._rows.opening.shipped and stored.shipped_quantity - self._shipped[ref] == (
                stored.allocated_quantity - held
            ):  # which is what a wrong opening looks like
                self._report.doubted.add(self._rows.sku)
        if held > stored.purchased_quantity:
            self._differ("oversold", ref, held, f"at most {stored.purchased_quantity}", last)
        if not 0 < stored.position <= self._version:
            self._differ("position", ref, stored.position, f"1 to {self._version}", last)
        if booked is None:
            self._differ("batch-unexplained", ref, f"{stored.purchased_quantity} purchased", None)
        else:
            self._compare_batch(ref, stored, booked)

    def _compare_batch(self, ref: str, stored: BatchRow, booked: BookedBatch) -> None:
        last = booked.last
        if stored.purchased_quantity != booked.purchased_quantity:
            self._differ("purchased-quantity", ref, stored.purchased_quantity, booked.purchased_quantity, last)
        bought = (stored.initial_quantity, stored.initial_eta)
        booked_as = (booked.initial_quantity, booked.initial_eta)
        if bought != booked_as:
            self._differ("batch-differs", ref, _bought(*bought), _bought(*booked_as), last)
        if stored.eta != booked.eta:
            self._differ("batch-differs", ref, _due(stored.eta), _due(booked.eta), last)
        for is_, should_be in (
            (_sold(stored.quarantine), _sold(booked.quarantine)),
            (_placed(stored.location), _placed(booked.location)),
            (_usable(stored.expires_on), _usable(booked.expires_on)),
        ):
            if is_ != should_be:
                self._differ("batch-differs", ref, is_, should_be, last)
        if stored.shipped_quantity != self._shipped[ref]:
            self._differ("shipped-quantity", ref, stored.shipped_quantity, self._shipped[ref], last)

    def _differ(self, kind: str, name: str, stored: object, expected: object, position: int | None = None) -> None:
        self._report.add(Difference(kind, self._rows.sku, name, stored, expected, position))


def _place(ref: str | None, closed: str | None = None) -> str:
    place = f"on {ref}" if ref else WAITING
    if closed is not None:
        return f"{closed} from {ref}" if ref else closed
    return place


def _sold(quarantine: str | None) -> str:
    return f"in quarantine: {quarantine}" if quarantine else "on sale"


def _bought(quantity: int, eta: date | None) -> str:
    return f"{quantity} bought, {_due(eta)}"


def _due(eta: date | None) -> str:
    return f"due {eta}" if eta else "in the warehouse"


def _placed(location: str | None) -> str:
    return f"at {location}" if location else "at no location"


def _usable(expires_on: date | None) -> str:
    return f"expires {expires_on}" if expires_on else "never expires"


def _is_unusual(line: LineRow) -> bool:
    """Whether there is more to a stored line than to most."""
    return bool(line.priority or line.need_by or line.expires_at or line.part or line.rest)


def _needed(need_by: date | None) -> str:
    return f"needed by {need_by}" if need_by else "needed by no day"


def _ranked(priority: int) -> str:
    if priority == HELD_PRIORITY:
        return "behind every order"
    return f"priority {own_priority(priority)}{', pinned' if is_pinned(priority) else ''}"


def _held_until(expires_at: datetime | None) -> str:
    return f"held until {expires_at:%Y-%m-%dT%H:%M:%SZ}" if expires_at else "not held"


def _cut(part: int | None, rest: int | None) -> str:
    return f"part {part or 0}, {rest or 0} cut off" if part or rest else "whole"


def _rules_in(stored: str | None) -> Rules | str | None:
    """Stored rules; None: the usual ones; a text that says no rules stays as it is."""
    try:
        return None if stored is None else msgspec.json.decode(stored, type=Rules)
    except (*UNREADABLE, msgspec.ValidationError):
        return stored


def _rules_of(given: RulesChanged | None, stored: Rules | str | None) -> Rules | None:
    """The rules that a product was last given. The usual strategy, if it is that, is a setting: so as stored."""
    if given is None:
        return None
    usual = USUAL
    if isinstance(stored, Rules) and stored.strategy in STRATEGIES:
        usual = Rules(stored.strategy)
    try:
        rules = Rules.of(given, usual)
    except InvalidMessage:  # which says that it cannot have been that strategy
        usual = USUAL
        rules = Rules.of(given, usual)
    return None if rules is usual else rules


def _ruled(rules: Rules | str | None) -> str:
    if rules is None:
        return "the usual ones"
    return rules if isinstance(rules, str) else msgspec.json.encode(rules).decode()

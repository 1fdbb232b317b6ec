"""The books: what the ledger alone says of a product, replayed into a second state.

Nothing here reads or writes. `Books` books one message after the other, and remembers batches but no lines, however
many there are. What a line was asked for with is told to the books where it is unusual: of most lines there is nothing
to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, NamedTuple

from allocation.domain.events import (
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
    PINNED_PRIORITY,
    RETURNED,
    SHIPPED,
)
from allocation.service_layer.messages import recall

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
WAITING = "waiting"


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
        return "freed" if self.freed else place_of(self.batchref, self.closed)


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
            self._contradiction(
                event.orderid, f"{line.place}, then {place_of(event.batchref)}", "freed first", position
            )
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
            freed_from = place_of(event.batchref)
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


def place_of(ref: str | None, closed: str | None = None) -> str:
    place = f"on {ref}" if ref else WAITING
    if closed is not None:
        return f"{closed} from {ref}" if ref else closed
    return place

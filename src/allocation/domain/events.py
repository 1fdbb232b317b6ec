"""The events: what is asked of the service, and what became of its promises.

Each event is declared once, here. Validation, JSON, the HTTP route, OpenAPI, the command line, the ledger
row and the reference pages are derived from the declaration: a field is added in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated

MAX_TEXT_LENGTH = 255
MAX_QUANTITY = 1_000_000_000
MAX_PRIORITY = 9
MAX_DAYS = 3_650
MAX_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Text:
    """Limits of a reference, SKU or order id: printable characters only, so no control characters."""

    max_length: int = MAX_TEXT_LENGTH

    def __str__(self) -> str:
        return f"1 to {self.max_length} printable characters"


@dataclass(frozen=True, slots=True)
class Between:
    """Limits of a whole number, both included."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"a whole number from {self.least:,} to {self.most:,}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Limits of a text: one of these words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


STRATEGIES = ("warehouse-first", "first-expired", "preferred-location", "just-in-time")

Reference = Annotated[str, Text()]
Quantity = Annotated[int, Between(1, MAX_QUANTITY)]
Count = Annotated[int, Between(0, MAX_QUANTITY)]
Priority = Annotated[int, Between(0, MAX_PRIORITY)]
Days = Annotated[int, Between(0, MAX_DAYS)]
Position = Annotated[int, Between(1, MAX_POSITION)]
Strategy = Annotated[str, OneOf(STRATEGIES)]


class Event:
    """Something that happened, or that has to: the only kind of thing the message bus knows."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BatchCreated(Event):
    """Stock was bought: in the warehouse if it has no ETA, otherwise inbound and due that day.

    ``expires_on`` is the last day it can be used, ``location`` the warehouse it is in or comes to.
    """

    ref: Reference
    sku: Reference
    qty: Quantity
    eta: date | None = None
    expires_on: date | None = None
    location: Reference | None = None


@dataclass(frozen=True, slots=True)
class AllocationRequired(Event):
    """An order line needs stock: a customer ordered it, or it lost the batch it had, or stock appeared.

    ``need_by`` is the day its stock has to be there; of lines that wait, the highest ``priority`` is served first.
    A line that no batch can take whole waits, or with ``split`` is spread over as many as it takes.
    """

    orderid: Reference
    sku: Reference
    qty: Quantity
    need_by: date | None = None
    priority: Priority = 0
    split: bool = False


@dataclass(frozen=True, slots=True)
class BatchQuantityChanged(Event):
    """A batch was counted anew: what was purchased, less what is damaged, lost or scrapped."""

    ref: Reference
    qty: Count


@dataclass(frozen=True, slots=True)
class BatchEtaChanged(Event):
    """A delivery is late, or comes early: it is due on another day."""

    ref: Reference
    eta: date


@dataclass(frozen=True, slots=True)
class BatchReceived(Event):
    """A delivery arrived and is in the warehouse; ``qty`` is what was counted, if it was."""

    ref: Reference
    qty: Count | None = None


@dataclass(frozen=True, slots=True)
class BatchQuarantined(Event):
    """A batch must not be sold for now. Its lines lose it, or keep it and wait for its release."""

    ref: Reference
    reason: Reference
    keep_lines: bool = False


@dataclass(frozen=True, slots=True)
class BatchReleased(Event):
    """A batch may be sold again."""

    ref: Reference


@dataclass(frozen=True, slots=True)
class AllocationCancelled(Event):
    """The customer does not want the line any more."""

    orderid: Reference
    sku: Reference


@dataclass(frozen=True, slots=True)
class LineQuantityChanged(Event):
    """The customer wants more or less of the line."""

    orderid: Reference
    sku: Reference
    qty: Quantity


@dataclass(frozen=True, slots=True)
class LineShipped(Event):
    """The line left the warehouse: it never moves again."""

    orderid: Reference
    sku: Reference


@dataclass(frozen=True, slots=True)
class LineReturned(Event):
    """A shipped line came back, or ``qty`` of it: into the batch it was taken from, or to be scrapped."""

    orderid: Reference
    sku: Reference
    qty: Quantity | None = None
    scrapped: bool = False


@dataclass(frozen=True, slots=True)
class LinePinned(Event):
    """Somebody puts a line on a batch, and others make room for it."""

    orderid: Reference
    sku: Reference
    batchref: Reference
    reason: Reference


@dataclass(frozen=True, slots=True)
class StockHeld(Event):
    """A cart needs its stock kept until it is ordered, or until the hold expires; a later moment extends it."""

    holdid: Reference
    sku: Reference
    qty: Quantity
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class HoldConfirmed(Event):
    """The cart was ordered: what was held is a line of this order."""

    holdid: Reference
    orderid: Reference


@dataclass(frozen=True, slots=True)
class HoldReleased(Event):
    """The cart was given up before its hold expired."""

    holdid: Reference


@dataclass(frozen=True, slots=True)
class HoldExpired(Event):
    """The moment came until which the stock was held."""

    holdid: Reference


@dataclass(frozen=True, slots=True)
class RulesChanged(Event):
    """A product is allocated by these rules from now on; what is left out is as usual.

    ``strategy`` orders the batches. ``safety_stock`` is kept in the warehouse, ``shelf_life_days`` is how long stock
    has to last after the promised day, ``location`` the one preferred. At most ``most_waiting`` lines may wait, and
    each gains a priority with every ``ages_after`` changes of the product. Lines needed within ``frozen_days`` make no
    room for others, and no change moves more than ``most_moved`` lines by choice. With ``least_harm`` the lines that
    leave a batch, and where they go, are those that do the least harm: the fewest, then the least late, by priority.
    With ``move_up`` lines that are promised too late move to stock that is there in time, when there comes to be some.
    """

    sku: Reference
    strategy: Strategy | None = None
    location: Reference | None = None
    safety_stock: Count = 0
    shelf_life_days: Days = 0
    most_waiting: Count | None = None
    ages_after: Quantity | None = None
    frozen_days: Days = 0
    most_moved: Count | None = None
    least_harm: bool = False
    move_up: bool = False


@dataclass(frozen=True, slots=True)
class MoveUpRequired(Event):
    """Lines of the product that are promised too late have to move to stock that is there in time, if there is any."""

    sku: Reference


@dataclass(frozen=True, slots=True)
class RepairRequired(Event):
    """A product's counters are in doubt: they have to be counted again, from its lines."""

    sku: Reference


@dataclass(frozen=True, slots=True)
class Allocated(Event):
    """A line holds stock of a batch."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference


@dataclass(frozen=True, slots=True)
class Deallocated(Event):
    """A line lost the stock it held of a batch."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference


@dataclass(frozen=True, slots=True)
class Backordered(Event):
    """No batch can take the line: it waits, and is served when stock appears."""

    orderid: Reference
    sku: Reference
    qty: Quantity


@dataclass(frozen=True, slots=True)
class OutOfStock(Event):
    """A line was backordered: the stock team has to know."""

    sku: Reference


@dataclass(frozen=True, slots=True)
class AllocatedQuantityRepaired(Event):
    """A batch's allocated quantity was not what its lines add up to, and now is. No promise was touched."""

    sku: Reference
    batchref: Reference
    stored: Count
    counted: Count


@dataclass(frozen=True, slots=True)
class ShippedQuantityRepaired(Event):
    """A batch's shipped quantity was not what its shipped lines add up to, and now is. No promise was touched."""

    sku: Reference
    batchref: Reference
    stored: Count
    counted: Count


@dataclass(frozen=True, slots=True)
class WaitingLinesRepaired(Event):
    """The number of a product's waiting lines was wrong, and now is not. No promise was touched."""

    sku: Reference
    stored: Count
    counted: Count


@dataclass(frozen=True, slots=True)
class PromiseChanged(Event):
    """A line that was promised for a day is promised for another one; null: it waits, and for none.

    Of stock in the warehouse the day is the one of the change. A waiting line that is served has `Allocated` alone.
    """

    orderid: Reference
    sku: Reference
    qty: Quantity
    before: date | None
    after: date | None
    late_days: Count


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """A line is no promise any more; ``batchref`` is where it stood."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference | None


@dataclass(frozen=True, slots=True)
class Resized(Event):
    """A line has another quantity, and stands where it stood."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    before: Quantity


@dataclass(frozen=True, slots=True)
class Split(Event):
    """A line that no batch takes whole has this quantity from now on; the ``rest`` is in its ``next_part``, a line too.

    That is placed like any line, and may be split in its turn; ``position`` is its age.
    """

    orderid: Reference
    sku: Reference
    qty: Quantity
    rest: Quantity
    next_part: Reference
    position: Position


@dataclass(frozen=True, slots=True)
class Shipped(Event):
    """A line left the warehouse with its stock."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference


@dataclass(frozen=True, slots=True)
class Returned(Event):
    """So much of a shipped line came back; ``kept`` is what the customer still has."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference
    kept: Count


@dataclass(frozen=True, slots=True)
class StockScrapped(Event):
    """Returned stock that nobody can use: its batch has so much less."""

    sku: Reference
    batchref: Reference
    qty: Quantity


@dataclass(frozen=True, slots=True)
class Pinned(Event):
    """A line has been put on a batch by hand: it goes before all others, and makes room for none."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference


@dataclass(frozen=True, slots=True)
class Held(Event):
    """Stock of a batch is held until a moment; again: until a later one."""

    holdid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class HoldEnded(Event):
    """Nothing is held any more; ``how`` is confirmed, released, expired or lost: its stock is not there any more."""

    holdid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference | None
    how: Reference

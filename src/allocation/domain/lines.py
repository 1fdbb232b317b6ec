"""Order lines, and the place each one has: on a batch, in the queue of backorders, or closed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, NamedTuple

from allocation.domain.events import AllocationRequired
from allocation.domain.fields import MAX_PRIORITY

HELD_PRIORITY: Final = -1  # holds are served after all orders
PINNED_PRIORITY: Final = (
    MAX_PRIORITY + 1
)  # added to a line's own priority: a pinned line has precedence over all others
NO_DAY: Final = date.max  # as ETA: the delivery is due, and nobody knows when
MAX_PARTS: Final = 100  # of a line; the last one is not split any more
PART_MARK: Final = "/"  # between the order id of a line and the number of its part

# The end of a line. A shipped line still takes up the stock of its batch; all others have no batch.
CANCELLED: Final = "cancelled"
SHIPPED: Final = "shipped"
RETURNED: Final = "returned"
CONFIRMED: Final = "confirmed"
RELEASED: Final = "released"
EXPIRED: Final = "expired"
LOST: Final = "lost"

# A line that has no place while its message is being handled. None of these is ever stored.
ASKED: Final = "asked"  # it was ordered and has had no place yet
FREED: Final = "freed"  # it lost its batch
BY_HAND: Final = "by hand"  # it was pinned, and its batch comes next
PASSING: Final = frozenset({ASKED, FREED, BY_HAND})

# The states of an open line.
ALLOCATED: Final = "allocated"
PINNED: Final = "pinned"
WAITING: Final = "waiting"
HELD: Final = "held"


@dataclass(slots=True, unsafe_hash=True)  # a value, never changed; a frozen one takes three times as long to make
class OrderLine:
    """A customer's order of one SKU; ``(orderid, sku)`` identifies it. With ``expires_at`` it is a cart's hold.

    ``position`` is its age: the product's version when the line was accepted. It does not change when the line moves.

    A line that may be split is its own first ``part``, and each part is a line of its own; 0: it stays whole. ``rest``
    is the quantity of the parts after it; 0: there are none. With ``arrived`` it has stock of the part of its batch
    that has arrived, while the rest is due.
    """

    orderid: str
    sku: str
    qty: int
    position: int = field(default=0, compare=False)
    need_by: date | None = None
    priority: int = 0
    expires_at: datetime | None = None
    part: int = 0
    rest: int = 0
    arrived: bool = False

    @classmethod
    def asked_for(cls, event: AllocationRequired) -> OrderLine:
        """The line that an event asks for; it has no position yet."""
        return cls(
            event.orderid,
            event.sku,
            event.qty,
            need_by=event.need_by,
            priority=event.priority,
            part=1 if event.split else 0,
        )

    def at(self, position: int) -> OrderLine:
        """The same line at that position."""
        terms = (position, self.need_by, self.priority, self.expires_at, self.part, self.rest, self.arrived)
        return OrderLine(self.orderid, self.sku, self.qty, *terms)  # `replace` would take a dozen calls

    @property
    def next_part(self) -> str:
        """The order id of the part that follows, or would."""
        return part_id(part_of(self.orderid, self.part), self.part + 1)


def part_id(orderid: str, number: int) -> str:
    """The order id of a part of the order's line: the first has that of the line."""
    return f"{orderid}{PART_MARK}{number}" if number > 1 else orderid


def part_of(orderid: str, number: int) -> str:
    """The order id of the line that this is a part of: its own, unless it is a later one."""
    return orderid.removesuffix(f"{PART_MARK}{number}") if number > 1 else orderid


def later_parts(orderid: str) -> list[str]:
    """The order ids of all parts that a line may have besides the first."""
    return [part_id(orderid, number) for number in range(2, MAX_PARTS + 1)]


def is_pinned(priority: int) -> bool:
    """Whether that of a line says that it was put on its batch by hand."""
    return priority >= PINNED_PRIORITY


def own_priority(priority: int) -> int:
    """The one a line was ordered with, whether it is pinned or not."""
    return priority - PINNED_PRIORITY if is_pinned(priority) else priority


def state_of(batchref: str | None, closed: str | None, priority: int) -> str:
    """The state of a line in a word: its end, or its present state."""
    if closed is not None:
        return closed
    if priority == HELD_PRIORITY:
        return HELD
    if batchref is None:
        return WAITING
    return PINNED if is_pinned(priority) else ALLOCATED


class Today(NamedTuple):
    """The business's ``day``, and the first day that stock of an ``overdue`` delivery is promised for."""

    day: date
    overdue: date


def stock_day(eta: date | None, today: Today) -> date:
    """The day from which stock is there: today if it is in the warehouse. A delivery whose day is past is overdue."""
    if eta is None:
        return today.day
    return eta if eta >= today.day else today.overdue


def days_late(need_by: date | None, day: date | None) -> int:
    """By how many days stock that is there on a day is late."""
    return max(0, (day - need_by).days) if day is not None and need_by is not None else 0


def is_late(need_by: date | None, day: date | None, today: Today) -> bool:
    """Whether an open line is late: its stock is there after the day it is needed by, or on no known day.

    A line that waits (``day`` is None) is late once it was needed before today.
    """
    return need_by is not None and need_by < (today.day if day is None else day)


def late_by(need_by: date | None, day: date | None, today: Today) -> int:
    """By how many days an open line is late, as far as is known: without a day, counted until today."""
    return days_late(need_by, today.day if day is None or day == NO_DAY else day)


class Promise(NamedTuple):
    """A line and its place: a batch, or the queue of backorders (``batchref`` is None), unless the line is closed.

    ``closed`` is the end of the line; a shipped line keeps its batch. While a message is being handled it may also be
    one of `PASSING`: the line has no place at this moment, and gets one before the message is done.
    """

    line: OrderLine
    batchref: str | None
    closed: str | None = None

    @property
    def is_waiting(self) -> bool:
        return self.batchref is None and self.closed is None


class Creation(NamedTuple):
    """The values of a batch at creation, by which a repeated creation is recognised."""

    sku: str
    qty: int
    eta: date | None
    expires_on: date | None
    location: str | None
    delivery: str | None


class Fit(NamedTuple):
    """Lines that may fit into a batch: of at most ``qty``, and ``day`` bounds the day they are needed by."""

    qty: int
    day: date


class Miscount(NamedTuple):
    """By how much a counter in storage exceeds the sum over the lines: of a batch, or of the waiting lines (None).

    ``excess`` is that of the allocated quantity, or of the number of lines; ``shipped_excess`` of the shipped quantity.
    """

    batchref: str | None
    excess: int
    shipped_excess: int = 0

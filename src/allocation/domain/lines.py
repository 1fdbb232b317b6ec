"""Order lines, where they stand, and what storage knows of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from allocation.domain.events import MAX_PRIORITY

if TYPE_CHECKING:
    from allocation.domain.batches import Batch

HELD_PRIORITY: Final = -1  # a cart goes after every order
PINNED_PRIORITY: Final = MAX_PRIORITY + 1  # on top of its own: a line put on its batch by hand goes before all others
MAX_PARTS: Final = 100  # of a line; the last one is not split any more
PART_MARK: Final = "/"  # between the order id of a line and the number of its part

# How a line ended. What was shipped still takes up the stock of its batch; all others stand nowhere.
CANCELLED: Final = "cancelled"
SHIPPED: Final = "shipped"
RETURNED: Final = "returned"
CONFIRMED: Final = "confirmed"
RELEASED: Final = "released"
EXPIRED: Final = "expired"
LOST: Final = "lost"

# What a line is while it is open.
ALLOCATED: Final = "allocated"
PINNED: Final = "pinned"
WAITING: Final = "waiting"
HELD: Final = "held"


@dataclass(frozen=True, slots=True)
class OrderLine:
    """What a customer ordered of one SKU; ``(orderid, sku)`` identifies it. With ``expires_at`` it is a cart's hold.

    ``position`` is its age: the product's version when the line was taken. It keeps it wherever it moves.

    A line that may be split is the first ``part`` of itself, and each part is a line of its own; 0: it stays whole.
    ``rest`` is what was cut off it, and is in the parts that follow; 0: there are none.
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
    """What a line is, in a word: how it ended, or how it stands."""
    if closed is not None:
        return closed
    if priority == HELD_PRIORITY:
        return HELD
    if batchref is None:
        return WAITING
    return PINNED if is_pinned(priority) else ALLOCATED


def stock_day(eta: date | None, today: date) -> date:
    """The day from which stock is there: not before today, however long it is overdue."""
    return today if eta is None else max(eta, today)


def days_late(need_by: date | None, day: date | None) -> int:
    """By how many days stock that is there on a day is late."""
    return max(0, (day - need_by).days) if day is not None and need_by is not None else 0


class Promise(NamedTuple):
    """Where a line stands: on a batch, or waiting (``batchref`` is None), unless it is closed, and how."""

    line: OrderLine
    batchref: str | None
    closed: str | None = None


class Miscount(NamedTuple):
    """By how much counters are above what the lines say: a batch's, or that of the lines that wait (None).

    ``excess`` is that of its allocated quantity, or of their number; ``shipped_excess`` that of its shipped quantity.
    """

    batchref: str | None
    excess: int
    shipped_excess: int = 0


class Records(Protocol):
    """What storage knows of one product. Pages may be of any length; an empty page is the last.

    Lines that were shipped, or ended in another way, are in no page.
    """

    def promise(self, orderid: str) -> Promise | None:
        """Where the order's line stands or how it ended, or None if it was never taken."""

    def batch(self, ref: str) -> Batch | None:
        """The batch of this product with that reference, exhausted or not."""

    def priorities(self, ref: str | None) -> Sequence[int]:
        """The priorities besides 0 that lines on a batch have, or waiting lines (None)."""

    def newest_lines(self, ref: str, priority: int, before: int) -> Sequence[OrderLine]:
        """A page of the lines of a priority on a batch, newest first, of positions below ``before``."""

    def waiting_lines(self, priority: int, after: int, max_qty: int) -> Sequence[OrderLine]:
        """A page of waiting lines of a priority, oldest first, of positions above ``after``.

        None is larger than ``max_qty``, unless it may be split.
        """

    def late_lines(
        self, by: date, max_qty: int, rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[Promise]:
        """A page of the lines promised too late that are needed on a day or later, none above ``max_qty``.

        They are by priority, the highest first, and then by position; it begins behind those of ``after``. Of batches
        that were ``rewritten`` since, storage cannot tell the day, so it may have more of their lines.
        """

    def miscounts(self) -> Sequence[Miscount]:
        """The counters that are off in storage."""


class _NoRecords:
    """The records of a product that knows everything it has."""

    def promise(self, orderid: str) -> Promise | None:
        return None

    def batch(self, ref: str) -> Batch | None:
        return None

    def priorities(self, ref: str | None) -> Sequence[int]:
        return ()

    def newest_lines(self, ref: str, priority: int, before: int) -> Sequence[OrderLine]:
        return ()

    def waiting_lines(self, priority: int, after: int, max_qty: int) -> Sequence[OrderLine]:
        return ()

    def late_lines(
        self, by: date, max_qty: int, rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[Promise]:
        return ()

    def miscounts(self) -> Sequence[Miscount]:
        return ()


NO_RECORDS: Records = _NoRecords()

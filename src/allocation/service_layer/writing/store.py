"""The port to storage: the data that a transaction reads and writes, as rows.

There are two ways to change data. `Store.run` is one transaction that locks the data it reads, a `Session`. Or
`Store.read` reads without a lock, and `Store.write` writes the changes if no other process changed the products
meanwhile. Every implementation passes ``tests/contract``; this module states its contract.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol, TypeVar

from allocation.domain.fields import MAX_PRIORITY
from allocation.domain.lines import HELD_PRIORITY, PINNED_PRIORITY, Fit, Miscount, Today

T = TypeVar("T")

PAGE_SIZE = 500
UNUSUAL_PRIORITIES = [priority for priority in range(HELD_PRIORITY, PINNED_PRIORITY + MAX_PRIORITY + 1) if priority]


class StoreConflict(Exception):
    """Another process changed the data meanwhile; nothing was written, and the same work may succeed if repeated."""


class StoreUnavailable(Exception):
    """The database cannot be used now. Whether a commit under way happened is not known; the ledger tells."""


def as_moment(kept: datetime | str) -> datetime:
    """A moment in UTC, from the text or the value that a database keeps for it."""
    return (datetime.fromisoformat(kept) if isinstance(kept, str) else kept).astimezone(UTC)


class ProductRow(NamedTuple):
    """``waiting_lines`` counts the product's open lines without a batch; ``rules`` are JSON, None: the usual ones.

    ``retired`` is true of a product that takes no new lines.
    """

    sku: str
    version_number: int
    waiting_lines: int
    rules: str | None = None
    retired: bool | None = None


class BatchRow(NamedTuple):
    """``initial_…`` are the values at creation; the shipped quantity is part of the allocated quantity.

    A batch is in parts while some of it has arrived (``arrived_quantity``) and the rest is due; otherwise both arrived
    figures are None. ``inspect_quantity`` is no part of the purchased quantity. ``created_as`` is JSON, None while the
    batch is as it was created.
    """

    ref: str
    sku: str
    eta: date | None
    purchased_quantity: int
    allocated_quantity: int
    position: int
    initial_quantity: int
    initial_eta: date | None
    shipped_quantity: int = 0
    location: str | None = None
    expires_on: date | None = None
    quarantine: str | None = None
    delivery: str | None = None
    arrived_quantity: int | None = None
    arrived_allocated: int | None = None
    inspect_quantity: int = 0
    last_eta: date | None = None
    counted_at: datetime | None = None
    created_as: str | None = None


class LineRow(NamedTuple):
    """``batchref`` is None while the line waits, and after it was ``closed`` without being shipped.

    ``part`` is the number of a part, None: the line stays whole; ``rest`` is the quantity of later parts, None: none.
    ``arrived`` is true if the line has stock of the part of its batch that has arrived.
    """

    orderid: str
    sku: str
    qty: int
    batchref: str | None
    position: int
    priority: int = 0
    need_by: date | None = None
    expires_at: datetime | None = None
    closed: str | None = None
    part: int | None = None
    rest: int | None = None
    arrived: bool | None = None


class MessageRow(NamedTuple):
    """One message of the ledger.

    ``correlation_id`` is the id of the message from outside, which has step 0; its consequences have steps from 1 on,
    in the order handled, and ``causation_step`` is the step of the direct cause. ``body`` and ``result``
    are JSON; only step 0 has a result. ``facts`` are the messages kept in this row: a JSON array of their steps, types
    and bodies, each about the same product and line as the row, caused by it, and setting nothing off.
    """

    correlation_id: str
    step: int
    causation_step: int | None
    type: str
    sku: str
    orderid: str | None
    body: str
    facts: str | None
    result: str | None
    actor: str


class TimedRow(NamedTuple):
    """A row of the ledger with its position and time; ``facts`` as in `MessageRow`."""

    position: int
    recorded_at: datetime
    type: str
    body: str
    facts: str | None


class DeliveryRow(NamedTuple):
    """An effect that a committed message still has to have; ``type`` and ``body`` are the message's."""

    correlation_id: str
    step: int
    effect: str
    sku: str
    type: str
    body: str


class ProductVersion(NamedTuple):
    """A known product's new numbers, and the version it was loaded at; having another one by now is a conflict."""

    sku: str
    version_number: int
    waiting_lines: int
    loaded_version: int
    rules: str | None = None
    retired: bool | None = None


@dataclass(slots=True)
class Wanted:
    """The data that a group of messages needs."""

    skus: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)
    holdids: set[str] = field(default_factory=set)
    lines: set[tuple[str, str]] = field(default_factory=set)  # (orderid, sku)
    message_ids: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.skus or self.refs or self.holdids or self.lines or self.message_ids)


@dataclass(slots=True)
class Loaded:
    """The data found: locked products, their batches with room and the named ones, lines and holds, messages."""

    products: list[ProductRow] = field(default_factory=list)
    batches: list[BatchRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)


@dataclass(slots=True)
class Changes:
    """The changes of a group of messages: rows to insert (``new_…``), to update and to append.

    A known batch can have changed only its purchased and allocated quantities (``batches``), or also everything else
    except its reference, SKU, position and initial values (``rewritten_batches``). A known line can have changed
    everything except its order id, SKU, position, need-by day and part number.
    """

    recorded_at: datetime
    new_products: list[ProductRow] = field(default_factory=list)
    products: list[ProductVersion] = field(default_factory=list)
    new_batches: list[BatchRow] = field(default_factory=list)
    batches: list[BatchRow] = field(default_factory=list)
    rewritten_batches: list[BatchRow] = field(default_factory=list)
    new_lines: list[LineRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)


class Session(Protocol):
    """One transaction. The data it loads stay locked against other writers until it ends."""

    def load(self, wanted: Wanted) -> Loaded:
        """Lock and read the wanted data. Never all lines or all exhausted batches of a product.

        Products are locked by SKU in ascending order: the named ones, and those of the named batches and holds.
        """

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        """The batch of that product with that reference."""

    def line(self, sku: str, orderid: str) -> LineRow | None:
        """The order's line of that product."""

    def priorities(self, sku: str, ref: str | None) -> Sequence[int]:
        """The priorities except 0 of the open lines on a batch, or of waiting lines (None)."""

    def newest_lines(self, sku: str, ref: str, before: int, priority: int = 0) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` open lines of a priority on a batch, newest first, of positions below ``before``."""

    def any_waiting(self, sku: str, fits: Sequence[Fit]) -> bool:
        """Whether `waiting_lines` has any for a priority. It costs the same however many lines wait."""

    def waiting_lines(self, sku: str, after: int, fits: Sequence[Fit], priority: int = 0) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` waiting lines, oldest first, with positions above ``after``.

        Each has a fit that is at least as large, and not before the day the line is needed by, if there is one. Of the
        last part of a line that may be split, the quantity does not matter. There is at least one fit; the first has
        the largest quantity, and the last has the last day.
        """

    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` open lines needed today or later, on batches whose stock is there later than needed.

        Each has a fit that is at least as large, and not after the day the line is needed by; the last has the first
        day. No line is pinned. They are sorted by priority, highest first, then by position, and begin
        after ``after``. Lines of the ``rewritten`` batches are included, whenever these batches are due.
        """

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        """The product's wrong counters, compared with its lines. The only method that reads all lines of a product."""

    def delivered(self, delivery: str) -> Sequence[tuple[str, str]]:
        """The batches that come with a delivery: the SKU and reference of each, without a lock."""

    def stock_told(self, sku: str) -> Sequence[TimedRow]:
        """The ledger rows of a product that are about no line, oldest first."""

    def told_before(self, sku: str, position: int | None) -> Sequence[TimedRow]:
        """At most `PAGE_SIZE` ledger rows of a product, newest first, below that position; None: from the end."""

    def save(self, changes: Changes) -> None:
        """Write all changes; ledger rows keep their order.

        Raises `StoreConflict` if another writer was faster, or a known line is not there any more.
        """


class Store(Protocol):
    """Where promises and the ledger are kept. Its calls raise `StoreConflict` or `StoreUnavailable` as these say."""

    async def run(self, work: Callable[[Session], T]) -> T:
        """Do the work in one transaction and return its result once that is durable.

        If the work raises, nothing was written.
        """

    async def read(self, wanted: Wanted) -> Loaded:
        """The data that `Session.load` would find, as of one moment, without a lock. It may run beside a `write`."""

    async def write(self, changes: Changes) -> None:
        """Write all changes in one transaction, durably, or none of them: if another writer was faster, a conflict."""

    async def close(self) -> None:
        """Give back every connection."""


class Lookout(Protocol):
    """Storage for previews. Its calls raise `StoreUnavailable`."""

    async def look(self, work: Callable[[Session], T]) -> T:
        """Do the work on the data of one moment, without a lock, and return its result. It must not save."""

    async def close(self) -> None:
        """Give back every connection."""

"""The port to storage: what a transaction reads and writes, as rows.

There are two ways to change something. `Store.run` is one transaction that locks what it reads, a `Session`. Or it is
read without a lock by `Store.read`, and `Store.write` writes what became of it, if nobody else was there in between.
Every implementation passes ``tests/contract``; what it promises is stated here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol, TypeVar

from allocation.domain.fields import MAX_PRIORITY
from allocation.domain.lines import HELD_PRIORITY, PINNED_PRIORITY, Miscount

T = TypeVar("T")

PAGE_SIZE = 500
UNUSUAL_PRIORITIES = [priority for priority in range(HELD_PRIORITY, PINNED_PRIORITY + MAX_PRIORITY + 1) if priority]


class StoreConflict(Exception):
    """Another process got in between; nothing was written, and the same work may succeed when done again."""


class StoreUnavailable(Exception):
    """The database cannot be used now. Whether a commit under way happened is not known; the ledger tells."""


def as_moment(kept: datetime | str) -> datetime:
    """A moment in UTC, from the text or the value that a database keeps for it."""
    return (datetime.fromisoformat(kept) if isinstance(kept, str) else kept).astimezone(UTC)


class ProductRow(NamedTuple):
    """``waiting_lines`` counts the product's open lines without a batch; ``rules`` are JSON, None: the usual ones."""

    sku: str
    version_number: int
    waiting_lines: int
    rules: str | None = None


class BatchRow(NamedTuple):
    """``initial_…`` is what the batch was created with; what was shipped is part of what is allocated."""

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


class LineRow(NamedTuple):
    """``batchref`` is None while the line waits, and when it was ``closed`` in another way than by being shipped.

    ``part`` is the number of a part, None: the line stays whole; ``rest`` is what was cut off, None: nothing.
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


class MessageRow(NamedTuple):
    """One message of the ledger.

    ``correlation_id`` is the id of the message that came from outside, which has step 0; what it set off has steps
    from 1 on, in the order handled, and ``causation_step`` is the step of its direct cause. ``body`` and ``result``
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


@dataclass(slots=True)
class Wanted:
    """What a group of messages needs to be handled."""

    skus: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)
    holdids: set[str] = field(default_factory=set)
    lines: set[tuple[str, str]] = field(default_factory=set)  # (orderid, sku)
    message_ids: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.skus or self.refs or self.holdids or self.lines or self.message_ids)


@dataclass(slots=True)
class Loaded:
    """What was found of it: products locked, their batches with room and those named, lines and holds, messages."""

    products: list[ProductRow] = field(default_factory=list)
    batches: list[BatchRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)


@dataclass(slots=True)
class Changes:
    """What a group of messages changed: rows to insert (``new_…``), to update and to append.

    Of a known batch only the quantities can have changed (``batches``), or also its ETA, what was shipped of it and its
    quarantine (``rewritten_batches``); of a known line all but what names it, its position, the day it is needed by and
    which part it is.
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
    """One transaction. What it loads stays locked against other writers until it ends."""

    def load(self, wanted: Wanted) -> Loaded:
        """Lock and read what is wanted. Never all lines or all exhausted batches of a product.

        Products are locked by SKU in ascending order: those named, and those of the batches and holds named.
        """

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        """The batch of that product with that reference."""

    def line(self, sku: str, orderid: str) -> LineRow | None:
        """The order's line of that product."""

    def priorities(self, sku: str, ref: str | None) -> Sequence[int]:
        """The priorities besides 0 of the open lines on a batch, or of those that wait (None)."""

    def newest_lines(self, sku: str, ref: str, before: int, priority: int = 0) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` open lines of a priority on a batch, newest first, of positions below ``before``."""

    def waiting_lines(self, sku: str, after: int, max_qty: int, priority: int = 0) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` waiting lines, oldest first, of positions above ``after``.

        Those above ``max_qty`` are left out, but for the last part of a line that may be split.
        """

    def late_lines(
        self, sku: str, by: date, max_qty: int, rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` open lines on batches that are due later than they are needed, from that day on.

        None is above ``max_qty`` or pinned. They are by priority, the highest first, then by position, behind those of
        ``after``; with them come lines of the ``rewritten`` batches, whatever day these are due.
        """

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        """The product's counters that are not what its lines add up to. The only one that reads all of its lines."""

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
        """What `Session.load` would find, as of one moment, without a lock. It may run beside a `write`."""

    async def write(self, changes: Changes) -> None:
        """Write all changes in one transaction, durably, or none of them: if another writer was faster, a conflict."""

    async def close(self) -> None:
        """Give back every connection."""


class Lookout(Protocol):
    """Where to find out what would happen. Its calls raise `StoreUnavailable`."""

    async def look(self, work: Callable[[Session], T]) -> T:
        """Do the work on what there is at one moment, without a lock, and return its result. It must not save."""

    async def close(self) -> None:
        """Give back every connection."""

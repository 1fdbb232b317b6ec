"""The port to storage: what a transaction reads and writes, as rows.

There are two ways to change something. `Store.run` is one transaction that locks what it reads, a `Session`. Or it is
read without a lock by `Store.read`, and `Store.write` writes what became of it, if nobody else was there in between.
Every implementation passes ``tests/contract``; what it promises is stated here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple, Protocol, TypeVar

from allocation.domain.model import Miscount

T = TypeVar("T")

PAGE_SIZE = 500


class StoreConflict(Exception):
    """Another process got in between; nothing was written, and the same work may succeed when done again."""


class StoreUnavailable(Exception):
    """The database cannot be used now. Whether a commit under way happened is not known; the ledger tells."""


class ProductRow(NamedTuple):
    """``waiting_lines`` counts the product's lines without a batch."""

    sku: str
    version_number: int
    waiting_lines: int


class BatchRow(NamedTuple):
    """``initial_…`` is what the batch was created with."""

    ref: str
    sku: str
    eta: date | None
    purchased_quantity: int
    allocated_quantity: int
    position: int
    initial_quantity: int
    initial_eta: date | None


class LineRow(NamedTuple):
    """``batchref`` is None while the line waits."""

    orderid: str
    sku: str
    qty: int
    batchref: str | None
    position: int


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


@dataclass(slots=True)
class Wanted:
    """What a group of messages needs to be handled."""

    skus: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)
    lines: set[tuple[str, str]] = field(default_factory=set)  # (orderid, sku)
    message_ids: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.skus or self.refs or self.lines or self.message_ids)


@dataclass(slots=True)
class Loaded:
    """What was found of it: products locked, their batches with room and the batches named, lines, messages."""

    products: list[ProductRow] = field(default_factory=list)
    batches: list[BatchRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)


@dataclass(slots=True)
class Changes:
    """What a group of messages changed: rows to insert (``new_…``), to update and to append.

    Of a known batch only the quantities can have changed, of a known line only its batch.
    """

    recorded_at: datetime
    new_products: list[ProductRow] = field(default_factory=list)
    products: list[ProductVersion] = field(default_factory=list)
    new_batches: list[BatchRow] = field(default_factory=list)
    batches: list[BatchRow] = field(default_factory=list)
    new_lines: list[LineRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)


class Session(Protocol):
    """One transaction. What it loads stays locked against other writers until it ends."""

    def load(self, wanted: Wanted) -> Loaded:
        """Lock and read what is wanted. Never all lines or all exhausted batches of a product.

        Products are locked by SKU in ascending order: those named, and those of the batches named.
        """

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        """The batch of that product with that reference."""

    def line(self, sku: str, orderid: str) -> LineRow | None:
        """The order's line of that product."""

    def newest_lines(self, sku: str, ref: str, before: int) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` lines on a batch, newest first, of positions below ``before``."""

    def waiting_lines(self, sku: str, after: int, max_qty: int) -> Sequence[LineRow]:
        """At most `PAGE_SIZE` waiting lines, oldest first, of positions above ``after``, none above ``max_qty``."""

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        """The product's counters that are not what its lines add up to. The only one that reads all of its lines."""

    def save(self, changes: Changes) -> None:
        """Write all changes; ledger rows keep their order. Raises `StoreConflict` if another writer was faster."""


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

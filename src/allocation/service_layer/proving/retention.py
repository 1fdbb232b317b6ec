"""Retention: old closed lines are deleted, and their totals are kept.

A line is kept with all messages about it while it is open, and for a set time after the last message. Then it is
deleted as a whole, and the contribution of its messages to the books is added to the opening of its product. So the
rest can be verified as before. Four things are kept longer:

- a line with deliveries: a pending effect needs its cause;
- a split line, as long as its next part, because the causes of that part's messages are among its own;
- a line whose messages do not lead to its state, so that an audit can report it;
- the first message of a cascade, as long as any other of its messages is kept, without the data of its own line. So
  every remaining message has its cause, and the id of a cascade is never half known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from allocation.domain.lines import SHIPPED
from allocation.domain.stock import Stock
from allocation.service_layer.proving.books import BOOKED, Booked, Books, Fact, Opening
from allocation.service_layer.writing.store import StoreUnavailable

LOOK_INTERVAL_S = 300.0
BATCH_SIZE = 200  # lines in a transaction
PAUSE_S = 0.05  # between two transactions, for other writers

_BOOKED: Final = frozenset(kind.__name__ for kind in BOOKED)

log = structlog.get_logger(__name__)


class ClosedLine(NamedTuple):
    """A closed line, as stored."""

    orderid: str
    sku: str
    qty: int
    batchref: str | None
    closed: str


class LedgerRow(NamedTuple):
    """A row of the ledger about a line; ``facts`` are the messages kept in it."""

    position: int
    correlation_id: str
    step: int
    type: str
    sku: str
    orderid: str
    body: str
    facts: str | None
    recorded_at: datetime

    def told(self) -> Sequence[tuple[int, str, str]]:
        """The step, type and body of each message in the row, its own first."""
        kept = msgspec.json.decode(self.facts or "[]", type=list[tuple[int, str, msgspec.Raw]])
        return [(self.step, self.type, self.body), *((step, type_, bytes(body).decode()) for step, type_, body in kept)]


class Cascade(NamedTuple):
    """The number of a cascade's remaining messages; ``bare``: the first one has no data of its own line."""

    correlation_id: str
    remaining: int
    bare: bool = False


@dataclass(slots=True)
class Removal:
    """The changes to delete a batch of lines; ``openings`` are to be added to the stored ones."""

    lines: list[ClosedLine] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)  # positions of rows
    bared: list[int] = field(default_factory=list)  # positions of first messages kept for the others of their cascade
    messages: int = 0
    openings: dict[str, Opening] = field(default_factory=dict)
    shortened: list[Cascade] = field(default_factory=list)
    unneeded: list[str] = field(default_factory=list)  # cascades with only the bare first message left
    ended: list[str] = field(default_factory=list)  # cascades with nothing left, the unneeded ones included


@dataclass(slots=True)
class Tidied:
    """The numbers of deleted lines and messages, and of old lines that were kept, by reason."""

    lines: int = 0
    messages: int = 0  # 0 after a dry run, because it depends on all deleted lines
    undelivered: int = 0  # their messages have deliveries
    doubted: int = 0  # their messages do not lead to their state

    def add(self, other: Tidied) -> None:
        self.lines += other.lines
        self.messages += other.messages
        self.undelivered += other.undelivered
        self.doubted += other.doubted


class AgeKey(NamedTuple):
    """Where a closed line is in the order of all: by age, then by name."""

    closed_at: datetime
    orderid: str
    sku: str


FIRST: Final = AgeKey(datetime(1970, 1, 1, tzinfo=UTC), "", "")


class ClosedLines(Protocol):
    """The store of closed lines. Every method raises `StoreUnavailable`."""

    async def remove(
        self, until: datetime, after: AgeKey, limit: int, *, dry_run: bool
    ) -> tuple[Tidied, AgeKey | None]:
        """Delete those of the next ``limit`` lines that had no message since, in one transaction.

        Returns the counts, and the place of the last line examined, None if there are no more. Counters do not change,
        and no reader or writer sees a half-deleted line.
        """

    async def close(self) -> None:
        """Release the connection."""


class Retention:
    """Deletes old closed lines. Several processes can do this on one database."""

    def __init__(
        self,
        closed_lines: ClosedLines,
        keep: timedelta | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``keep`` is the time for which lines are kept after the last message about them; None: always."""
        self._closed_lines = closed_lines
        self._keep = keep
        self._clock = clock
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start looking regularly, in the running event loop, unless everything is kept."""
        if self._keep is not None:
            self._task = asyncio.create_task(self._work(self._keep), name="closed lines")

    async def close(self) -> None:
        """Finish the batch under way, and stop."""
        self._closing.set()
        if self._task is not None:
            await self._task
        await self._closed_lines.close()

    async def tidy(self, keep: timedelta, *, dry_run: bool = False) -> Tidied:
        """Delete older lines, a few at a time; with ``dry_run`` only count them. Raises `StoreUnavailable`."""
        until = self._clock() - keep
        total = Tidied()
        after: AgeKey | None = FIRST
        while after is not None and not self._closing.is_set():
            tidied, after = await self._closed_lines.remove(until, after, BATCH_SIZE, dry_run=dry_run)
            total.add(tidied)
            if after is not None and not dry_run:
                await asyncio.sleep(PAUSE_S)
        return total

    async def _work(self, keep: timedelta) -> None:
        while not await self._is_over_after(LOOK_INTERVAL_S):
            try:
                tidied = await self.tidy(keep)
                if tidied.lines:
                    log.info("closed lines removed", lines=tidied.lines, messages=tidied.messages)
            except StoreUnavailable as error:
                log.warning("closed lines cannot be removed", reason=str(error))
            except Exception:
                log.exception("closed lines cannot be removed")

    async def _is_over_after(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()


def plan(
    lines: Mapping[ClosedLine, Sequence[LedgerRow]], cascades_of: Callable[[Sequence[str]], Mapping[str, Cascade]]
) -> Removal:
    """The changes to delete these lines, each with all its rows, except lines whose rows contradict them.

    ``cascades_of`` returns cascades by their ids, as they are before the deletion.
    """
    removal = Removal()
    shares: defaultdict[str, list[Opening]] = defaultdict(list)
    rows: defaultdict[str, list[LedgerRow]] = defaultdict(list)
    for line, about in lines.items():
        share = share_of(line, about)
        if share is not None:
            removal.lines.append(line)
            shares[line.sku].append(share)
            for row in about:
                rows[row.correlation_id].append(row)
    removal.openings = {sku: _sum(each) for sku, each in shares.items()}
    for id_, cascade in cascades_of(list(rows)).items():
        _shorten(cascade, rows[id_], removal)
    return removal


def share_of(line: ClosedLine, rows: Sequence[LedgerRow]) -> Opening | None:
    """A line's contribution to the books of its product; None if its rows do not lead to its state."""
    books = Books(line.sku)
    booked: Booked | None = None
    for row in rows:
        for _, type_, body in row.told():
            if type_ in _BOOKED:
                fact = Fact(row.position, row.sku, type_, row.orderid, body)
                booked = _book(books, fact, booked)
    held = {ref: batch.allocated_quantity for ref, batch in books.batches.items() if batch.allocated_quantity}
    shipped = {ref: batch.shipped_quantity for ref, batch in books.batches.items() if batch.shipped_quantity}
    stored = (line.qty, line.batchref, line.closed)
    if books.contradictions or booked is None or stored != (booked.line.qty, *booked.promise[1:]):
        return None
    if held != shipped or shipped != ({line.batchref: line.qty} if line.closed == SHIPPED else {}):
        return None
    return Opening(books.version_number, shipped, rows[-1].position, max(row.recorded_at for row in rows))


def _book(books: Books, fact: Fact, line: Booked | None) -> Booked | None:
    """Book a fact of a single line; its batches are created as needed."""
    ref = msgspec.json.decode(fact.body).get("batchref")
    if ref is not None:
        books.batches.setdefault(ref, Stock(ref, fact.sku, 0))
    return books.book(fact, line)


def _sum(shares: Iterable[Opening]) -> Opening:
    total = Opening()
    for each in shares:
        assert each.recorded_at is not None  # noqa: S101 - every share has rows
        total = Opening(
            total.version_number + each.version_number,
            Counter(total.shipped) + Counter(each.shipped),
            max(total.position, each.position),
            max(total.recorded_at or each.recorded_at, each.recorded_at),
        )
    return total


def _shorten(cascade: Cascade, rows: Sequence[LedgerRow], removal: Removal) -> None:
    """Take rows out of a cascade."""
    messages = sum(len(row.told()) for row in rows)
    remaining = cascade.remaining - messages
    first = next((row for row in rows if row.step == 0), None) if remaining > 0 else None
    removal.gone += [row.position for row in rows if row is not first]
    if first is not None:
        removal.bared.append(first.position)
        messages, remaining = messages - 1, remaining + 1
    elif cascade.bare and remaining == 1:
        removal.unneeded.append(cascade.correlation_id)
        messages, remaining = messages + 1, 0
    removal.messages += messages
    if remaining > 0:
        bare = cascade.bare or first is not None
        removal.shortened.append(Cascade(cascade.correlation_id, remaining, bare))
    else:
        removal.ended.append(cascade.correlation_id)

"""Retention: closed lines go when they were kept long enough, and what they came to is brought forward.

A line is kept with all messages about it while it is open, and for so long after the last of them. Then it goes, whole,
and what its messages added to the books is added to the opening of its product instead. So the rest can be proved as
before. Four things stay longer:

- a line that has deliveries left: what is owed to the outside world needs its cause;
- a line that was split, for as long as its next part, whose messages have their cause in its own;
- a line whose messages do not lead to where it stands: that is for an audit to name;
- the first message of a cascade, for as long as any other of it stays, without what it says of its own line. So every
  message that is kept has its cause, and the id of a cascade is never half known.
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
PAUSE_S = 0.05  # between two of them, for whoever waits

_BOOKED: Final = frozenset(kind.__name__ for kind in BOOKED)

log = structlog.get_logger(__name__)


class ClosedLine(NamedTuple):
    """A line that has come to an end, as it is stored."""

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
    """How many of a cascade's messages remain; ``bare``: the first of them without what it says of its own line."""

    correlation_id: str
    remaining: int
    bare: bool = False


@dataclass(slots=True)
class Removal:
    """What a batch of lines takes out of the ledger, and what it leaves: the openings are to be added."""

    lines: list[ClosedLine] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)  # positions of rows
    bared: list[int] = field(default_factory=list)  # of first messages that stay for the others of their cascade
    messages: int = 0
    openings: dict[str, Opening] = field(default_factory=dict)
    shortened: list[Cascade] = field(default_factory=list)
    unneeded: list[str] = field(default_factory=list)  # cascades of which only the bare first message was left
    ended: list[str] = field(default_factory=list)  # cascades of which nothing is left, those among them


@dataclass(slots=True)
class Tidied:
    """How many closed lines went, with how many messages; and how many that were old enough stayed, and why."""

    lines: int = 0
    messages: int = 0  # 0 where nothing was removed, for it depends on all that goes
    undelivered: int = 0  # there are deliveries of their messages
    doubted: int = 0  # their messages do not lead to where they stand

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
    """Where closed lines are kept. Every method raises `StoreUnavailable`."""

    async def remove(
        self, until: datetime, after: AgeKey, limit: int, *, dry_run: bool
    ) -> tuple[Tidied, AgeKey | None]:
        """Remove those of the next ``limit`` lines that nothing was said of since, in one transaction.

        Returns what was done, and the place of the last line that was looked at; None: there are no more. Counters stay
        as they are, and nobody sees or changes a line that is half gone.
        """

    async def close(self) -> None:
        """Give back the connection."""


class Retention:
    """Has closed lines removed when they were kept long enough. Any number may work on one database."""

    def __init__(
        self,
        closed_lines: ClosedLines,
        keep: timedelta | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``keep`` is how long lines stay after the last message about them; None: for ever."""
        self._closed_lines = closed_lines
        self._keep = keep
        self._clock = clock
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look now and then, in the running event loop, unless all is kept for ever."""
        if self._keep is not None:
            self._task = asyncio.create_task(self._work(self._keep), name="closed lines")

    async def close(self) -> None:
        """Finish the batch under way, and stop."""
        self._closing.set()
        if self._task is not None:
            await self._task
        await self._closed_lines.close()

    async def tidy(self, keep: timedelta, *, dry_run: bool = False) -> Tidied:
        """Remove what is older, a few lines at a time; with ``dry_run`` only count. Raises `StoreUnavailable`."""
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
    """What it takes to remove these lines, each with all rows about it, but for those whose rows contradict them.

    ``cascades_of`` tells of cascades by their ids what they are before it.
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
    """What a line added to the books of its product; None if its rows do not lead to where it stands."""
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
    """Book a fact of a line alone: its batches are known from others."""
    ref = msgspec.json.decode(fact.body).get("batchref")
    if ref is not None:
        books.batches.setdefault(ref, Stock(ref, fact.sku, 0))
    return books.book(fact, line)


def _sum(shares: Iterable[Opening]) -> Opening:
    total = Opening()
    for each in shares:
        assert each.recorded_at is not None  # noqa: S101 - of what has rows
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

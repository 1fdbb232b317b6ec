"""The deliveries and leases of a history: the statements of the real adapters, on a database in memory.

Its clock is made up, and everything it is told is done at one moment. What relays write is seen as it is written.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from allocation.adapters.connection import SPELLINGS, OwnConnection, Statements, Work
from allocation.adapters.dead_letters import SqlDeadLetters
from allocation.adapters.outbox import Outbox
from allocation.adapters.tables import deliveries, leases, ledger, relays
from allocation.service_layer.delivering.leases import partition_of
from allocation.service_layer.writing.store import DeliveryRow

T = TypeVar("T")

LATE = frozenset({"lost late", "crash late"})  # what goes wrong when whoever asked for it does not wait any more
DUE = """
    SELECT 1 FROM deliveries AS owed WHERE state = 'pending' AND NOT (? AND EXISTS (
        SELECT 1 FROM deliveries AS dead WHERE dead.effect = owed.effect AND dead.sku = owed.sku
            AND dead.number < owed.number AND dead.state = 'dead'
    ))
"""
LEFT = "SELECT number, state FROM deliveries WHERE state <> 'done' ORDER BY number"
LEASE = "SELECT holder, epoch FROM leases WHERE partition = ?"
OWED = "INSERT INTO deliveries (number, correlation_id, step, effect, sku, type, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
MARKS = """
    CREATE TEMP TRIGGER removed AFTER DELETE ON deliveries WHEN old.state = 'pending'
    BEGIN SELECT marked(old.number, old.sku, 'done'); END;
    CREATE TEMP TRIGGER changed AFTER UPDATE ON deliveries
    BEGIN SELECT marked(old.number, old.sku, new.state); END;
"""


class Lease(NamedTuple):
    """Who had the lease of a partition at some moment, and under which epoch."""

    holder: str | None = None
    epoch: int = 0


class Mark(NamedTuple):
    """A relay, or ``by`` None the operator, wrote down what became of a delivery. ``late``: when it waited no more."""

    moment: int
    number: int
    state: str
    lease: Lease
    by: str | None
    late: bool


class Deliveries:
    """The tables. The deliveries that the writers have committed are in them."""

    def __init__(
        self, committed: Sequence[DeliveryRow], now: Callable[[], datetime], next_moment: Callable[[], int]
    ) -> None:
        self.marks: list[Mark] = []
        self.ahead_s = 0.0  # of the clock
        self._committed = committed
        self._copied = 0
        self._now = now
        self._next_moment = next_moment
        self._by: tuple[str | None, bool] = (None, False)
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.create_function("partition_of", 1, partition_of, deterministic=True)
        self._database.create_function("strftime", -1, self._moment)
        self._database.create_function("marked", 3, self._mark)
        self._database.executescript(_schema())

    def do(self, work: Work[T], by: str | None = None, *, late: bool = False) -> T:
        """Work on behalf of a relay, or of the operator."""
        self._by = by, late
        return work(_Statements(self))

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        self._copy()
        return self._database.execute(statement, values)

    def are_due(self, *, dead_letters_hold: bool) -> bool:
        """Whether there is anything to tell, be it later; what waits for a dead letter is not."""
        return self.execute(DUE, [dead_letters_hold]).fetchone() is not None

    def lease_of(self, sku: str) -> Lease:
        return next(map(Lease._make, self._database.execute(LEASE, (partition_of(sku),))), Lease())

    def close(self) -> None:
        self._database.close()

    def _copy(self) -> None:
        """What was committed since the last time, under the numbers that a database would give it."""
        if self._copied < len(self._committed):
            new = enumerate(self._committed[self._copied :], self._copied + 1)
            self._database.executemany(OWED, [(number, *row) for number, row in new])
            self._copied = len(self._committed)

    def _moment(self, _: str, __: str, later: str = "0 seconds") -> str:
        """In place of the function of SQLite, which asks the clock of the machine."""
        moment = self._now() + timedelta(seconds=self.ahead_s + float(later.split(maxsplit=1)[0]))
        return moment.isoformat(timespec="milliseconds")

    def _mark(self, number: int, sku: str, state: str) -> None:
        self.marks.append(Mark(self._next_moment(), number, state, self.lease_of(sku), *self._by))


class _Statements(Statements):
    def __init__(self, tables: Deliveries) -> None:
        self._tables = tables

    def rows(self, statement: str, **values: Any) -> Sequence[tuple[Any, ...]]:
        return self._tables.execute(_spelled(statement), values).fetchall()

    def do(self, statement: str, **values: Any) -> int:
        return self._tables.execute(_spelled(statement), values).rowcount


@functools.cache
def _spelled(statement: str) -> str:
    return statement.format_map(SPELLINGS["sqlite"])


@functools.cache
def _schema() -> str:
    def statements() -> Iterator[str]:
        for each in (ledger, deliveries, leases, relays):
            yield str(CreateTable(each).compile(dialect=dialect()))
            yield from (str(CreateIndex(index).compile(dialect=dialect())) for index in each.indexes)

    return ";".join((*statements(), MARKS))


class Call(Protocol):
    """Has work done in the database, if nothing goes wrong on the way."""

    async def __call__(self, work: Callable[[str | None], Coroutine[Any, Any, T]]) -> T: ...


class SimulatedConnection(OwnConnection):
    """One relay's."""

    def __init__(self, tables: Deliveries, by: str | None, call: Call) -> None:
        self._tables = tables
        self._by = by
        self._call = call
        self._one_at_a_time = asyncio.Lock()

    async def run(self, work: Work[T]) -> T:
        async def now(fault: str | None) -> T:
            return self._tables.do(work, self._by, late=fault in LATE)

        async with self._one_at_a_time:
            return await self._call(now)

    async def run_in_transaction(self, work: Work[T]) -> T:
        return await self.run(work)

    async def close(self) -> None:
        """Nothing to give back."""


class SimulatedOutbox(Outbox):
    """The real one, on a connection that it is given."""

    def __init__(self, connection: OwnConnection, name: str) -> None:
        self._connection = connection
        self._me = name
        self._known = False


class SimulatedDeadLetters(SqlDeadLetters):
    """The real ones, for an operator with whom nothing goes wrong."""

    def __init__(self, tables: Deliveries) -> None:
        async def call(work: Callable[[str | None], Coroutine[Any, Any, T]]) -> T:
            return await work(None)

        self._connection = SimulatedConnection(tables, None, call)

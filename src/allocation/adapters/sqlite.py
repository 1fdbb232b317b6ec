"""The store on SQLite: a file, no server. One writer at a time, over all processes.

Everything is committed with ``synchronous=FULL`` in WAL mode: acknowledged messages survive a power failure if the disk
keeps its word. Reading runs in the caller's thread; writing, with the wait for the disk, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TypeVar

import msgspec
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from allocation.adapters.database import LOCK_TIMEOUT_S, sqlite_engine
from allocation.domain.fields import MAX_POSITION, MAX_PRIORITY
from allocation.domain.lines import Fit, Miscount, Today
from allocation.service_layer.writing.store import (
    PAGE_SIZE,
    UNUSUAL_PRIORITIES,
    BatchRow,
    Changes,
    DeliveryRow,
    LineRow,
    Loaded,
    MessageRow,
    ProductRow,
    Session,
    StoreConflict,
    StoreUnavailable,
    TimedRow,
    Wanted,
    as_moment,
)

T = TypeVar("T")

LOCK_POLL_S = 0.002

BATCH_COLUMNS = ", ".join(BatchRow._fields)
LINE_COLUMNS = ", ".join(LineRow._fields)
MESSAGE_COLUMNS = ", ".join(MessageRow._fields)

PRODUCT_COLUMNS = ", ".join(ProductRow._fields)
PRODUCTS = f"SELECT {PRODUCT_COLUMNS} FROM products WHERE sku IN (SELECT value FROM json_each(?))"
BATCHES_WITH_ROOM = (
    f"SELECT {BATCH_COLUMNS} FROM batches INDEXED BY ix_batches_with_room"
    " WHERE has_room AND sku IN (SELECT value FROM json_each(?))"
)
BATCHES_NAMED = f"SELECT {BATCH_COLUMNS} FROM batches WHERE ref IN (SELECT value FROM json_each(?))"
BATCH = f"SELECT {BATCH_COLUMNS} FROM batches WHERE sku = ? AND ref = ?"
LINE = f"SELECT {LINE_COLUMNS} FROM order_lines WHERE orderid = ? AND sku = ?"
LINES = (
    f"SELECT {LINE_COLUMNS} FROM json_each(?) AS wanted"
    " CROSS JOIN order_lines ON orderid = wanted.value ->> 0 AND sku = wanted.value ->> 1"
)
MESSAGES = f"SELECT {MESSAGE_COLUMNS} FROM ledger WHERE correlation_id IN (SELECT value FROM json_each(?))"
HOLDS = (
    f"SELECT {LINE_COLUMNS} FROM order_lines"
    " WHERE orderid IN (SELECT value FROM json_each(?)) AND expires_at IS NOT NULL"
)
# Each priority there may be is looked for, since there may be any number of lines of one.
PRIORITIES = (
    "SELECT value FROM json_each(?1) WHERE EXISTS (SELECT 1 FROM order_lines INDEXED BY ix_order_lines_by_priority"
    " WHERE sku = ?2 AND batchref IS ?3 AND closed IS NULL AND priority <> 0 AND priority = value)"
)
# The lines of the usual priority are found by an index of all lines, the few others by one of their own.
NEWEST_LINES = (
    f"SELECT {LINE_COLUMNS} FROM order_lines INDEXED BY ix_order_lines_of_batch"
    f" WHERE batchref = ? AND position < ? AND closed IS NULL AND priority = 0 ORDER BY position DESC LIMIT {PAGE_SIZE}"
)
NEWEST_LINES_OF = (
    f"SELECT {LINE_COLUMNS} FROM order_lines INDEXED BY ix_order_lines_by_priority WHERE sku = ? AND batchref = ?"
    f" AND position < ? AND closed IS NULL AND priority <> 0 AND priority = ? ORDER BY position DESC LIMIT {PAGE_SIZE}"
)
# A line fits: ?3 is the largest quantity, ?4 the last day, and ?5 has every quantity with its day.
FITS = (
    "qty <= ?3 AND coalesce(need_by, '') <= ?4 AND EXISTS ("
    "SELECT 1 FROM json_each(?5) AS fit WHERE qty <= fit.value ->> 0 AND coalesce(need_by, '') <= fit.value ->> 1)"
)
TO_SPLIT = "part IS NOT NULL AND rest IS NULL AND coalesce(need_by, '') <= ?4"
# The days that lines are needed by are looked at one by one, since there may be any number of lines of one.
ANY_WAITING = f"""
    WITH RECURSIVE days (day) AS (
        SELECT min(need_by) FROM order_lines INDEXED BY ix_order_lines_waiting_kinds
        WHERE sku = ?1 AND batchref IS NULL AND closed IS NULL AND need_by <= ?4
        UNION ALL SELECT (
            SELECT min(need_by) FROM order_lines INDEXED BY ix_order_lines_waiting_kinds
            WHERE sku = ?1 AND batchref IS NULL AND closed IS NULL AND need_by > days.day AND need_by <= ?4
        ) FROM days WHERE days.day IS NOT NULL
    ) SELECT EXISTS (
        SELECT 1 FROM order_lines INDEXED BY ix_order_lines_waiting_kinds
        WHERE sku = ?1 AND batchref IS NULL AND closed IS NULL AND need_by IS NULL AND qty <= ?3
    ) OR EXISTS (
        SELECT 1 FROM days CROSS JOIN json_each(?5) AS fit WHERE day <= fit.value ->> 1 AND EXISTS (
            SELECT 1 FROM order_lines INDEXED BY ix_order_lines_waiting_kinds
            WHERE sku = ?1 AND batchref IS NULL AND closed IS NULL AND need_by = day AND qty <= fit.value ->> 0
        )
    ) OR EXISTS (
        SELECT 1 FROM order_lines INDEXED BY ix_order_lines_to_split
        WHERE sku = ?1 AND batchref IS NULL AND closed IS NULL AND {TO_SPLIT}
    )
"""
# Also lines that are too large and may be split.
WAITING_LINES = (
    f"SELECT {LINE_COLUMNS} FROM order_lines INDEXED BY ix_order_lines_waiting WHERE sku = ?1 AND batchref IS NULL"
    f" AND closed IS NULL AND position > ?2 AND priority = 0 AND {FITS}"
    f" UNION ALL SELECT {LINE_COLUMNS} FROM order_lines INDEXED BY ix_order_lines_to_split WHERE sku = ?1"
    f" AND batchref IS NULL AND closed IS NULL AND {TO_SPLIT} AND position > ?2 AND NOT ({FITS})"
    f" AND priority = 0 ORDER BY position LIMIT {PAGE_SIZE}"
)
WAITING_LINES_OF = (
    f"SELECT {LINE_COLUMNS} FROM order_lines INDEXED BY ix_order_lines_by_priority WHERE sku = ?1 AND batchref IS NULL"
    f" AND closed IS NULL AND position > ?2 AND (({FITS}) OR ({TO_SPLIT}))"
    " AND priority <> 0 AND priority = ?6"
    f" ORDER BY position LIMIT {PAGE_SIZE}"
)
LATE_LINES = f"""
    SELECT {", ".join(f"line.{column}" for column in LineRow._fields)}
    FROM order_lines AS line JOIN batches ON batches.ref = line.batchref
    WHERE line.sku = ?1 AND closed IS NULL AND need_by IS NOT NULL AND need_by >= ?4
    AND priority BETWEEN 0 AND {MAX_PRIORITY}
    AND (batches.eta > need_by OR (batches.eta < ?2 AND ?3 > need_by)
        OR batches.ref IN (SELECT value FROM json_each(?5)))
    AND NOT (arrived_quantity IS NOT NULL AND coalesce(arrived, false))
    AND EXISTS (SELECT 1 FROM json_each(?8) AS fit WHERE qty <= fit.value ->> 0 AND need_by >= fit.value ->> 1)
    AND (-priority, line.position) > (?6, ?7)
    ORDER BY -priority, line.position LIMIT {PAGE_SIZE}
"""
DELIVERED = "SELECT sku, ref FROM batches WHERE delivery = ? ORDER BY sku, position"
TIMED_COLUMNS = ", ".join(TimedRow._fields)
STOCK_TOLD = f"SELECT {TIMED_COLUMNS} FROM ledger WHERE sku = ? AND orderid IS NULL ORDER BY position"
TOLD_BEFORE = (
    f"SELECT {TIMED_COLUMNS} FROM ledger WHERE sku = ? AND position < ? ORDER BY position DESC LIMIT {PAGE_SIZE}"
)
MISCOUNTS = """
    SELECT ref, allocated_quantity - held - gone, shipped_quantity - shipped - gone FROM (
        SELECT ref, allocated_quantity, shipped_quantity, CAST(coalesce((
            SELECT sum(qty) FROM order_lines WHERE batchref = ref AND order_lines.sku = batches.sku
        ), 0) AS bigint) AS held, CAST(coalesce((
            SELECT sum(qty) FROM order_lines
            WHERE batchref = ref AND order_lines.sku = batches.sku AND closed IS NOT NULL
        ), 0) AS bigint) AS shipped, coalesce((
            SELECT opening.shipped_quantity FROM batch_openings AS opening
            WHERE opening.batchref = ref AND opening.sku = batches.sku
        ), 0) AS gone FROM batches WHERE sku = ?1
    ) AS counted WHERE allocated_quantity <> held + gone OR shipped_quantity <> shipped + gone
    UNION ALL
    SELECT NULL, waiting_lines - waiting, 0 FROM (
        SELECT waiting_lines, (
            SELECT count(*) FROM order_lines
            WHERE order_lines.sku = products.sku AND batchref IS NULL AND closed IS NULL
        ) AS waiting FROM products WHERE sku = ?1
    ) AS counted WHERE waiting_lines <> waiting
"""

# Rows come as one JSON array of arrays: a statement is one step of the driver, which leaves Python to others meanwhile.
INSERT = "INSERT INTO {table} ({columns}) SELECT {values} FROM json_each(?1) AS new"
UPDATE_PRODUCTS = """
    UPDATE products
    SET version_number = new.value ->> 1, waiting_lines = new.value ->> 2, rules = new.value ->> 4,
        retired = new.value ->> 5
    FROM json_each(?1) AS new WHERE sku = new.value ->> 0 AND version_number = new.value ->> 3
"""
UPDATE_BATCHES = """
    UPDATE batches SET purchased_quantity = new.value ->> 3, allocated_quantity = new.value ->> 4
    FROM json_each(?1) AS new WHERE batches.sku = new.value ->> 1 AND batches.ref = new.value ->> 0
"""
REWRITE_BATCHES = """
    UPDATE batches SET
        eta = new.value ->> 2, purchased_quantity = new.value ->> 3, allocated_quantity = new.value ->> 4,
        shipped_quantity = new.value ->> 8, location = new.value ->> 9, expires_on = new.value ->> 10,
        quarantine = new.value ->> 11, delivery = new.value ->> 12, arrived_quantity = new.value ->> 13,
        arrived_allocated = new.value ->> 14, inspect_quantity = new.value ->> 15, last_eta = new.value ->> 16,
        counted_at = new.value ->> 17, created_as = new.value ->> 18
    FROM json_each(?1) AS new WHERE batches.sku = new.value ->> 1 AND batches.ref = new.value ->> 0
"""
UPDATE_LINES = """
    UPDATE order_lines SET
        qty = new.value ->> 2, batchref = new.value ->> 3, priority = new.value ->> 5,
        expires_at = new.value ->> 7, closed = new.value ->> 8, rest = new.value ->> 10, arrived = new.value ->> 11,
        closed_at = iif(new.value ->> 8 IS NULL, NULL, ?2)
    FROM json_each(?1) AS new WHERE orderid = new.value ->> 0 AND sku = new.value ->> 1
"""


def insert(table: str, columns: Sequence[str], **constants: str) -> str:
    """The statement that inserts rows with these columns, in their order, and constants beside them."""
    values = [*(f"new.value ->> {place}" for place in range(len(columns))), *constants.values()]
    return INSERT.format(table=table, columns=", ".join((*columns, *constants)), values=", ".join(values))


DATED = {"new_lines", "lines", "messages"}  # the parts with a time
# The statement for the rows of each part of the changes, in this order.
WRITES = {
    "new_products": insert("products", ProductRow._fields),
    "products": UPDATE_PRODUCTS,
    "new_batches": insert("batches", BatchRow._fields),
    "batches": UPDATE_BATCHES,
    "rewritten_batches": REWRITE_BATCHES,
    "new_lines": insert("order_lines", LineRow._fields, closed_at="iif(new.value ->> 8 IS NULL, NULL, ?2)"),
    "lines": UPDATE_LINES,
    "messages": insert("ledger", MessageRow._fields, recorded_at="?2"),
    "deliveries": insert("deliveries", DeliveryRow._fields),
}


class SqliteSession:
    """One transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def load(self, wanted: Wanted) -> Loaded:
        loaded = Loaded()
        skus = set(wanted.skus)
        if wanted.refs:
            named = [_batch(row) for row in self._execute(BATCHES_NAMED, [json.dumps(list(wanted.refs))])]
            skus.update(row.sku for row in named)
            loaded.batches += [row for row in named if row.allocated_quantity >= row.purchased_quantity]
        if wanted.holdids:
            holds = [_line(row) for row in self._execute(HOLDS, [json.dumps(list(wanted.holdids))])]
            skus.update(row.sku for row in holds)
            loaded.lines += holds
        if skus:
            names = [json.dumps(list(skus))]
            loaded.products += [ProductRow(*row) for row in self._execute(PRODUCTS, names)]
            loaded.batches += [_batch(row) for row in self._execute(BATCHES_WITH_ROOM, names)]
        if wanted.lines:
            keys = [msgspec.json.encode(wanted.lines).decode()]
            loaded.lines += [_line(row) for row in self._execute(LINES, keys)]
        if wanted.message_ids:
            ids = [json.dumps(list(wanted.message_ids))]
            loaded.messages += [MessageRow(*row) for row in self._execute(MESSAGES, ids)]
        return loaded

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        return next((_batch(row) for row in self._execute(BATCH, (sku, ref))), None)

    def line(self, sku: str, orderid: str) -> LineRow | None:
        return next((_line(row) for row in self._execute(LINE, (orderid, sku))), None)

    def priorities(self, sku: str, ref: str | None) -> Sequence[int]:
        return [row[0] for row in self._execute(PRIORITIES, (json.dumps(UNUSUAL_PRIORITIES), sku, ref))]

    def newest_lines(self, sku: str, ref: str, before: int, priority: int = 0) -> Sequence[LineRow]:
        if priority:
            return [_line(row) for row in self._execute(NEWEST_LINES_OF, (sku, ref, before, priority))]
        return [_line(row) for row in self._execute(NEWEST_LINES, (ref, before))]

    def any_waiting(self, sku: str, fits: Sequence[Fit]) -> bool:
        return any(row[0] for row in self._execute(ANY_WAITING, (sku, 0, *_bounds(fits))))

    def waiting_lines(self, sku: str, after: int, fits: Sequence[Fit], priority: int = 0) -> Sequence[LineRow]:
        asked = (sku, after, *_bounds(fits))
        if priority:
            return [_line(row) for row in self._execute(WAITING_LINES_OF, (*asked, priority))]
        return [_line(row) for row in self._execute(WAITING_LINES, asked)]

    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        arguments = (
            sku,
            today.day.isoformat(),
            today.overdue.isoformat(),
            max(today.day, fits[-1].day).isoformat(),
            json.dumps(list(rewritten)),
            *after,
            _text_of(fits),
        )
        return [_line(row) for row in self._execute(LATE_LINES, arguments)]

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        return [Miscount(*row) for row in self._execute(MISCOUNTS, (sku,))]

    def delivered(self, delivery: str) -> Sequence[tuple[str, str]]:
        return [(sku, ref) for sku, ref in self._execute(DELIVERED, (delivery,))]

    def stock_told(self, sku: str) -> Sequence[TimedRow]:
        return [_timed(row) for row in self._execute(STOCK_TOLD, (sku,))]

    def told_before(self, sku: str, position: int | None) -> Sequence[TimedRow]:
        return [
            _timed(row) for row in self._execute(TOLD_BEFORE, (sku, MAX_POSITION if position is None else position))
        ]

    def save(self, changes: Changes) -> None:
        for part, statement in WRITES.items():
            rows = getattr(changes, part)
            if not rows:
                continue
            arguments = [msgspec.json.encode(rows).decode()]
            if part in DATED:
                arguments.append(changes.recorded_at.isoformat())
            written = self._execute(statement, arguments).rowcount
            if written != len(rows):
                raise StoreConflict(f"{written} of {len(rows)} {part} are as they were loaded")


def _bounds(fits: Sequence[Fit]) -> tuple[int, str, str]:
    return fits[0].qty, fits[-1].day.isoformat(), _text_of(fits)


def _text_of(fits: Sequence[Fit]) -> str:
    return json.dumps([(fit.qty, fit.day.isoformat()) for fit in fits])


def _batch(row: Sequence[object]) -> BatchRow:
    batch = BatchRow(*row)  # type: ignore[arg-type]
    return batch._replace(
        eta=_as_date(batch.eta),
        initial_eta=_as_date(batch.initial_eta),
        expires_on=_as_date(batch.expires_on),
        last_eta=_as_date(batch.last_eta),
        counted_at=batch.counted_at and as_moment(batch.counted_at),
    )


def _line(row: Sequence[object]) -> LineRow:
    line = LineRow(*row)  # type: ignore[arg-type]
    if line.need_by is None and line.expires_at is None:
        return line
    return line._replace(need_by=_as_date(line.need_by), expires_at=line.expires_at and as_moment(line.expires_at))


def _timed(row: Sequence[object]) -> TimedRow:
    timed = TimedRow(*row)  # type: ignore[arg-type]
    return timed._replace(recorded_at=as_moment(timed.recorded_at))


def _as_date(text: object) -> date | None:
    return date.fromisoformat(text) if isinstance(text, str) else None


class SqliteStore:
    """The writer's own connection to a database file."""

    def __init__(self, url: URL) -> None:
        self._engine = sqlite_engine(url)
        self._reading = sqlite_engine(url, read_only=True)
        self._committing = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    async def run(self, work: Callable[[Session], T]) -> T:
        with _told_as_the_stores():
            async with self._transaction() as connection:
                result = work(SqliteSession(connection))
                await self._in_thread(connection.commit)
                return result

    async def read(self, wanted: Wanted) -> Loaded:
        return await self.look(lambda session: session.load(wanted))

    async def look(self, work: Callable[[Session], T]) -> T:
        with _told_as_the_stores():
            if self._reader is None:
                self._reader = _connected(self._reading)
            self._reader.execute("BEGIN")
            try:
                return work(SqliteSession(self._reader))
            finally:
                self._reader.rollback()

    async def write(self, changes: Changes) -> None:
        """All of it is done in the thread, where the database's work does not hold up the event loop."""
        with _told_as_the_stores():
            async with self._transaction() as connection:

                def save_and_commit() -> None:
                    SqliteSession(connection).save(changes)
                    connection.commit()

                await self._in_thread(save_and_commit)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[sqlite3.Connection]:
        if self._connection is None:
            self._connection = _connected(self._engine)
            self._connection.execute("PRAGMA busy_timeout = 0")  # waiting is done in the event loop
        await _begin(self._connection)
        try:
            yield self._connection
        except BaseException:
            self._connection.rollback()
            raise

    def _in_thread(self, work: Callable[[], None]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._committing, work)

    async def close(self) -> None:
        for connection in (self._connection, self._reader):
            if connection is not None:
                connection.close()
        self._connection = self._reader = None
        self._engine.dispose()
        self._reading.dispose()
        self._committing.shutdown()


@contextlib.contextmanager
def _told_as_the_stores() -> Iterator[None]:
    """Errors of the driver leave as the store's."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorname in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}:
            raise StoreConflict(str(error)) from error
        raise
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(str(error)) from error


def _connected(engine: Engine) -> sqlite3.Connection:
    """A connection of our own, outside the pool."""
    pooled = engine.raw_connection()
    connection = pooled.driver_connection
    pooled.detach()
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - the driver's always is
    return connection


async def _begin(connection: sqlite3.Connection) -> None:
    """Become the writer. Waits for another process to finish, without blocking the event loop."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or loop.time() > deadline:
                raise
            await asyncio.sleep(LOCK_POLL_S)
        else:
            return

"""The store on SQLite: a file, no server. One writer at a time, whichever process it is in.

Everything is committed with ``synchronous=FULL`` in WAL mode: what was answered survives a power failure, as far as the
disk keeps its word. Statements run where the caller runs, the commit with its wait for the disk in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TypeVar

from sqlalchemy.engine import URL

from allocation.adapters.database import LOCK_TIMEOUT_S, sqlite_engine
from allocation.domain.model import Miscount
from allocation.service_layer.store import (
    PAGE_SIZE,
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
    Wanted,
)

T = TypeVar("T")

LOCK_POLL_S = 0.002

BATCH_COLUMNS = ", ".join(BatchRow._fields)
LINE_COLUMNS = ", ".join(LineRow._fields)
MESSAGE_COLUMNS = ", ".join(MessageRow._fields)
DELIVERY_COLUMNS = ", ".join(DeliveryRow._fields)

PRODUCTS = "SELECT sku, version_number, waiting_lines FROM products WHERE sku IN (SELECT value FROM json_each(?))"
BATCHES_WITH_ROOM = (
    f"SELECT {BATCH_COLUMNS} FROM batches INDEXED BY ix_batches_with_room"
    " WHERE has_room AND sku IN (SELECT value FROM json_each(?))"
)
BATCHES_NAMED = f"SELECT {BATCH_COLUMNS} FROM batches WHERE ref IN (SELECT value FROM json_each(?))"
BATCH = f"SELECT {BATCH_COLUMNS} FROM batches WHERE sku = ? AND ref = ?"
LINE = f"SELECT {LINE_COLUMNS} FROM order_lines WHERE orderid = ? AND sku = ?"
MESSAGES = f"SELECT {MESSAGE_COLUMNS} FROM ledger WHERE correlation_id IN (SELECT value FROM json_each(?))"
NEWEST_LINES = (
    f"SELECT {LINE_COLUMNS} FROM order_lines INDEXED BY ix_order_lines_of_batch"
    f" WHERE batchref = ? AND position < ? ORDER BY position DESC LIMIT {PAGE_SIZE}"
)
WAITING_LINES = (
    f"SELECT {LINE_COLUMNS} FROM order_lines INDEXED BY ix_order_lines_waiting"
    f" WHERE sku = ? AND batchref IS NULL AND position > ? AND qty <= ? ORDER BY position LIMIT {PAGE_SIZE}"
)
MISCOUNTS = """
    SELECT ref, allocated_quantity - held FROM (
        SELECT ref, allocated_quantity, CAST(coalesce((
            SELECT sum(qty) FROM order_lines WHERE batchref = ref AND order_lines.sku = batches.sku
        ), 0) AS bigint) AS held FROM batches WHERE sku = ?1
    ) AS counted WHERE allocated_quantity <> held
    UNION ALL
    SELECT NULL, waiting_lines - waiting FROM (
        SELECT waiting_lines, (
            SELECT count(*) FROM order_lines WHERE order_lines.sku = products.sku AND batchref IS NULL
        ) AS waiting FROM products WHERE sku = ?1
    ) AS counted WHERE waiting_lines <> waiting
"""

INSERT_PRODUCT = "INSERT INTO products (sku, version_number, waiting_lines) VALUES (?, ?, ?)"
UPDATE_PRODUCT = "UPDATE products SET version_number = ?2, waiting_lines = ?3 WHERE sku = ?1"
INSERT_BATCH = f"INSERT INTO batches ({BATCH_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
UPDATE_BATCH = "UPDATE batches SET purchased_quantity = ?3, allocated_quantity = ?4 WHERE sku = ?2 AND ref = ?1"
INSERT_LINE = f"INSERT INTO order_lines ({LINE_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
UPDATE_LINE = "UPDATE order_lines SET batchref = ? WHERE orderid = ? AND sku = ?"
INSERT_MESSAGE = f"INSERT INTO ledger ({MESSAGE_COLUMNS}, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_DELIVERY = f"INSERT INTO deliveries ({DELIVERY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"


class SqliteSession:
    """One transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def load(self, wanted: Wanted) -> Loaded:
        loaded = Loaded()
        skus = set(wanted.skus)
        if wanted.refs:
            named = [_batch(row) for row in self._execute(BATCHES_NAMED, [json.dumps(list(wanted.refs))])]
            skus.update(row.sku for row in named)
            loaded.batches += [row for row in named if row.allocated_quantity >= row.purchased_quantity]
        names = [json.dumps(list(skus))]
        loaded.products += [ProductRow(*row) for row in self._execute(PRODUCTS, names)]
        loaded.batches += [_batch(row) for row in self._execute(BATCHES_WITH_ROOM, names)]
        for key in wanted.lines:
            loaded.lines += [LineRow(*row) for row in self._execute(LINE, key)]
        if wanted.message_ids:
            ids = [json.dumps(list(wanted.message_ids))]
            loaded.messages += [MessageRow(*row) for row in self._execute(MESSAGES, ids)]
        return loaded

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        return next((_batch(row) for row in self._execute(BATCH, (sku, ref))), None)

    def line(self, sku: str, orderid: str) -> LineRow | None:
        return next((LineRow(*row) for row in self._execute(LINE, (orderid, sku))), None)

    def newest_lines(self, sku: str, ref: str, before: int) -> Sequence[LineRow]:
        return [LineRow(*row) for row in self._execute(NEWEST_LINES, (ref, before))]

    def waiting_lines(self, sku: str, after: int, max_qty: int) -> Sequence[LineRow]:
        return [LineRow(*row) for row in self._execute(WAITING_LINES, (sku, after, max_qty))]

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        return [Miscount(*row) for row in self._execute(MISCOUNTS, (sku,))]

    def save(self, changes: Changes) -> None:
        recorded_at = changes.recorded_at.isoformat()
        self._executemany(INSERT_PRODUCT, changes.new_products)
        self._executemany(UPDATE_PRODUCT, changes.products)
        self._executemany(INSERT_BATCH, [_dates_as_text(row) for row in changes.new_batches])
        self._executemany(UPDATE_BATCH, changes.batches)
        self._executemany(INSERT_LINE, changes.new_lines)
        self._executemany(UPDATE_LINE, [(row.batchref, row.orderid, row.sku) for row in changes.lines])
        self._executemany(INSERT_MESSAGE, [(*row, recorded_at) for row in changes.messages])
        self._executemany(INSERT_DELIVERY, changes.deliveries)


def _batch(row: Sequence[object]) -> BatchRow:
    batch = BatchRow(*row)  # type: ignore[arg-type]
    return batch._replace(eta=_as_date(batch.eta), initial_eta=_as_date(batch.initial_eta))


def _as_date(text: object) -> date | None:
    return date.fromisoformat(text) if isinstance(text, str) else None


def _dates_as_text(row: BatchRow) -> tuple[object, ...]:
    return tuple(value.isoformat() if isinstance(value, date) else value for value in row)


class SqliteStore:
    """The writer's own connection to a database file."""

    lanes = 1

    def __init__(self, url: URL) -> None:
        self._engine = sqlite_engine(url)
        self._committing = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[Session], T]) -> T:
        try:
            connection = self._connected()
            await _begin(connection)
            try:
                result = work(SqliteSession(connection))
                await asyncio.get_running_loop().run_in_executor(self._committing, connection.commit)
            except BaseException:
                connection.rollback()
                raise
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}:
                raise StoreConflict(str(error)) from error
            raise
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(str(error)) from error
        return result

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()
        self._committing.shutdown()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            pooled = self._engine.raw_connection()
            connection = pooled.driver_connection
            pooled.detach()
            assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - the driver's always is
            connection.execute("PRAGMA busy_timeout = 0")  # waiting is done in the event loop
            self._connection = connection
        return self._connection


async def _begin(connection: sqlite3.Connection) -> None:
    """Become the one who writes, waiting for another process to finish without holding up the event loop."""
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

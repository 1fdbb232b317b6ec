"""The store on PostgreSQL: one round trip to read the data of a group, one to write its changes.

The statements are the driver's best form (arrays and ``unnest``), not generic ones; this module owns them. Everything
is committed with the server's ``synchronous_commit``, which is on by default. After a lost connection the commit may or
may not have been made; the ledger knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import date
from typing import Any, TypeVar, cast

import asyncpg
import msgspec
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import AdaptedConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from allocation.adapters.database import postgres_engine
from allocation.adapters.postgresql_pages import (
    ANY_WAITING,
    LATE_LINES,
    LINE_COLUMNS,
    NEWEST_LINES,
    NEWEST_LINES_OF,
    WAITING_LINES,
    WAITING_LINES_OF,
)
from allocation.domain.fields import MAX_POSITION
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
)

T = TypeVar("T")

CONFLICTS = (
    asyncpg.UniqueViolationError,
    asyncpg.DivisionByZeroError,  # see `save_statement`
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
# The operator stopped or restarts the server, or it has no connection or disk space left. A connection that is cut in
# the middle of an answer makes the state machine of the driver fail.
UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    TimeoutError,
    OSError,
)

# The data of a group, as rows of every kind. `own` are the products, with their present and their expected versions.
WANTED = """
WITH wanted AS MATERIALIZED (
    SELECT unnest($1::text::text[]) AS sku
    UNION SELECT sku FROM batches WHERE ref = ANY($2::text::text[])
    UNION SELECT sku FROM order_lines WHERE orderid = ANY($6::text::text[]) AND expires_at IS NOT NULL
), own AS MATERIALIZED ({own})
SELECT 'p' AS kind, own.sku, NULL::text AS key, own.version_number AS n1, own.waiting_lines AS n2,
       own.seen AS n3, NULL::bigint AS n4, NULL::bigint AS n5, NULL::date AS d1, NULL::date AS d2, NULL::date AS d3,
       own.rules AS t1, NULL::text AS t2, NULL::text AS t3, NULL::text AS t4, NULL::text AS t5, NULL::timestamptz AS m1,
       NULL::bigint AS n6, NULL::bigint AS n7, NULL::bigint AS n8, NULL::date AS d4, own.retired AS b1
FROM own
UNION ALL
SELECT 'b', w.sku, b.ref, b.purchased_quantity, b.allocated_quantity, b.position, b.initial_quantity,
       b.shipped_quantity, b.eta, b.initial_eta, b.expires_on, b.location, b.quarantine, b.delivery, b.created_as,
       NULL, b.counted_at, b.arrived_quantity, b.arrived_allocated, b.inspect_quantity, b.last_eta, NULL
FROM wanted AS w CROSS JOIN LATERAL (SELECT * FROM batches WHERE sku = w.sku AND has_room OFFSET 0) AS b
UNION ALL
SELECT 'b', b.sku, b.ref, b.purchased_quantity, b.allocated_quantity, b.position, b.initial_quantity,
       b.shipped_quantity, b.eta, b.initial_eta, b.expires_on, b.location, b.quarantine, b.delivery, b.created_as,
       NULL, b.counted_at, b.arrived_quantity, b.arrived_allocated, b.inspect_quantity, b.last_eta, NULL
FROM batches AS b WHERE b.ref = ANY($2::text::text[]) AND NOT b.has_room
UNION ALL
SELECT 'l', l.sku, l.orderid, l.qty, l.position, l.priority, l.part, l.rest,
       l.need_by, NULL, NULL, l.batchref, l.closed, NULL, NULL, NULL, l.expires_at, NULL, NULL, NULL, NULL, l.arrived
FROM unnest($3::text::text[], $4::text::text[]) AS w (orderid, sku)
CROSS JOIN LATERAL (SELECT * FROM order_lines WHERE orderid = w.orderid AND sku = w.sku OFFSET 0) AS l
UNION ALL
SELECT 'l', l.sku, l.orderid, l.qty, l.position, l.priority, l.part, l.rest,
       l.need_by, NULL, NULL, l.batchref, l.closed, NULL, NULL, NULL, l.expires_at, NULL, NULL, NULL, NULL, l.arrived
FROM order_lines AS l WHERE l.orderid = ANY($6::text::text[]) AND l.expires_at IS NOT NULL
UNION ALL
SELECT 'm', m.sku, m.correlation_id, m.step, m.causation_step, NULL, NULL, NULL, NULL, NULL, NULL,
       m.type, m.body, m.facts, m.result, m.actor, NULL, NULL, NULL, NULL, NULL, NULL
FROM unnest($5::text::text[]) AS w (id)
CROSS JOIN LATERAL (SELECT * FROM ledger WHERE correlation_id = w.id OFFSET 0) AS m
"""
READ = WANTED.format(
    own="""
    SELECT p.sku, p.version_number, p.waiting_lines, p.rules, p.retired, p.version_number AS seen
    FROM wanted CROSS JOIN LATERAL (SELECT * FROM products WHERE sku = wanted.sku OFFSET 0) AS p
"""
)
# A product's row is locked by its writers, and each of them bumps its version. The lock may have had to wait, and
# everything else is read as of before the wait; then the version seen differs from the version locked.
LOAD = WANTED.format(
    own="""
    SELECT locked.*, now.version_number AS seen FROM (
        SELECT sku, version_number, waiting_lines, rules, retired FROM products
        WHERE sku = ANY(ARRAY(SELECT sku FROM wanted)) ORDER BY sku FOR UPDATE
    ) AS locked JOIN products AS now USING (sku)
"""
)

LOOKING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

BATCH_COLUMNS = ", ".join(BatchRow._fields)
MESSAGE_COLUMNS = ", ".join(MessageRow._fields)
DELIVERY_COLUMNS = ", ".join(DeliveryRow._fields)

BATCH = f"SELECT {BATCH_COLUMNS} FROM batches WHERE sku = $1 AND ref = $2"
LINE = f"SELECT {LINE_COLUMNS} FROM order_lines WHERE orderid = $2 AND sku = $1"
# Each priority there may be is looked for, since there may be any number of lines of one.
PRIORITIES = (
    "SELECT one.priority FROM unnest($1::text::smallint[]) AS one (priority) CROSS JOIN LATERAL ("
    "SELECT FROM order_lines WHERE sku = $2 AND {standing} AND closed IS NULL AND priority <> 0"
    " AND priority = one.priority LIMIT 1) AS found"
)
PRIORITIES_ON = PRIORITIES.format(standing="batchref = $3")
PRIORITIES_WAITING = PRIORITIES.format(standing="batchref IS NULL")
DELIVERED = "SELECT sku, ref FROM batches WHERE delivery = $1 ORDER BY sku, position"
TIMED_COLUMNS = ", ".join(TimedRow._fields)
STOCK_TOLD = f"SELECT {TIMED_COLUMNS} FROM ledger WHERE sku = $1 AND orderid IS NULL ORDER BY position"
TOLD_BEFORE = (
    f"SELECT {TIMED_COLUMNS} FROM ledger WHERE sku = $1 AND position < $2 ORDER BY position DESC LIMIT {PAGE_SIZE}"
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
        ), 0) AS gone FROM batches WHERE sku = $1
    ) AS counted WHERE allocated_quantity <> held + gone OR shipped_quantity <> shipped + gone
    UNION ALL
    SELECT NULL, waiting_lines - waiting, 0 FROM (
        SELECT waiting_lines, (
            SELECT count(*) FROM order_lines
            WHERE order_lines.sku = products.sku AND batchref IS NULL AND closed IS NULL
        ) AS waiting FROM products WHERE sku = $1
    ) AS counted WHERE waiting_lines <> waiting
"""

STOCK_TYPES = ("text", "bigint", "bigint", "bigint", "date", "timestamptz", "text")  # of a batch, from its delivery on
CLOSED_AT = "CASE WHEN new.c9 IS NOT NULL THEN $1::timestamptz END"
# The statement for the rows of each part of the changes, and their columns' types; None: it cannot have changed.
WRITES = {
    "new_products": (
        f"INSERT INTO products ({', '.join(ProductRow._fields)}) SELECT * FROM {{rows}}",
        ("text", "bigint", "bigint", "text", "bool"),
    ),
    "products": (
        (
            "UPDATE products AS p SET version_number = new.c2, waiting_lines = new.c3, rules = new.c5,"
            " retired = new.c6 FROM {rows} WHERE p.sku = new.c1 AND p.version_number = new.c4 RETURNING p.sku"
        ),
        ("text", "bigint", "bigint", "bigint", "text", "bool"),
    ),
    "new_batches": (
        f"INSERT INTO batches ({BATCH_COLUMNS}) SELECT * FROM {{rows}}",
        ("text", "text", "date", *["bigint"] * 4, "date", "bigint", "text", "date", "text", *STOCK_TYPES),
    ),
    "batches": (
        (
            "UPDATE batches AS b SET purchased_quantity = new.c4, allocated_quantity = new.c5"
            " FROM {rows} WHERE b.sku = new.c2 AND b.ref = new.c1"
        ),
        ("text", "text", None, "bigint", "bigint", *[None] * 14),
    ),
    "rewritten_batches": (
        (
            "UPDATE batches AS b SET eta = new.c3, purchased_quantity = new.c4, allocated_quantity = new.c5,"
            " shipped_quantity = new.c9, location = new.c10, expires_on = new.c11, quarantine = new.c12,"
            " delivery = new.c13, arrived_quantity = new.c14, arrived_allocated = new.c15, inspect_quantity = new.c16,"
            " last_eta = new.c17, counted_at = new.c18, created_as = new.c19"
            " FROM {rows} WHERE b.sku = new.c2 AND b.ref = new.c1"
        ),
        (
            *("text", "text", "date", "bigint", "bigint", None, None, None, "bigint", "text", "date", "text"),
            *STOCK_TYPES,
        ),
    ),
    "new_lines": (
        f"INSERT INTO order_lines ({LINE_COLUMNS}, closed_at) SELECT new.*, {CLOSED_AT} FROM {{rows}}",
        (
            *("text", "text", "bigint", "text", "bigint", "smallint", "date", "timestamptz", "text"),
            *("smallint", "bigint", "bool"),
        ),
    ),
    "lines": (
        (
            "UPDATE order_lines AS l SET qty = new.c3, batchref = new.c4, priority = new.c6, expires_at = new.c8,"
            f" closed = new.c9, rest = new.c11, arrived = new.c12, closed_at = {CLOSED_AT} FROM {{rows}}"
            " WHERE l.orderid = new.c1 AND l.sku = new.c2 RETURNING l.sku"
        ),
        ("text", "text", "bigint", "text", None, "smallint", None, "timestamptz", "text", None, "bigint", "bool"),
    ),
    "messages": (
        f"INSERT INTO ledger ({MESSAGE_COLUMNS}, recorded_at) SELECT new.*, $1::timestamptz FROM {{rows}}",
        ("text", "int", "int", "text", "text", "text", "text", "text", "text", "text"),
    ),
    "deliveries": (
        f"INSERT INTO deliveries ({DELIVERY_COLUMNS}) SELECT * FROM {{rows}}",
        ("text", "int", "text", "text", "text", "text"),
    ),
}


@functools.cache
def save_statement(parts: tuple[str, ...]) -> str:
    """One statement that writes the named parts; $1 is the time, and each column of each part one array after it.

    It divides by zero, so that all of it is undone, unless every known product was found at the version loaded, and
    every known line at all.
    """
    writes = []
    number = 2
    checks = []
    for part in parts:
        template, types = WRITES[part]
        if part in {"products", "lines"}:
            found = f"(SELECT count(*) FROM write_{part}) = cardinality(${number}::text::text[])"
            checks.append(f"1 / CAST({found} AS integer)")
        sent = [(place, type_) for place, type_ in enumerate(types, start=1) if type_]
        arrays = ", ".join(f"${number + offset}::text::{type_}[]" for offset, (_, type_) in enumerate(sent))
        columns = ", ".join(f"c{place}" for place, _ in sent)
        number += len(sent)
        writes.append(f"write_{part} AS ({template.format(rows=f'unnest({arrays}) AS new ({columns})')})")
    return f"WITH {', '.join(writes)} SELECT {', '.join(['$1::timestamptz', *checks])}"


def array_literal(values: Collection[str | int | date | None]) -> str:
    """The values as PostgreSQL spells an array; a fraction of the cost of the driver's own encoding, value by value.

    It is JSON with other brackets: quotes and backslashes are escaped alike, and null is null. PostgreSQL does not know
    JSON's escapes for control characters, but our texts have none.
    """
    return "{" + msgspec.json.encode(values).decode()[1:-1] + "}"


class PostgresSession:
    """One transaction; its calls look synchronous and wait in the event loop (SQLAlchemy's greenlet bridge)."""

    def __init__(self, connection: AdaptedConnection) -> None:
        self._connection = connection

    def load(self, wanted: Wanted) -> Loaded:
        arguments = _load_arguments(wanted)
        while True:  # at most twice: locked rows cannot change any more
            records = self.fetch(LOAD, *arguments)
            if all(record["n1"] == record["n3"] for record in records if record["kind"] == "p"):
                return _loaded(records)

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        return next((BatchRow(*record) for record in self.fetch(BATCH, sku, ref)), None)

    def line(self, sku: str, orderid: str) -> LineRow | None:
        return next((LineRow(*record) for record in self.fetch(LINE, sku, orderid)), None)

    def priorities(self, sku: str, ref: str | None) -> Sequence[int]:
        statement, *on = (PRIORITIES_WAITING,) if ref is None else (PRIORITIES_ON, ref)
        return [record[0] for record in self.fetch(statement, array_literal(UNUSUAL_PRIORITIES), sku, *on)]

    def newest_lines(self, sku: str, ref: str, before: int, priority: int = 0) -> Sequence[LineRow]:
        statement, *of = (NEWEST_LINES_OF, priority) if priority else (NEWEST_LINES,)
        return [LineRow(*record) for record in self.fetch(statement, sku, ref, before, *of)]

    def any_waiting(self, sku: str, fits: Sequence[Fit]) -> bool:
        [[found]] = self.fetch(ANY_WAITING, sku, *_bounds(fits))
        return bool(found)

    def waiting_lines(self, sku: str, after: int, fits: Sequence[Fit], priority: int = 0) -> Sequence[LineRow]:
        statement, *of = (WAITING_LINES_OF, priority) if priority else (WAITING_LINES,)
        return [LineRow(*record) for record in self.fetch(statement, sku, after, *_bounds(fits), *of)]

    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        first, arrays = max(today.day, fits[-1].day), _bounds(fits)[2:]
        arguments = (sku, *today, first, array_literal(list(rewritten)), *after, *arrays)
        return [LineRow(*record) for record in self.fetch(LATE_LINES, *arguments)]

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        return [Miscount(*record) for record in self.fetch(MISCOUNTS, sku)]

    def delivered(self, delivery: str) -> Sequence[tuple[str, str]]:
        return [(sku, ref) for sku, ref in self.fetch(DELIVERED, delivery)]

    def stock_told(self, sku: str) -> Sequence[TimedRow]:
        return [TimedRow(*record) for record in self.fetch(STOCK_TOLD, sku)]

    def told_before(self, sku: str, position: int | None) -> Sequence[TimedRow]:
        arguments = (sku, MAX_POSITION if position is None else position)
        return [TimedRow(*record) for record in self.fetch(TOLD_BEFORE, *arguments)]

    def save(self, changes: Changes) -> None:
        self.fetch(*_save_call(changes))

    def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return self.wait(lambda connection: connection.fetch(statement, *arguments))

    def wait(self, call: Callable[[Any], Awaitable[T]]) -> T:
        return self._connection.run_async(call)


class LookingSession(PostgresSession):
    """A transaction that only reads, all of it as of the same moment."""

    def load(self, wanted: Wanted) -> Loaded:
        return _loaded(self.fetch(READ, *_load_arguments(wanted)))


def _bounds(fits: Sequence[Fit]) -> tuple[int, date, str, str]:
    qtys, days = array_literal([fit.qty for fit in fits]), array_literal([fit.day.isoformat() for fit in fits])
    return fits[0].qty, fits[-1].day, qtys, days


def _load_arguments(wanted: Wanted) -> Sequence[str]:
    orderids, skus = zip(*wanted.lines, strict=True) if wanted.lines else ((), ())
    columns = (wanted.skus, wanted.refs, orderids, skus, wanted.message_ids, wanted.holdids)
    return [array_literal(column) for column in columns]


def _save_call(changes: Changes) -> Sequence[Any]:
    """The statement that writes the changes, and its arguments."""
    parts = tuple(part for part in WRITES if getattr(changes, part))
    columns = (
        column
        for part in parts
        for column, type_ in zip(zip(*getattr(changes, part), strict=True), WRITES[part][1], strict=True)
        if type_
    )
    return (save_statement(parts), changes.recorded_at, *map(array_literal, columns))


def _loaded(records: Sequence[asyncpg.Record]) -> Loaded:
    loaded = Loaded()
    for kind, sku, key, n1, n2, n3, n4, n5, d1, d2, d3, t1, t2, t3, t4, t5, m1, n6, n7, n8, d4, b1 in records:
        match kind:
            case "p":
                loaded.products.append(ProductRow(sku, n1, n2, t1, b1))
            case "b":
                stock = (t3, n6, n7, n8, d4, m1, t4)
                loaded.batches.append(BatchRow(key, sku, d1, n1, n2, n3, n4, d2, n5, t1, d3, t2, *stock))
            case "l":
                loaded.lines.append(LineRow(key, sku, n1, t1, n2, n3, d1, m1, t2, n4, n5, b1))
            case "m":
                loaded.messages.append(MessageRow(key, n1, n2, t1, sku, None, t2, t3, t4, t5))
    return loaded


class PostgresStore:
    """The writer's own connections, made when first needed and again after one was lost."""

    def __init__(self, url: URL) -> None:
        self._engine = postgres_engine(url, plan="once")
        self._idle: list[AsyncConnection] = []

    async def run(self, work: Callable[[Session], T]) -> T:
        async with self._connection() as connection:
            return await connection.run_sync(_transact, work)

    async def read(self, wanted: Wanted) -> Loaded:
        async with self._connection() as connection:
            return _loaded(await _driver(connection).fetch(READ, *_load_arguments(wanted)))

    async def look(self, work: Callable[[Session], T]) -> T:
        async with self._connection() as connection:
            return await connection.run_sync(_transact, work, LookingSession, LOOKING)

    async def write(self, changes: Changes) -> None:
        """One statement is one transaction."""
        async with self._connection() as connection:
            await _driver(connection).fetch(*_save_call(changes))

    async def close(self) -> None:
        while self._idle:
            await _drop(self._idle.pop())
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection nobody else uses. Errors of the driver leave as the store's; a lost connection is dropped."""
        try:
            connection = self._idle.pop() if self._idle else await self._engine.connect()
        except (*UNAVAILABLE, DBAPIError, asyncpg.PostgresError) as error:  # unknown database and the like
            raise StoreUnavailable(str(error) or type(error).__name__) from error
        try:
            yield connection
        except CONFLICTS as error:
            self._idle.append(connection)
            raise StoreConflict(str(error)) from error
        except (*UNAVAILABLE, DBAPIError) as error:
            await _drop(connection)
            raise StoreUnavailable(str(error) or type(error).__name__) from error
        except asyncio.CancelledError:
            await _drop(connection)
            raise
        except BaseException:
            self._idle.append(connection)
            raise
        self._idle.append(connection)


def _driver(connection: AsyncConnection) -> asyncpg.Connection[asyncpg.Record]:
    """The driver's own connection, for a statement that needs no transaction around it."""
    pooled: Any = connection.sync_connection
    return cast("asyncpg.Connection[asyncpg.Record]", pooled.connection.driver_connection)


async def _drop(connection: AsyncConnection) -> None:
    await connection.invalidate()
    await connection.close()


def _transact(
    connection: Connection,
    work: Callable[[Session], T],
    kind: type[PostgresSession] = PostgresSession,
    begin: str = "BEGIN",
) -> T:
    session = kind(cast("AdaptedConnection", connection.connection.dbapi_connection))
    session.wait(lambda driver: driver.execute(begin))
    try:
        result = work(session)
    except BaseException:
        session.wait(lambda driver: driver.execute("ROLLBACK"))
        raise
    session.wait(lambda driver: driver.execute("COMMIT"))
    return result

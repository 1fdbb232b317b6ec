"""A connection beside the writer's, and SQL statements in which a few words are spelled differently for each database.

Such a text never changes, so that the driver prepares it once. Times are the database's: on PostgreSQL its clock, on
SQLite that of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar

import asyncpg
from sqlalchemy import Connection, Engine, TextClause, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from allocation.adapters.database import is_sqlite, postgres_engine, sqlite_engine
from allocation.service_layer.delivering.leases import PARTITIONS, partition_of
from allocation.service_layer.writing.store import StoreUnavailable

T = TypeVar("T")

# ``later`` is now plus ``:seconds``, which may be negative. Lists are passed as JSON, ``rows`` as a list of lists. A
# statement with ``IN {numbers}`` may join the list to all its rows before it returns the first one; a statement with
# ``is_one_of_numbers`` never does.
SPELLINGS: Final = {
    "sqlite": {
        "begin": "BEGIN IMMEDIATE",
        "now": "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')",
        "later": "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', CAST(:seconds AS text) || ' seconds')",
        "partition": "partition_of(owed.sku)",
        "is_one_of_numbers": "IN (SELECT value FROM json_each(:numbers))",
        "numbers": "(SELECT value FROM json_each(:numbers))",
        "texts": "(SELECT value FROM json_each(:texts))",
        "rows": "(SELECT value AS fields FROM json_each(:rows))",
        "moment": "text",
        "day": "text",
        "for_update": "",
        "for_share": "",
    },
    "postgresql": {
        "begin": "BEGIN ISOLATION LEVEL READ COMMITTED",
        "now": "clock_timestamp()",
        "later": "(clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision)))",
        "partition": f"(get_byte(sha256(convert_to(owed.sku, 'UTF8')), 0) % {PARTITIONS})",
        "is_one_of_numbers": "= ANY(ARRAY(SELECT CAST(value AS bigint)"
        " FROM json_array_elements_text(CAST(:numbers AS json)) AS value))",
        "numbers": "(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:numbers AS json)) AS value)",
        "texts": "(SELECT value FROM json_array_elements_text(CAST(:texts AS json)) AS value)",
        "rows": "(SELECT value AS fields FROM json_array_elements(CAST(:rows AS json)) AS value)",
        "moment": "timestamptz",
        "day": "date",
        "for_update": "FOR UPDATE",
        "for_share": "FOR SHARE",
    },
}


def numbers(values: Iterable[int]) -> str:
    """A list as the parameter for ``{numbers}``."""
    return json.dumps(list(values))


def texts(values: Iterable[str]) -> str:
    """A list as the parameter for ``{texts}``."""
    return json.dumps(list(values))


class Statements:
    """Runs statements on a connection under way."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._backend = connection.dialect.name

    def rows(self, statement: str, **values: Any) -> Sequence[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.execute(_spelled(statement, self._backend), values)]

    def do(self, statement: str, **values: Any) -> int:
        """Execute the statement; return the number of touched rows."""
        return self._connection.execute(_spelled(statement, self._backend), values).rowcount


@functools.cache
def _spelled(statement: str, backend: str) -> TextClause:
    return text(statement.format_map(SPELLINGS[backend]))


Work = Callable[[Statements], T]


class OwnConnection:
    """Runs one piece of work after the other. Without a transaction each statement is committed by itself."""

    def __init__(self, url: URL) -> None:
        self._database: _Database = _Sqlite(url) if is_sqlite(url) else _Postgres(url)
        self._one_at_a_time = asyncio.Lock()

    async def run(self, work: Work[T]) -> T:
        """The work's result. Raises `StoreUnavailable`."""
        async with self._one_at_a_time:
            return await self._database.run(lambda connection: work(Statements(connection)))

    async def run_in_transaction(self, work: Work[T]) -> T:
        """The work's result, when it is durable. Raises `StoreUnavailable`."""
        async with self._one_at_a_time:
            return await self._database.run(lambda connection: _whole(connection, work))

    async def close(self) -> None:
        await self._database.close()


def _whole(connection: Connection, work: Work[T]) -> T:
    connection.exec_driver_sql(SPELLINGS[connection.dialect.name]["begin"])
    try:
        result = work(Statements(connection))
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        with contextlib.suppress(SQLAlchemyError):  # a lost connection has nothing to roll back
            connection.exec_driver_sql("ROLLBACK")
        raise
    return result


class _Database(Protocol):
    async def run(self, work: Callable[[Connection], T]) -> T: ...

    async def close(self) -> None: ...


class _Sqlite:
    """Works in a thread, where it waits for the disk and for other writers."""

    def __init__(self, url: URL) -> None:
        self._engine = sqlite_engine(url)
        event.listen(self._engine, "connect", _set_up)

    async def run(self, work: Callable[[Connection], T]) -> T:
        try:
            return await asyncio.to_thread(_run, self._engine, work)
        except DBAPIError as error:
            raise StoreUnavailable(str(error.orig)) from error

    async def close(self) -> None:
        self._engine.dispose()


def _set_up(connection: sqlite3.Connection, _: object) -> None:
    connection.create_function("partition_of", 1, partition_of, deterministic=True)


def _run(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return work(connection)


class _Postgres:
    """One connection for as long as it lasts. Its statements are planned each time, for the tables as they are."""

    def __init__(self, url: URL) -> None:
        self._engine: AsyncEngine = postgres_engine(url, plan="each time")
        self._connection: AsyncConnection | None = None

    async def run(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = await self._engine.connect()
            return await self._connection.run_sync(work)
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            await self._drop()
            raise StoreUnavailable(str(error) or type(error).__name__) from error
        except asyncio.CancelledError:
            await self._drop()
            raise

    async def close(self) -> None:
        await self._drop()
        await self._engine.dispose()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()

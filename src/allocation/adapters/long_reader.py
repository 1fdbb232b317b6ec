"""Read-only connections for a read that takes minutes: it sees one moment, and locks nothing.

On PostgreSQL it has its own snapshot. On SQLite it reads the state at its start while others continue to write, and the
write-ahead log grows until it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from allocation.adapters.database import is_sqlite, postgres_engine, sqlite_engine
from allocation.service_layer.writing.store import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

SQLITE_SORT_KIB = 8 * 1024  # of memory for each sort; the rest is sorted on disk
STATEMENT_TIMEOUT_S = 3_600.0  # until the first sorted row comes


class LongReader:
    """Runs a view on a connection of its own, beside the readers of pages."""

    def __init__(self, url: URL) -> None:
        self._url = url

    async def run(self, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The view's result, read at one moment. Raises `StoreUnavailable`."""

        def read(connection: Connection) -> T:
            return view(connection, *args, **kwargs)

        try:
            if is_sqlite(self._url):
                return await asyncio.to_thread(self._read_sqlite, read)
            return await self._read_postgres(read)
        except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise StoreUnavailable(str(error) or type(error).__name__) from error

    def _read_sqlite(self, read: Callable[[Connection], T]) -> T:
        engine = sqlite_engine(self._url, read_only=True)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA cache_size = -{SQLITE_SORT_KIB}")
                connection.exec_driver_sql("BEGIN")
                return read(connection)
        finally:
            engine.dispose()

    async def _read_postgres(self, read: Callable[[Connection], T]) -> T:
        engine = postgres_engine(self._url, read_only=True, command_timeout_s=STATEMENT_TIMEOUT_S)
        try:
            async with engine.execution_options(isolation_level="REPEATABLE READ").connect() as connection:
                return await connection.run_sync(read)
        finally:
            await engine.dispose()

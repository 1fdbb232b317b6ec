"""Read-only connections for the read models, beside the writer and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from allocation.adapters.database import BY_INDEX, is_sqlite, postgres_engine, sqlite_engine
from allocation.service_layer.writing.store import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

P = ParamSpec("P")
T = TypeVar("T")

_SETTINGS = BY_INDEX | {"plan_cache_mode": "force_custom_plan"}
_FIND_BY_INDEX = text("SELECT " + ", ".join(f"set_config('{name}', '{_SETTINGS[name]}', true)" for name in _SETTINGS))


class Reader:
    """Runs a view, a plain function of a connection, on a connection that cannot write."""

    def __init__(self, url: URL) -> None:
        self._engine: Engine | AsyncEngine
        self._without_transaction: Engine | AsyncEngine
        if is_sqlite(url):
            self._engine = self._without_transaction = sqlite_engine(url, read_only=True)
        else:
            self._without_transaction = postgres_engine(url, read_only=True)
            self._engine = self._without_transaction.execution_options(isolation_level="REPEATABLE READ")

    async def run(self, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The view's result, read at one moment. Raises `StoreUnavailable`."""
        return await _run(self._engine, lambda connection: view(connection, *args, **kwargs))

    async def run_by_index(self, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, but independent of the planner's statistics: statements read by index and are planned each time.

        For live lists of growing tables: a plan made for small tables may read a whole table for each row.
        """
        return await _run(self._engine, lambda connection: view(_by_index(connection), *args, **kwargs))

    async def run_statement(
        self, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for a view of a single statement, which needs no transaction around it: half the round trips."""
        return await _run(self._without_transaction, lambda connection: view(connection, *args, **kwargs))

    async def close(self) -> None:
        if isinstance(self._engine, Engine):
            self._engine.dispose()
        else:
            await self._engine.dispose()


def revision(connection: Connection) -> str:
    """The revision that the database was migrated to."""
    found: str = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    return found


async def _run(engine: Engine | AsyncEngine, read: Callable[[Connection], T]) -> T:
    try:
        if isinstance(engine, Engine):
            return await asyncio.to_thread(_read, engine, read)
        async with engine.connect() as connection:
            return await connection.run_sync(read)
    except _errors(engine) as error:
        raise StoreUnavailable(str(error)) from error


def _errors(engine: Engine | AsyncEngine) -> tuple[type[Exception], ...]:
    """The driver's own are among them: SQLAlchemy 2.0 does not wrap them while it connects."""
    if isinstance(engine, Engine):
        return DBAPIError, PoolTimeoutError, OSError
    from asyncpg import InterfaceError, PostgresError  # noqa: PLC0415 - a command that reads SQLite does without

    return DBAPIError, PoolTimeoutError, OSError, InterfaceError, PostgresError


def _by_index(connection: Connection) -> Connection:
    if connection.dialect.name != "sqlite":
        connection.execute(_FIND_BY_INDEX)
    return connection


def _read(engine: Engine, read: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        return read(connection)

"""The pending deliveries in the database, on a connection of their own.

One process at a time has them, or their order would be lost: on PostgreSQL the one that holds an advisory lock, on
SQLite the one that has locked the file beside the database. Both locks end with the process that holds them. A process
that lost its connection may still be busy with an effect while the next one repeats it: at least once, as promised.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import asyncpg
from sqlalchemy import Connection, Engine, Select, delete, select, text, tuple_
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from allocation.adapters.database import is_sqlite, postgres_engine, sqlite_engine
from allocation.adapters.tables import deliveries
from allocation.service_layer.effects import Delivery, Lane
from allocation.service_layer.store import StoreUnavailable

T = TypeVar("T")

LOCK_KEY = 2_716_058  # of PostgreSQL's advisory lock while running effects; `migrate` has another one
LOCK_FILE_SUFFIX = "-effects"


class Outbox:
    """The pending deliveries of one database."""

    def __init__(self, url: URL) -> None:
        self._database = _SqliteConnection(url) if is_sqlite(url) else _PostgresConnection(url)

    async def pending(self, effects: Collection[str], held: Collection[Lane], limit: int) -> Sequence[Delivery]:
        if not await self._database.lock():
            return ()
        query = _oldest(effects, held, limit)
        return await self._database.run(lambda connection: [Delivery(*row) for row in connection.execute(query)])

    async def remove(self, numbers: Sequence[int]) -> None:
        done = delete(deliveries).where(deliveries.c.number.in_(numbers))
        await self._database.run(lambda connection: connection.execute(done))

    async def close(self) -> None:
        await self._database.close()


def _oldest(effects: Collection[str], held: Collection[Lane], limit: int) -> Select[int, str, str, str, str]:
    """They are read by the index that has their order: never read and sort them all."""
    effect = deliveries.c.effect + ""  # an expression, which is of no use to the other index
    of_delivery = deliveries.c
    return (
        select(of_delivery.number, of_delivery.effect, of_delivery.sku, of_delivery.type, of_delivery.body)
        .where(effect.in_(effects))
        .where(tuple_(effect, of_delivery.sku).not_in([tuple(lane) for lane in held]))
        .order_by(of_delivery.number)
        .limit(limit)
    )


class _SqliteConnection:
    """Works in a thread, where it waits for the disk and for whoever writes."""

    def __init__(self, url: URL) -> None:
        self._engine = sqlite_engine(url)
        self._lock_path = f"{url.database}{LOCK_FILE_SUFFIX}"
        self._lock_file: int | None = None  # None: not locked by us

    async def lock(self) -> bool:
        if self._lock_file is None:
            self._lock_file = _lock_file(self._lock_path)
        return self._lock_file is not None

    async def run(self, work: Callable[[Connection], T]) -> T:
        try:
            return await asyncio.to_thread(_run, self._engine, work)
        except DBAPIError as error:
            raise StoreUnavailable(str(error.orig)) from error

    async def close(self) -> None:
        self._engine.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _run(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return work(connection)


def _lock_file(path: str) -> int | None:
    """The locked file, or None while somebody else has it locked. It is never removed: others may wait for it."""
    try:
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise StoreUnavailable(f"cannot lock {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


class _PostgresConnection:
    """One connection for as long as it lasts, for the lock is lost with it.

    It plans as the writer's does: by index, since the first plan is made while the tables are empty.
    """

    def __init__(self, url: URL) -> None:
        self._engine: AsyncEngine = postgres_engine(url, writer=True)
        self._connection: AsyncConnection | None = None
        self._locked = False

    async def lock(self) -> bool:
        if not self._locked:
            query = text("SELECT pg_try_advisory_lock(:key)")
            self._locked = await self.run(lambda connection: bool(connection.scalar(query, {"key": LOCK_KEY})))
        return self._locked

    async def run(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = await self._engine.connect()
            return await self._connection.run_sync(work)
        except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
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
        self._locked = False
        if connection is not None:
            await connection.invalidate()
            await connection.close()

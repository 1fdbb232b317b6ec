"""Read-only connections for the read models, beside the writer and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from allocation.adapters.database import is_sqlite, postgres_engine, sqlite_engine
from allocation.service_layer.store import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Reader:
    """Runs a view, a plain function of a connection, on a connection that cannot write."""

    def __init__(self, url: URL) -> None:
        self._engine = sqlite_engine(url, read_only=True) if is_sqlite(url) else postgres_engine(url, read_only=True)

    async def run(
        self, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The view's result, read at one moment. Raises `StoreUnavailable`."""

        def read(connection: Connection) -> T:
            return view(connection, *args, **kwargs)

        try:
            if isinstance(self._engine, Engine):
                return await asyncio.to_thread(_read, self._engine, read)
            async with self._engine.connect() as connection:
                return await connection.run_sync(read)
        except (DBAPIError, OSError) as error:
            raise StoreUnavailable(str(error)) from error

    async def close(self) -> None:
        if isinstance(self._engine, Engine):
            self._engine.dispose()
        else:
            await self._engine.dispose()


def _read(engine: Engine, read: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return read(connection)

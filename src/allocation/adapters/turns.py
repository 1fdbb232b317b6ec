"""Turns on PostgreSQL: one advisory lock of the database, held by a connection of its own.

PostgreSQL gives it to the process that waits longest, and releases it when the connection ends.
"""

from __future__ import annotations

import asyncio

from sqlalchemy.engine import URL

from allocation.adapters.connection import OwnConnection
from allocation.service_layer.writing.store import StoreUnavailable

LOCK = 7_305_846  # any number without another use
PATIENCE_S = 0.5  # longer than several turns; after that the holder hangs, or does not take part in turns


class PostgresTurns:
    """The turn to write to a database, for one of its processes."""

    def __init__(self, url: URL) -> None:
        self._connection = OwnConnection(url)
        self._is_ours = False

    async def take(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._connection.run(lambda run: run.rows(f"SELECT CAST(pg_advisory_lock({LOCK}) AS text)"))
        except (TimeoutError, StoreUnavailable):
            return False
        self._is_ours = True
        return True

    async def give_back(self) -> None:
        if self._is_ours:
            self._is_ours = False
            try:
                await self._connection.run(lambda run: run.rows(f"SELECT pg_advisory_unlock({LOCK})"))
            except StoreUnavailable:
                return  # the lock ended with the connection

    async def close(self) -> None:
        await self._connection.close()

"""The last day whose beginning is done, in the database, for all processes."""

from __future__ import annotations

from datetime import date
from typing import TypeVar

from sqlalchemy.engine import URL

from allocation.adapters.connection import OwnConnection, Statements, Work

T = TypeVar("T")

LAST = "SELECT CAST(day AS text) FROM clock"
DONE = """
    INSERT INTO clock (number, day) VALUES (1, CAST(CAST(:day AS text) AS {day}))
    ON CONFLICT (number) DO UPDATE SET day = excluded.day WHERE clock.day < excluded.day
"""


class SqlClock:
    """The only row of the table ``clock``. It is asked once a day, so no connection is kept."""

    def __init__(self, url: URL) -> None:
        self._url = url

    async def last(self) -> date | None:
        def read(statements: Statements) -> date | None:
            return next((date.fromisoformat(day) for (day,) in statements.rows(LAST)), None)

        return await self._run(read)

    async def done(self, day: date) -> None:
        await self._run(lambda statements: statements.do(DONE, day=day.isoformat()))

    async def _run(self, work: Work[T]) -> T:
        connection = OwnConnection(self._url)
        try:
            return await connection.run_in_transaction(work)
        finally:
            await connection.close()

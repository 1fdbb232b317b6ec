"""A shop on a real database whose closed lines are removed, with a clock that is set by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, make_url

from allocation.adapters.closed_lines import SqlClosedLines
from allocation.adapters.database import is_sqlite
from allocation.adapters.long_reader import LongReader
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import Event, RepairRequired
from allocation.service_layer.messages import Outcome
from allocation.service_layer.proving.books import Difference
from allocation.service_layer.proving.retention import Retention, Tidied
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import audit_all
from tests.builders import Contents, change, contents, handle_together, message, select
from tests.lives import BEGIN

P = ParamSpec("P")
T = TypeVar("T")

KEEP = timedelta(days=30)


class Shop:
    """A writer, and who removes lines."""

    def __init__(self, database_url: str, now: Callable[[], datetime] | None = None) -> None:
        self.url = make_url(database_url)
        self.now = BEGIN
        clock = now or (lambda: self.now)
        self.store = SqliteStore(self.url) if is_sqlite(self.url) else PostgresStore(self.url)
        self.writer = Writer(self.store, clock=clock)
        self.retention = Retention(SqlClosedLines(self.url), KEEP, clock)
        self.reader = Reader(self.url)

    async def send(self, *events: Event, key: str | None = None) -> list[Outcome | Exception]:
        """Each in a group of its own."""
        return [(await handle_together(self.writer, message(event, key)))[0] for event in events]

    async def pass_days(self, days: float) -> None:
        """Now it is later, and the ledger goes on: its newest row is not about a line."""
        self.now += timedelta(days=days)
        await self.send(RepairRequired("LAMP"))

    async def tidy(self, keep: timedelta = KEEP) -> Tidied:
        return await self.retention.tidy(keep)

    async def kept(self) -> Contents:
        return await contents(self.url)

    async def lines(self) -> list[str]:
        return [line[0] for line in (await self.kept()).lines]

    async def select(self, query: str) -> list[tuple[Any, ...]]:
        return await select(self.url, query)

    async def change(self, statement: str) -> None:
        await change(self.url, statement)

    async def deliver(self) -> None:
        """What is owed to the outside world is done, and forgotten."""
        await self.change("DELETE FROM deliveries")

    async def differences(self) -> list[Difference]:
        report, _ = await LongReader(self.url).run(audit_all)
        return report.differences

    async def read(self, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.reader.run(view, *args, **kwargs)


@asynccontextmanager
async def shop_at(url: str, now: Callable[[], datetime] | None = None) -> AsyncIterator[Shop]:
    shop = Shop(url, now)
    shop.writer.start()
    try:
        yield shop
    finally:
        await shop.retention.close()
        await shop.writer.close()
        await shop.reader.close()
        await shop.store.close()

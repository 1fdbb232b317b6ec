"""Closed lines that go when they were kept long enough, on real databases; what is left is proved as before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import make_url

from allocation.adapters.audit import Auditor
from allocation.adapters.closed_lines import SqlClosedLines
from allocation.adapters.connection import OwnConnection
from allocation.adapters.database import is_sqlite
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import AllocationCancelled, BatchReceived, Event, LineReturned, LineShipped
from allocation.service_layer import retention
from allocation.service_layer.messages import Outcome
from allocation.service_layer.retention import Retention, Tidied
from allocation.service_layer.writer import Writer
from tests import lives
from tests.builders import Contents, contents, handle_together, message, select
from tests.lives import BEGIN, random_event

KEEP = timedelta(days=30)
EVENTS = 600


class Shop:
    """A writer and who removes closed lines, with a clock that is set by hand."""

    def __init__(self, database_url: str) -> None:
        self.url = make_url(database_url)
        self.now = BEGIN
        self.store = SqliteStore(self.url) if is_sqlite(self.url) else PostgresStore(self.url)
        self.writer = Writer(self.store, clock=lambda: self.now)
        self.connection = OwnConnection(self.url)
        self.retention = Retention(SqlClosedLines(self.url), KEEP, clock=lambda: self.now)

    async def send(self, *events: Event) -> list[Outcome | Exception]:
        return await handle_together(self.writer, *map(message, events))

    async def kept(self) -> Contents:
        return await contents(self.url)

    async def select(self, query: str) -> list[tuple[Any, ...]]:
        return await select(self.url, query)

    async def do(self, statement: str) -> None:
        await self.connection.run(lambda statements: statements.do(statement))

    async def deliver(self) -> None:
        """What is owed to the outside world is done, and forgotten."""
        await self.do("DELETE FROM deliveries")

    async def differences(self) -> list[Any]:
        report, _ = await Auditor(self.url).run()
        return report.differences


@asynccontextmanager
async def shop_at(url: str) -> AsyncIterator[Shop]:
    shop = Shop(url)
    shop.writer.start()
    try:
        yield shop
    finally:
        await shop.retention.close()
        await shop.connection.close()
        await shop.writer.close()
        await shop.store.close()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 3)
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)


def any_event(dice: random.Random) -> Event:
    """Of any kind, and often one that ends a line."""
    if dice.random() < 0.6:
        return random_event(dice)
    orderid, sku = f"o{dice.randint(1, lives.ORDERS)}", dice.choice(lives.SKUS)
    return dice.choice(
        [
            LineShipped(orderid, sku),
            AllocationCancelled(orderid, sku),
            LineReturned(orderid, sku, 1),
            BatchReceived("lamp-1", 40),
        ]
    )


@pytest.mark.parametrize("seed", range(6))
def test_whatever_lines_lived_through_the_books_are_right_without_those_that_are_gone(
    database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "ORDERS", 30)

    async def play() -> Tidied:
        dice, total = random.Random(seed), Tidied()
        async with shop_at(database_url) as shop:
            for _ in range(EVENTS // 40):
                for _ in range(40):
                    shop.now += timedelta(hours=5)
                    await shop.send(any_event(dice))
                if dice.random() < 0.7:
                    await shop.deliver()
                before = await shop.kept()
                total.add(tidied := await shop.retention.tidy(timedelta(days=6)))
                after = await shop.kept()
                assert await shop.differences() == []
                assert (after.products, after.batches) == (before.products, before.batches)
                assert set(after.lines) <= set(before.lines)
                assert len(before.lines) - len(after.lines) == tidied.lines
                assert len(before.ledger) - len(after.ledger) == tidied.messages
        return total

    total = asyncio.run(play())
    assert total.lines > 10
    assert total.messages > 2 * total.lines

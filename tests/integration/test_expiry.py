"""Holds that end by themselves, on real databases, with several processes looking for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Self

import pytest
from sqlalchemy import make_url

from allocation import views
from allocation.adapters.database import is_sqlite
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import AllocationRequired, BatchCreated, Event, Held, StockHeld
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing import expiry
from allocation.service_layer.writing.expiry import ACTOR, Expiry
from allocation.service_layer.writing.writer import Writer
from tests.builders import message, select

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=10)
PATIENCE_S = 10.0


class Process:
    """A writer and who looks for holds, with a clock that is set by hand."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url)
        self.now = NOON
        self.store = SqliteStore(url) if is_sqlite(url) else PostgresStore(url)
        self.reader = Reader(url)
        self.writer = Writer(self.store, clock=lambda: self.now)
        self.expiry = Expiry(self.writer, self._find_expired, clock=lambda: self.now)

    async def _find_expired(self, moment: datetime, most: int) -> list[tuple[str, datetime]]:
        return await self.reader.run(views.expired_holds, moment, most)

    async def handle(self, *events: Event) -> list[Outcome]:
        return [await self.writer.handle(message(event)) for event in events]

    async def __aenter__(self) -> Self:
        self.writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.expiry.close()
        await self.writer.close()
        await self.reader.close()
        await self.store.close()


async def states(database_url: str) -> dict[str, str | None]:
    rows = await select(make_url(database_url), "SELECT orderid, closed FROM order_lines")
    return dict(rows)


def hold(holdid: str, expires_at: datetime, qty: int = 1) -> StockHeld:
    return StockHeld(holdid, "LAMP", qty, expires_at)


def test_a_hold_ends_when_its_moment_has_come_and_who_waits_is_served(database_url: str) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(
                BatchCreated("b1", "LAMP", 10), hold("cart", LATER, 8), hold("longer", NOON.replace(day=1, month=2))
            )
            await process.handle(AllocationRequired("waits", "LAMP", 5))
            process.now = LATER - timedelta(seconds=1)
            await process.expiry.look()
            assert (await states(database_url))["cart"] is None
            process.now = LATER
            await process.expiry.look()
            assert await states(database_url) == {"cart": "expired", "longer": None, "waits": None}
            [[batchref]] = await select(
                make_url(database_url), "SELECT batchref FROM order_lines WHERE orderid = 'waits'"
            )
            assert batchref == "b1"
            [[actor]] = await select(make_url(database_url), "SELECT actor FROM ledger WHERE type = 'HoldExpired'")
            assert actor == ACTOR

    asyncio.run(play())


def test_processes_that_look_at_once_end_each_hold_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "PAGE_SIZE", 4)

    async def play() -> None:
        async with Process(database_url) as one, Process(database_url) as other:
            await one.handle(BatchCreated("b1", "LAMP", 100), *(hold(f"h{n}", LATER) for n in range(10)))
            one.now = other.now = LATER
            while any(await asyncio.gather(one.expiry.look(), other.expiry.look())):
                pass
            await asyncio.gather(one.expiry.look(), other.expiry.look())
            assert set((await states(database_url)).values()) == {"expired"}
            said = await select(make_url(database_url), "SELECT orderid FROM ledger WHERE type = 'HoldExpired'")
            assert sorted(said) == [(f"h{n}",) for n in range(10)]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (LATER, LATER),
        (LATER + timedelta(microseconds=1), LATER + timedelta(seconds=1)),
        (LATER.astimezone(timezone(timedelta(hours=5, minutes=30))), LATER),
    ],
)
def test_a_moment_is_kept_in_utc_and_whole_seconds(database_url: str, asked: datetime, kept: datetime) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            *_, outcome = await process.handle(BatchCreated("b1", "LAMP", 10), hold("cart", asked))
            assert outcome.raised == [Held("cart", "LAMP", 1, "b1", kept)]
            [[stored]] = await select(make_url(database_url), "SELECT expires_at FROM order_lines")
            assert stored == (kept if isinstance(stored, datetime) else f"{kept:%Y-%m-%dT%H:%M:%SZ}")
            *_, again = await process.handle(hold("cart", asked))
            assert (again.result, again.raised) == ("b1", [])

    asyncio.run(play())

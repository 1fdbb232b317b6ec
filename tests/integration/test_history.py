"""What is read of the past, where several writers' positions and times cross."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
import pytest
from sqlalchemy import Connection, text

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.days import UTC_DAYS
from allocation.service_layer.writing.store import BatchRow, Changes, MessageRow, ProductRow
from allocation.service_layer.writing.writer import Writer
from allocation.views.facts import order_facts, product_facts, sku_of_batch
from allocation.views.named import Found, find
from allocation.views.past import find_past
from tests.builders import handle_together, message
from tests.lives import random_life

T = TypeVar("T")

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
# In the order of their positions: SKU, and the second after noon at which its writer recorded it.
RECORDED = [("LAMP", 0), ("VASE", 2), ("LAMP", 1), ("VASE", 1), ("LAMP", 3), ("VASE", 1)]


@pytest.fixture
def url(database_url: str) -> str:
    async def write() -> None:
        parsed = parse_url(database_url)
        store = SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)
        for number, (sku, second) in enumerate(RECORDED):
            row = MessageRow(f"m{number}", 0, None, "Backordered", sku, "o1", "{}", None, None, "test")
            asked = MessageRow(f"a{number}", 0, None, "AllocationRequired", sku, "o1", "{}", None, None, "test")
            changes = Changes(NOON + timedelta(seconds=second), messages=[row, asked])
            await store.run(lambda session, changes=changes: session.save(changes))  # type: ignore[misc]
        batch = BatchRow("b1", "LAMP", None, 1, 0, 1, 1, None)
        changes = Changes(NOON, new_products=[ProductRow("LAMP", 1, 0)], new_batches=[batch])
        await store.run(lambda session: session.save(changes))
        await store.close()

    asyncio.run(write())
    return database_url


def positions(url: str, *, second: float, sku: str = "", orderid: str = "", least: int = 0) -> list[tuple[str, int]]:
    """SKU and place in `RECORDED` of the messages found."""
    moment = NOON + timedelta(seconds=second)

    def read(connection: Connection) -> list[tuple[str, int]]:
        found = order_facts(connection, orderid, moment) if orderid else product_facts(connection, sku, moment, least)
        return [(fact.sku, fact.position // 2) for fact in found]

    return in_reader(url, read)


def in_reader(url: str, read: Callable[[Connection], T]) -> T:
    async def run() -> T:
        reader = Reader(parse_url(url))
        try:
            return await reader.run(read)
        finally:
            await reader.close()

    return asyncio.run(run())


def test_a_product_is_read_until_the_moment(url: str) -> None:
    assert positions(url, sku="LAMP", second=0.5) == [("LAMP", 0)]
    assert positions(url, sku="LAMP", second=1) == [("LAMP", 0), ("LAMP", 2)]
    assert positions(url, sku="LAMP", second=9) == [("LAMP", 0), ("LAMP", 2), ("LAMP", 4)]
    assert positions(url, sku="LAMP", second=-1) == []


def test_a_product_is_read_up_to_its_opening_at_least(url: str) -> None:
    assert positions(url, sku="LAMP", second=0.5, least=5) == [("LAMP", 0), ("LAMP", 2)]
    assert positions(url, sku="LAMP", second=9, least=5) == [("LAMP", 0), ("LAMP", 2), ("LAMP", 4)]


def test_where_writers_disagree_about_the_time_no_message_is_left_out_in_between(url: str) -> None:
    assert positions(url, sku="VASE", second=1) == [("VASE", 1), ("VASE", 3), ("VASE", 5)]


def test_each_line_of_an_order_has_a_time_of_its_own(url: str) -> None:
    """The position of one product's message says nothing about the time of another's."""
    assert positions(url, orderid="o1", second=0) == [("LAMP", 0)]
    assert positions(url, orderid="o1", second=1) == [("LAMP", 0), ("LAMP", 2), ("VASE", 1), ("VASE", 3), ("VASE", 5)]
    assert positions(url, orderid="o2", second=2) == []


def test_a_batch_leads_to_its_product(url: str) -> None:
    assert in_reader(url, lambda connection: sku_of_batch(connection, "b1")) == "LAMP"
    assert in_reader(url, lambda connection: sku_of_batch(connection, "b2")) is None


@pytest.mark.parametrize("seed", range(12))
def test_what_is_shown_of_now_is_what_was_there_now(database_url: str, seed: int) -> None:
    life = random_life(seed, 150)

    async def live() -> None:
        parsed = parse_url(database_url)
        store = SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)
        now = NOON
        writer = Writer(store, clock=lambda: now)
        writer.start()
        for now, event in life:  # noqa: B007 - the clock reads it
            await handle_together(writer, message(event))
        await writer.close()
        await store.close()

    def look(connection: Connection) -> list[tuple[str, Found, Found]]:
        queries = ("SELECT sku FROM products", "SELECT ref FROM batches", "SELECT DISTINCT orderid FROM order_lines")
        names = [name for query in queries for (name,) in connection.execute(text(query))]
        assert names
        now = datetime.now(UTC)
        today = UTC_DAYS.at(now)
        return [(name, find(connection, name, today), find_past(connection, name, now)) for name in names]

    asyncio.run(live())
    for name, now, past in in_reader(database_url, look):
        assert msgspec.to_builtins(past) == msgspec.to_builtins(now), name

"""Read models are read at one moment, on connections that cannot write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from allocation.adapters.database import READERS, is_sqlite, parse_url
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import BatchCreated
from allocation.service_layer.messages import new_message
from allocation.service_layer.writing.store import StoreUnavailable
from allocation.service_layer.writing.writer import Writer


def add_batch(database_url: str) -> None:
    async def add() -> None:
        url = parse_url(database_url)
        store = SqliteStore(url) if is_sqlite(url) else PostgresStore(url)
        writer = Writer(store)
        writer.start()
        await writer.handle(new_message(BatchCreated("b", "LAMP", 1), "test"))
        await writer.close()
        await store.close()

    asyncio.run(add())


def read(database_url: str, view: Callable[[Connection], object], *, one_statement: bool = False) -> object:
    async def run() -> object:
        reader = Reader(parse_url(database_url))
        try:
            return await (reader.run_statement(view) if one_statement else reader.run(view))
        finally:
            await reader.close()

    return asyncio.run(run())


def count(connection: Connection) -> int:
    number: int = connection.execute(text("SELECT count(*) FROM batches")).scalar_one()
    return number


def test_a_view_sees_one_moment_however_many_statements_it_takes(database_url: str) -> None:
    def view(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        with ThreadPoolExecutor(1) as other:
            other.submit(add_batch, database_url).result()
        return before, count(connection)

    assert read(database_url, view) == (0, 0)
    assert read(database_url, count) == 1


@pytest.mark.parametrize("one_statement", [False, True])
def test_a_view_cannot_write(database_url: str, one_statement: bool) -> None:
    def view(connection: Connection) -> None:
        connection.execute(text("INSERT INTO products (sku, version_number, waiting_lines) VALUES ('LAMP', 1, 0)"))

    with pytest.raises(StoreUnavailable, match=r"read-?only"):
        read(database_url, view, one_statement=one_statement)


def test_a_database_that_is_not_there_is_unavailable(database_url: str) -> None:
    elsewhere = parse_url(database_url)
    elsewhere = elsewhere.set(database="/nowhere/at-all.db" if is_sqlite(elsewhere) else "nowhere")
    with pytest.raises(StoreUnavailable, match=r"nowhere|unable to open"):
        read(elsewhere.render_as_string(hide_password=False), count)


def test_more_views_than_connections_take_turns(database_url: str) -> None:
    """None makes a connection of its own, which would cost more than many reads."""

    async def run() -> int:
        reader = Reader(parse_url(database_url))
        try:
            counts = [reader.run_statement(connection_id) for _ in range(5 * READERS)]
            return len(set(await asyncio.gather(*counts)))
        finally:
            await reader.close()

    assert asyncio.run(run()) <= READERS


def connection_id(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        return id(connection.connection.driver_connection)
    number: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return number

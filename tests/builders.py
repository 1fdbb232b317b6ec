"""Databases for tests, messages, callers of the writer, and all that a store holds, read back in one form."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy.engine import URL, make_url

from allocation.adapters.memory import MemoryTables
from allocation.adapters.migrate import migrate
from allocation.domain.days import UTC_DAYS
from allocation.domain.events import Event
from allocation.domain.lines import Today
from allocation.service_layer.messages import Message, Outcome, encode, new_message
from allocation.service_layer.writing.ledger import unfold
from allocation.service_layer.writing.store import MessageRow
from allocation.service_layer.writing.writer import Writer

QUERIES = {
    "products": "SELECT sku, version_number, waiting_lines, rules, retired FROM products ORDER BY sku",
    "batches": (
        "SELECT ref, sku, CAST(eta AS text), purchased_quantity, allocated_quantity, position, initial_quantity,"
        " CAST(initial_eta AS text), shipped_quantity, location, CAST(expires_on AS text), quarantine, delivery,"
        " arrived_quantity, arrived_allocated, inspect_quantity, CAST(last_eta AS text), created_as,"
        " CAST(counted_at AS text) FROM batches ORDER BY ref"
    ),
    "lines": (
        "SELECT orderid, sku, qty, batchref, position, priority, CAST(need_by AS text), closed,"
        " part, rest, arrived, CAST(expires_at AS text) FROM order_lines ORDER BY orderid, sku"
    ),
    "ledger": (
        "SELECT correlation_id, step, causation_step, type, sku, orderid, body, result, actor"
        " FROM messages ORDER BY position, place"
    ),
    "deliveries": "SELECT correlation_id, step, effect, sku, type, body FROM deliveries ORDER BY number",
}


class Contents(NamedTuple):
    """Everything in a store, in an order that is the same for every kind of store."""

    products: list[tuple[Any, ...]]
    batches: list[tuple[Any, ...]]
    lines: list[tuple[Any, ...]]
    ledger: list[tuple[Any, ...]]
    deliveries: list[tuple[Any, ...]]


def on(day: date, allowance: int = 1) -> Today:
    """That day, when overdue stock is promised for so many days later."""
    return Today(day, day + timedelta(days=allowance))


def right_now() -> Today:
    """The day of the clock, in UTC."""
    return UTC_DAYS.at(datetime.now(UTC))


def new_database(url: str | URL) -> URL:
    """The URL of a database with our tables."""
    url = make_url(url)
    migrate(url)
    return url


async def contents(where: MemoryTables | URL | asyncpg.Connection) -> Contents:
    """What is committed there."""
    if isinstance(where, MemoryTables):
        return _memory_contents(where)
    if isinstance(where, asyncpg.Connection):
        return _contents([[tuple(row) for row in await where.fetch(query)] for query in QUERIES.values()])
    if where.get_backend_name() == "sqlite":
        return _contents([await select(where, query) for query in QUERIES.values()])
    connection = await asyncpg.connect(dsn(where))
    try:
        return await contents(connection)
    finally:
        await connection.close()


async def select(url: URL, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query, on a connection of its own."""
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        with closing(sqlite3.connect(url.database)) as file:
            return [tuple(row) for row in file.execute(query)]
    connection = await asyncpg.connect(dsn(url))
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def change(url: URL, statement: str) -> None:
    """Execute a statement and commit it, on a connection of its own."""
    if url.get_backend_name() != "sqlite":
        await select(url, statement)
        return
    assert url.database is not None
    with closing(sqlite3.connect(url.database, isolation_level=None)) as connection:
        connection.execute(statement)


def dsn(url: URL) -> str:
    """The URL as asyncpg takes it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _contents(tables: Sequence[list[tuple[Any, ...]]]) -> Contents:
    """Each database has its own way to write a moment."""
    kept = Contents(*tables)
    return kept._replace(
        batches=[(*rest, _moment(counted_at)) for *rest, counted_at in kept.batches],
        lines=[(*rest, _moment(expires_at)) for *rest, expires_at in kept.lines],
    )


def _moment(text: str | None) -> str | None:
    return text and datetime.fromisoformat(text).astimezone(UTC).isoformat()


def _memory_contents(tables: MemoryTables) -> Contents:
    batches = [
        (
            *(row.ref, row.sku, _day(row.eta), row.purchased_quantity, row.allocated_quantity, row.position),
            *(row.initial_quantity, _day(row.initial_eta), row.shipped_quantity, row.location, _day(row.expires_on)),
            *(row.quarantine, row.delivery, row.arrived_quantity, row.arrived_allocated, row.inspect_quantity),
            *(_day(row.last_eta), row.created_as, row.counted_at and row.counted_at.isoformat()),
        )
        for row in tables.batches.values()
    ]
    lines = [
        (
            *(row.orderid, row.sku, row.qty, row.batchref, row.position, row.priority),
            *(_day(row.need_by), row.closed, row.part, row.rest, row.arrived),
            row.expires_at and row.expires_at.isoformat(),
        )
        for row in tables.lines.values()
    ]
    return Contents(
        products=sorted(map(tuple, tables.products.values())),
        batches=sorted(batches, key=lambda row: row[:1]),
        lines=sorted(lines, key=lambda row: row[:2]),
        ledger=[told for cascade in tables.messages.values() for row, _ in cascade for told in _unfolded(row)],
        deliveries=[tuple(row) for row in tables.deliveries],
    )


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _unfolded(row: MessageRow) -> Iterator[tuple[Any, ...]]:
    """The messages kept in a row, as the view of that name tells them."""
    for step, event in unfold(row):
        own = step == row.step
        cause = row.causation_step if own else row.step
        told = row.result if own else None
        yield (
            *(row.correlation_id, step, cause, type(event).__name__, row.sku, row.orderid),
            *(encode(event), told, row.actor),
        )


def message(event: Event, key: str | None = None) -> Message:
    return new_message(event, "test", key)


def submit(writer: Writer, messages: Sequence[Message]) -> list[asyncio.Future[Outcome | Exception]]:
    """Queue all at once, so that they are handled as one group; each answer may be an exception."""
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[Outcome | Exception]] = [loop.create_future() for _ in messages]
    for each, answer in zip(messages, answers, strict=True):
        writer.submit(each, answer.set_result)
    return answers


async def handle_together(writer: Writer, *messages: Message) -> list[Outcome | Exception]:
    """The answers to messages that arrived at the same moment."""
    return list(await asyncio.gather(*submit(writer, messages)))

"""Reads the messages of the past from the ledger: by index, and only those about what is asked for.

Of each product, or line of an order, the messages are those up to the last one recorded by the moment asked for. Where
processes disagree about the time, that is still a state it was in. Positions and times of different products may cross,
for they are written side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Select, func, select

from allocation.adapters.tables import batches, messages
from allocation.service_layer.books import BOOKED, Fact

PAGE_ROWS = 2_000


def product_facts(connection: Connection, sku: str, moment: datetime) -> Iterator[Fact]:
    """What changed the product's books until then, in order."""
    until = select(func.max(messages.c.position)).where(
        messages.c.sku == sku, messages.c.recorded_at <= moment.astimezone(UTC)
    )
    return _facts(connection, messages.c.sku == sku, until)


def order_facts(connection: Connection, orderid: str, moment: datetime) -> Iterator[Fact]:
    """What happened to the order's lines until then, by SKU and in order."""
    other = messages.alias()
    of_line = (other.c.orderid == orderid) & (other.c.sku == messages.c.sku)
    until = select(func.max(other.c.position)).where(of_line, other.c.recorded_at <= moment.astimezone(UTC))
    return _facts(connection, messages.c.orderid == orderid, until.correlate(messages))


def sku_of_batch(connection: Connection, ref: str) -> str | None:
    """The SKU of a batch, which never changes, or None if there never was such a batch."""
    return connection.scalar(select(batches.c.sku).where(batches.c.ref == ref))


def _facts(connection: Connection, about: ColumnElement[bool], until: Select[int]) -> Iterator[Fact]:
    query = (
        select(messages.c.position, messages.c.sku, messages.c.type, messages.c.orderid, messages.c.body)
        .where(about, messages.c.type.in_([kind.__name__ for kind in BOOKED]))
        .where(messages.c.position <= until.scalar_subquery())
        .order_by(messages.c.sku, messages.c.position, messages.c.place)
        .execution_options(yield_per=PAGE_ROWS)
    )
    return map(Fact._make, connection.execute(query))

"""Reads the messages of the past from the ledger: by index, and only those about what is asked for.

Of each product, or line of an order, the messages are those up to the last one recorded by the moment asked for. Where
processes disagree about the time, that is still a state it was in. Positions and times of different products may cross,
for they are written side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Select, func, select, text

from allocation.adapters.tables import ASKED_FOR_MORE, batches, messages, order_lines
from allocation.service_layer.proving.books import BOOKED, Fact

PAGE_ROWS = 2_000
NAMES_AT_ONCE = 500


def product_facts(connection: Connection, sku: str, moment: datetime, least: int = 0) -> Iterator[Fact]:
    """What changed the product's books until then, and in any case up to that position, in order."""
    by_then = (messages.c.recorded_at <= moment.astimezone(UTC)) | (messages.c.position <= least)
    until = select(func.max(messages.c.position)).where(messages.c.sku == sku, by_then)
    return _facts(connection, messages.c.sku == sku, until)


def order_facts(connection: Connection, orderid: str, moment: datetime) -> Iterator[Fact]:
    """What happened to the order's lines until then, by SKU and in order."""
    other = messages.alias()
    of_line = (other.c.orderid == orderid) & (other.c.sku == messages.c.sku)
    until = select(func.max(other.c.position)).where(of_line, other.c.recorded_at <= moment.astimezone(UTC))
    return _facts(connection, messages.c.orderid == orderid, until.correlate(messages))


def batch_facts(connection: Connection, sku: str, moment: datetime) -> Iterator[Fact]:
    """What changed the product's batches until then, in order, but for what its lines took of them."""
    until = select(func.max(messages.c.position)).where(
        messages.c.sku == sku, messages.c.recorded_at <= moment.astimezone(UTC)
    )
    return _facts(connection, (messages.c.sku == sku) & messages.c.orderid.is_(None), until)


def were_inbound(connection: Connection, refs: Iterable[str]) -> Mapping[str, str]:
    """Of these batches those that were bought with an ETA, with their SKUs: the others never had one."""
    query = select(batches.c.ref, batches.c.sku).where(batches.c.ref.in_(refs), batches.c.initial_eta.is_not(None))
    return {row.ref: row.sku for row in connection.execute(query)}


def sku_of_batch(connection: Connection, ref: str) -> str | None:
    """The SKU of a batch, which never changes, or None if there never was such a batch."""
    return connection.scalar(select(batches.c.sku).where(batches.c.ref == ref))


def line_positions(connection: Connection, sku: str, orderids: Sequence[str]) -> Mapping[str, int]:
    """The positions that lines of a product have, by order id."""
    found: dict[str, int] = {}
    for begin in range(0, len(orderids), NAMES_AT_ONCE):
        named = order_lines.c.orderid.in_(orderids[begin : begin + NAMES_AT_ONCE])
        rows = connection.execute(
            select(order_lines.c.orderid, order_lines.c.position).where(named, order_lines.c.sku == sku)
        )
        found |= {row.orderid: row.position for row in rows}
    return found


def _facts(connection: Connection, about: ColumnElement[bool], until: Select[int]) -> Iterator[Fact]:
    query = (
        select(messages.c.position, messages.c.sku, messages.c.type, messages.c.orderid, messages.c.body)
        .where(about, messages.c.type.in_([kind.__name__ for kind in BOOKED]) | text(ASKED_FOR_MORE))
        .where(messages.c.position <= until.scalar_subquery())
        .order_by(messages.c.sku, messages.c.position, messages.c.place)
        .execution_options(yield_per=PAGE_ROWS)
    )
    return map(Fact._make, connection.execute(query))

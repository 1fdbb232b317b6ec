"""Products and their batches."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from allocation.domain.errors import UnknownBatch
from allocation.domain.lines import HELD_PRIORITY, Today, stock_day
from allocation.domain.rules import USUAL, Rules
from allocation.views.lines import LINE_COLUMNS, Line, line_of
from allocation.views.look_alikes import unknown_sku
from allocation.views.paging import DEFAULT_PAGE, MAX_COUNTED, MAX_POSITION, STOCK_DAY, AnyRow, days_of, page_of, typed


class ProductSummary(msgspec.Struct):
    """A product's stock over all its batches, and how many lines wait for more."""

    sku: str
    purchased_quantity: int
    allocated_quantity: int
    available_quantity: int
    waiting_lines: int


class Products(msgspec.Struct):
    """Products by SKU."""

    products: list[ProductSummary]
    next_after: str | None


class StockedBatch(msgspec.Struct, omit_defaults=True):
    """A batch of a product; ``eta`` is null when it is in the warehouse.

    The shipped quantity is part of the allocated quantity. On hand is purchased minus shipped, once the batch
    is in the warehouse. ``quarantine`` is the reason why the batch may not be sold now.
    """

    batchref: str
    eta: date | None
    purchased_quantity: int
    allocated_quantity: int
    available_quantity: int
    shipped_quantity: int = 0
    on_hand_quantity: int = 0
    location: str | None = None
    expires_on: date | None = None
    quarantine: str | None = None


class ProductDetail(ProductSummary, omit_defaults=True):
    """A product: its batches, in the warehouse first and then as they are due, and its waiting lines, oldest first.

    ``rules`` are its own, where they are not as usual. Of the lines promised too late at most 1,000 are counted.
    """

    batches: list[StockedBatch]
    next_batches_after: str | None
    waiting: list[Line]
    next_waiting_after: int | None
    rules: dict[str, Any] = {}
    held_quantity: int = 0
    late_lines: int = 0


class BatchDetail(StockedBatch, kw_only=True):
    """A batch and the lines that hold its stock, newest first."""

    sku: str
    lines: list[Line]
    next_before: int | None


def products(connection: Connection, *, after: str = "", limit: int = DEFAULT_PAGE) -> Products:
    """A page of the products."""
    rows, more = page_of(connection, f"{_SUMMARIES} WHERE sku > :after ORDER BY sku", limit, after=after)
    found = [ProductSummary(*_summed(row)) for row in rows]
    return Products(found, found[-1].sku if more else None)


def product(
    connection: Connection,
    sku: str,
    today: Today,
    *,
    batches_after: str = "",
    waiting_after: int = 0,
    limit: int = DEFAULT_PAGE,
) -> ProductDetail:
    """A product with a page of its batches and one of its waiting lines; raises `UnknownSku`."""
    summary = connection.execute(text(f"{_SUMMARIES} WHERE sku = :sku"), {"sku": sku}).one_or_none()
    if summary is None:
        raise unknown_sku(connection, sku)
    batch_rows, more_batches = page_of(
        connection, _BATCHES_FROM if batches_after else _BATCHES, limit, sku=sku, after=batches_after
    )
    waiting_rows, more_waiting = page_of(connection, _WAITING_LINES, limit, sku=sku, after=waiting_after)
    batches = [StockedBatch(*row) for row in batch_rows]
    waiting = [line_of(row, None) for row in waiting_rows]
    rules, held_quantity, late_lines = connection.execute(
        typed(_LIFE), {"sku": sku, "most": MAX_COUNTED, **days_of(today)}
    ).one()
    return ProductDetail(
        *_summed(summary),
        batches,
        batches[-1].batchref if more_batches else None,
        waiting,
        waiting[-1].position if more_waiting else None,
        {} if rules is None else unusual(msgspec.json.decode(rules, type=Rules)),
        held_quantity,
        late_lines,
    )


def batch(
    connection: Connection, ref: str, today: Today, *, before: int = MAX_POSITION, limit: int = DEFAULT_PAGE
) -> BatchDetail:
    """A batch with a page of its lines; raises `UnknownBatch`."""
    found = connection.execute(typed(_BATCH), {"ref": ref}).one_or_none()
    if found is None:
        raise UnknownBatch(ref)
    rows, more = page_of(connection, _LINES, limit, ref=ref, before=before)
    *stock, sku = found
    lines = [line_of(row, stock_day(found.eta, today)) for row in rows]
    return BatchDetail(*stock, sku=sku, lines=lines, next_before=lines[-1].position if more else None)


def is_ready(connection: Connection) -> bool:
    """Whether the database answers, with our tables in it."""
    connection.execute(text("SELECT 1 FROM products LIMIT 1"))
    return True


def unusual(rules: Rules) -> dict[str, Any]:
    """The strategy and all rules that differ from the defaults, if the product has rules of its own."""
    if rules == USUAL:
        return {}
    usual = asdict(USUAL)
    return {name: value for name, value in asdict(rules).items() if name == "strategy" or value != usual[name]}


def _summed(row: AnyRow) -> tuple[str, int, int, int, int]:
    sku, purchased, allocated, waiting_lines = row
    return sku, purchased, allocated, purchased - allocated, waiting_lines


_BATCH_COLUMNS = (
    "ref, eta, purchased_quantity, allocated_quantity, purchased_quantity - allocated_quantity AS available_quantity,"
    " shipped_quantity, CASE WHEN eta IS NULL THEN purchased_quantity - shipped_quantity ELSE 0 END AS on_hand,"
    " location, expires_on, quarantine"
)
_SUMMARIES = """
    SELECT sku,
        (SELECT CAST(sum(purchased_quantity) AS BIGINT) FROM batches WHERE batches.sku = products.sku),
        (SELECT CAST(sum(allocated_quantity) AS BIGINT) FROM batches WHERE batches.sku = products.sku),
        waiting_lines
    FROM products
"""
_BATCH = f"SELECT {_BATCH_COLUMNS}, sku FROM batches WHERE ref = :ref"  # noqa: S608 - a constant
# By preference, as lines are allocated: the warehouse first, then by ETA.
_BATCHES = (
    f"SELECT {_BATCH_COLUMNS} FROM batches WHERE sku = :sku"  # noqa: S608 - a constant
    " ORDER BY coalesce(eta, :in_the_warehouse), position"
)
_BATCHES_FROM = (
    f"SELECT {_BATCH_COLUMNS} FROM batches WHERE sku = :sku"  # noqa: S608 - a constant
    " AND (coalesce(eta, :in_the_warehouse), position) >"
    " (SELECT coalesce(eta, :in_the_warehouse), position FROM batches WHERE sku = :sku AND ref = :after)"
    " ORDER BY coalesce(eta, :in_the_warehouse), position"
)
_WAITING_LINES = (
    f"SELECT {LINE_COLUMNS} FROM order_lines"  # noqa: S608 - a constant
    " WHERE sku = :sku AND batchref IS NULL AND closed IS NULL AND position > :after"
    " ORDER BY position"
)
_LINES = (
    f"SELECT {LINE_COLUMNS} FROM order_lines"  # noqa: S608 - a constant
    " WHERE batchref = :ref AND position < :before ORDER BY position DESC"
)
_LIFE = f"""
    SELECT rules, (
        SELECT CAST(coalesce(sum(qty), 0) AS BIGINT) FROM order_lines
        WHERE order_lines.sku = products.sku AND closed IS NULL AND priority <> 0 AND priority = {HELD_PRIORITY}
    ), (
        SELECT count(*) FROM (
            SELECT 1 FROM order_lines AS line JOIN batches ON ref = batchref
            WHERE line.sku = :sku AND closed IS NULL AND need_by IS NOT NULL
                AND need_by < {STOCK_DAY}
            LIMIT :most
        ) AS late
    ) FROM products WHERE sku = :sku
"""  # noqa: S608 - a constant

"""Products and their batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from allocation.domain.errors import UnknownBatch
from allocation.domain.figures import marks
from allocation.domain.lines import HELD_PRIORITY, NO_DAY, Today, stock_day
from allocation.domain.rules import USUAL, Rules
from allocation.views.figures import COLUMNS, IS_EXPIRED, LATE, LINE_ETA, Total, totals_of
from allocation.views.lines import LINE_COLUMNS, Line, line_of
from allocation.views.look_alikes import unknown_sku
from allocation.views.paging import DEFAULT_PAGE, MAX_COUNTED, MAX_POSITION, days_of, page_of, typed


class ProductSummary(msgspec.Struct):
    """A product's stock over all its batches, and how many lines wait for more.

    The quantities are those of each batch, summed up; the allocated quantity is not shipped yet. A ``retired`` product
    takes no new lines.
    """

    sku: str
    purchased_quantity: int
    allocated_quantity: int
    available_quantity: int
    on_hand_quantity: int
    incoming_quantity: int
    blocked_quantity: int
    overdue_quantity: int
    shipped_quantity: int
    waiting_lines: int
    retired: bool


class Products(msgspec.Struct):
    """Products by SKU."""

    products: list[ProductSummary]
    next_after: str | None


class StockedBatch(msgspec.Struct, omit_defaults=True):
    """A batch of a product; ``eta`` is null when it is in the warehouse, or with ``eta_unknown``, due on no known day.

    Shipped stock is in ``shipped_quantity`` and in no other quantity but the purchased one. Blocked stock is on hand
    and must not be sold: in quarantine for the reason ``quarantine``, ``expired``, or in inspection. Overdue stock is
    incoming, and its day is past. ``delivery`` is the purchase order or container it comes with.
    """

    batchref: str
    eta: date | None
    purchased_quantity: int
    allocated_quantity: int
    available_quantity: int
    on_hand_quantity: int
    incoming_quantity: int
    blocked_quantity: int
    overdue_quantity: int
    shipped_quantity: int
    location: str | None = None
    expires_on: date | None = None
    quarantine: str | None = None
    expired: bool = False
    eta_unknown: bool = False
    delivery: str | None = None
    inspect_quantity: int = 0

    @property
    def marks(self) -> list[str]:
        """The words for stock that is not as it should be."""
        return marks(
            quarantined=self.quarantine is not None,
            expired=self.expired,
            overdue=self.overdue_quantity > 0,
            eta_unknown=self.eta_unknown,
            inspected=self.inspect_quantity > 0,
            in_parts=self.incoming_quantity > 0 and self.purchased_quantity > self.incoming_quantity,
        )


class ProductDetail(ProductSummary, omit_defaults=True):
    """A product: its batches, in the warehouse first and then as they are due, and its waiting lines, oldest first.

    ``rules`` are its own, where they are not as usual. Of the late lines at most 1,000 are counted.
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


def products(
    connection: Connection, today: Today, *, after: str = "", retired: bool = False, limit: int = DEFAULT_PAGE
) -> Products:
    """A page of the products; with ``retired`` also the retired ones."""
    which = "" if retired else " AND retired IS NOT TRUE"
    rows, more = page_of(connection, f"{_PRODUCTS} WHERE sku > :after{which} ORDER BY sku", limit, after=after)
    totals = totals_of(connection, [row.sku for row in rows], today)
    found = [
        ProductSummary(sku, *totals.get(sku, Total()).figures, waiting, bool(is_retired))
        for sku, waiting, is_retired in rows
    ]
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
    counted = connection.execute(text(_WAITING_NUMBER), {"sku": sku}).one_or_none()
    if counted is None:
        raise unknown_sku(connection, sku)
    batches_from = _BATCHES_FROM if batches_after else _BATCHES
    about = {"sku": sku, "after": batches_after, **days_of(today)}
    batch_rows, more_batches = page_of(connection, batches_from, limit, **about)
    waiting_rows, more_waiting = page_of(connection, _WAITING_LINES, limit, sku=sku, after=waiting_after)
    batches = [StockedBatch(*_told(row)) for row in batch_rows]
    waiting = [line_of(row, None, today) for row in waiting_rows]
    rules, held_quantity, late_lines = connection.execute(
        typed(_LIFE), {"sku": sku, "most": MAX_COUNTED, **days_of(today)}
    ).one()
    return ProductDetail(
        sku,
        *totals_of(connection, [sku], today).get(sku, Total()).figures,
        counted.waiting_lines,
        bool(counted.retired),
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
    found = connection.execute(typed(_BATCH), {"ref": ref, **days_of(today)}).one_or_none()
    if found is None:
        raise UnknownBatch(ref)
    rows, more = page_of(connection, _LINES, limit, ref=ref, before=before)
    *stock, sku = found
    lines = [line_of(row, stock_day(row.eta, today), today) for row in rows]
    return BatchDetail(*_told(stock), sku=sku, lines=lines, next_before=lines[-1].position if more else None)


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


def _told(row: Sequence[Any]) -> Sequence[Any]:
    """The values of a `StockedBatch`, from those of its columns: a day that is not known is none."""
    batchref, eta, *others = row
    is_unknown = eta == NO_DAY
    *others, expired, delivery, inspected = others
    return batchref, None if is_unknown else eta, *others, bool(expired), is_unknown, delivery, inspected


_BATCH_COLUMNS = (
    f"ref, eta, {COLUMNS}, location, expires_on, quarantine, {IS_EXPIRED} AS expired, delivery, inspect_quantity"
)
_PRODUCTS = "SELECT sku, waiting_lines, retired FROM products"
_WAITING_NUMBER = "SELECT waiting_lines, retired FROM products WHERE sku = :sku"
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
    f"SELECT orderid, qty, lines.position, batchref, closed, priority, need_by, expires_at, {LINE_ETA} AS eta"  # noqa: S608
    " FROM order_lines AS lines JOIN batches AS place ON place.sku = lines.sku AND place.ref = batchref"
    " WHERE batchref = :ref AND lines.position < :before ORDER BY lines.position DESC"
)
_LIFE = f"""
    SELECT rules, (
        SELECT CAST(coalesce(sum(qty), 0) AS BIGINT) FROM order_lines
        WHERE order_lines.sku = products.sku AND closed IS NULL AND priority <> 0 AND priority = {HELD_PRIORITY}
    ), (
        SELECT count(*) FROM (
            SELECT 1 {LATE} AND lines.sku = :sku LIMIT :most
        ) AS late
    ) FROM products WHERE sku = :sku
"""  # noqa: S608 - a constant

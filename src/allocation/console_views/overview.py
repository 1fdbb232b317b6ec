"""The whole stock in a few numbers, and everything that needs attention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Date, text

from allocation.console_views.stock import LATE, SUMS, LateLine, Stock
from allocation.console_views.waiting import spelled, steps
from allocation.domain.lines import Today
from allocation.service_layer.writing.store import as_moment
from allocation.views.paging import days_of, with_days

MOST_SHOWN = 5
MOST_COUNTED = 10_000  # limit of long counts; more is shown as "10,000+"
OLDEST_OF = 2_000  # products whose oldest waiting line is looked up to find the oldest of all


class OverdueBatch(NamedTuple):
    """A batch that should have come."""

    ref: str
    sku: str
    eta: date
    purchased_quantity: int


class WaitingProduct(NamedTuple):
    """A product with lines that wait."""

    sku: str
    waiting_lines: int


class WaitingLine(NamedTuple):
    """A line that waits, and when it was ordered."""

    orderid: str
    sku: str
    qty: int
    since: datetime


class Totals(NamedTuple):
    """Everything summed up at one moment."""

    products: int
    batches: int
    stock: Stock
    waiting_lines: int
    waiting_qty: int
    overdue: int
    overdue_batches: Sequence[OverdueBatch]
    most_waiting: Sequence[WaitingProduct]
    oldest_waiting: Sequence[WaitingLine]
    late: int
    late_lines: Sequence[LateLine]


class Deliveries(NamedTuple):
    """How many deliveries are on their way or were given up, none counted further than `MOST_COUNTED`."""

    pending: int
    dead: int


def totals(connection: Connection, today: Today) -> Totals:
    """Reads all batches: a second for some millions, so not to be asked for at every look."""
    days = days_of(today)
    products = connection.execute(text("SELECT count(*) FROM products")).scalar_one()
    batches, overdue, *sums = connection.execute(_BATCHES, days).one()
    waiting_lines, waiting_qty = connection.execute(text(_WAITING)).one()
    past = connection.execute(_OVERDUE, {"limit": MOST_SHOWN, **days}) if overdue else ()
    late_count = connection.execute(_LATE_COUNT, {"most": MOST_COUNTED + 1, **days}).scalar_one()
    late_lines = connection.execute(_LATE, {"limit": MOST_SHOWN, **days}) if late_count else ()
    most = _waiting(connection, _MOST_WAITING, MOST_COUNTED) if waiting_lines else ()
    oldest = _waiting(connection, _OLDEST_WAITING, OLDEST_OF) if waiting_lines else ()
    return Totals(
        products,
        batches,
        Stock(*sums),
        waiting_lines,
        waiting_qty,
        overdue,
        [OverdueBatch._make(row) for row in past],
        [WaitingProduct._make(row) for row in most],
        [WaitingLine(orderid, sku, qty, as_moment(since)) for orderid, sku, qty, since in oldest],
        late_count,
        [LateLine._make(row) for row in late_lines],
    )


def deliveries(connection: Connection) -> Deliveries:
    """Counted by the indexes that have only pending or dead deliveries."""
    return Deliveries(*(connection.execute(text(_COUNT.format(state))).scalar_one() for state in ("pending", "dead")))


def _waiting(connection: Connection, statement: str, most: int) -> Sequence[Any]:
    return connection.execute(text(spelled(statement, connection)), {"limit": MOST_SHOWN, "most": most}).all()


_BATCHES = with_days(f"SELECT count(*), count(CASE WHEN eta < :today THEN 1 END), {SUMS} FROM batches")
_OVERDUE = with_days(
    "SELECT ref, sku, eta, purchased_quantity FROM batches WHERE eta < :today ORDER BY eta, ref LIMIT :limit"
).columns(eta=Date)
_LATE_COUNT = with_days(f"SELECT count(*) FROM (SELECT 1 {LATE} LIMIT :most) AS counted")
_LATE = with_days(
    f"SELECT lines.orderid, lines.sku, lines.qty, lines.need_by, place.ref, place.eta {LATE}"
    " ORDER BY lines.need_by, lines.orderid LIMIT :limit"
).columns(need_by=Date, eta=Date)
_WAITING = (
    "SELECT count(*), CAST(coalesce(sum(qty), 0) AS BIGINT) FROM order_lines WHERE batchref IS NULL AND closed IS NULL"
)
_MOST_WAITING = f"""
    {steps()}, counted (sku, waiting_lines) AS (
        SELECT sku, (SELECT waiting_lines FROM products WHERE products.sku = steps.sku)
        FROM steps WHERE sku IS NOT NULL LIMIT :most
    ) SELECT sku, waiting_lines FROM counted ORDER BY waiting_lines DESC, sku LIMIT :limit
"""
_OLDEST_WAITING = f"""
    {steps()}, eldest (sku, position) AS (
        SELECT sku, (SELECT min(position) FROM order_lines
            WHERE batchref IS NULL AND closed IS NULL AND order_lines.sku = steps.sku)
        FROM steps WHERE sku IS NOT NULL LIMIT :most
    ), ordered (orderid, sku, qty, place) AS (
        SELECT lines.orderid, lines.sku, lines.qty, (
            SELECT min(ledger.position) FROM ledger
            WHERE ledger.orderid = lines.orderid AND ledger.sku = lines.sku
        ) FROM eldest JOIN order_lines AS lines
            ON lines.batchref IS NULL AND lines.closed IS NULL
            AND lines.sku = eldest.sku AND lines.position = eldest.position
    ) SELECT ordered.orderid, ordered.sku, ordered.qty, ledger.recorded_at
    FROM ordered JOIN ledger ON ledger.position = place ORDER BY place LIMIT :limit
"""
_COUNT = f"SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE state = '{{}}' LIMIT {MOST_COUNTED + 1}) AS counted"

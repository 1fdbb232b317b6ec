"""The whole stock in a few numbers, and everything that needs attention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Date, text

from allocation.console_views.stock import FIRST_NEEDED, LATE_LINES, LateLine
from allocation.console_views.waiting import spelled, steps
from allocation.domain.lines import Today
from allocation.service_layer.writing.store import as_moment
from allocation.views.figures import EXPRESSIONS, IS_OVERDUE, LATE, SUMS, Total, total_of
from allocation.views.paging import days_of, with_days

MOST_SHOWN = 5
MOST_COUNTED = 10_000  # limit of long counts; more is shown as "10,000+"


class OverdueBatch(NamedTuple):
    """A batch with stock that should have come."""

    ref: str
    sku: str
    eta: date
    overdue_quantity: int


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
    stock: Total
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
    most = _stepped(connection, _MOST_WAITING, most=MOST_COUNTED) if waiting_lines else ()
    return Totals(
        products,
        batches,
        total_of(sums),
        waiting_lines,
        waiting_qty,
        overdue,
        [OverdueBatch._make(row) for row in past],
        [WaitingProduct._make(row) for row in most],
        _oldest(connection) if waiting_lines else (),
        late_count,
        [LateLine._make(row) for row in late_lines],
    )


def deliveries(connection: Connection) -> Deliveries:
    """Counted by the indexes that have only pending or dead deliveries."""
    return Deliveries(*(connection.execute(text(_COUNT.format(state))).scalar_one() for state in ("pending", "dead")))


def _stepped(connection: Connection, statement: str, **values: int) -> Sequence[Any]:
    return connection.execute(text(spelled(statement, connection)), {"limit": MOST_SHOWN, **values}).all()


def _oldest(connection: Connection) -> Sequence[WaitingLine]:
    """The lines that wait longest. They are among the first lines of the products whose first line is oldest."""
    found = []
    for (sku,) in _stepped(connection, _OLDEST_PRODUCTS):
        rows = connection.execute(text(_OLDEST_LINES), {"sku": sku, "limit": MOST_SHOWN})
        found += [WaitingLine(orderid, sku, qty, as_moment(since)) for orderid, sku, qty, since in rows]
    return sorted(found, key=attrgetter("since"))[:MOST_SHOWN]


_BATCHES = with_days(f"SELECT count(*), count(CASE WHEN {IS_OVERDUE} THEN 1 END), {SUMS} FROM batches")
_OVERDUE = with_days(
    f"SELECT ref, sku, eta, {EXPRESSIONS['incoming_quantity']} FROM batches WHERE {IS_OVERDUE}"
    " ORDER BY eta, ref LIMIT :limit"
).columns(eta=Date)
_LATE_COUNT = with_days(f"SELECT count(*) FROM (SELECT 1 {LATE} LIMIT :most) AS counted")
_LATE = with_days(f"{LATE_LINES} {FIRST_NEEDED}").columns(need_by=Date, eta=Date)
_WAITING = (
    "SELECT count(*), CAST(coalesce(sum(qty), 0) AS BIGINT) FROM order_lines WHERE batchref IS NULL AND closed IS NULL"
)
_MOST_WAITING = f"""
    {steps()}, counted (sku, waiting_lines) AS (
        SELECT sku, (SELECT waiting_lines FROM products WHERE products.sku = steps.sku)
        FROM steps WHERE sku IS NOT NULL LIMIT :most
    ) SELECT sku, waiting_lines FROM counted ORDER BY waiting_lines DESC, sku LIMIT :limit
"""
_FIRST = "lines.batchref IS NULL AND lines.closed IS NULL ORDER BY lines.position LIMIT"
# A line is as old as its first message. That is found by the order, not among all messages of a product.
_SINCE = """
    SELECT min(ledger.position) FROM ledger WHERE ledger.orderid = {orderid} AND ledger.sku || '' = {sku}
"""
_OLDEST_PRODUCTS = f"""
    {steps()}, eldest (sku, orderid) AS (
        SELECT sku, (SELECT orderid FROM order_lines AS lines WHERE lines.sku = steps.sku AND {_FIRST} 1)
        FROM steps WHERE sku IS NOT NULL
    ), dated (sku, place) AS (SELECT sku, ({_SINCE.format(orderid="eldest.orderid", sku="eldest.sku")}) FROM eldest)
    SELECT sku FROM dated WHERE place IS NOT NULL ORDER BY place LIMIT :limit
"""
_OLDEST_LINES = f"""
    SELECT dated.orderid, dated.sku, qty, ledger.recorded_at FROM (
        SELECT orderid, sku, qty, ({_SINCE.format(orderid="lines.orderid", sku="lines.sku")}) AS place
        FROM order_lines AS lines WHERE lines.sku = :sku AND {_FIRST} :limit
    ) AS dated JOIN ledger ON ledger.position = place
"""
_COUNT = f"SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE state = '{{}}' LIMIT {MOST_COUNTED + 1}) AS counted"

"""Products, and the lines of an order with the batches they are promised from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Date, TextClause, bindparam, text

from allocation import views
from allocation.console_views.waiting import spelled, steps
from allocation.domain.errors import UnknownOrder
from allocation.domain.lines import HELD_PRIORITY, Today, days_late, later_parts, state_of, stock_day
from allocation.service_layer.writing.store import as_moment
from allocation.views.paging import STOCK_DAY, days_of, with_days

PAGE = 50
WINDOW = 20_000  # products examined for one page, with any filter
WAITING_WINDOW = 2_000  # the same for products with waiting lines, which are found one by one
MOST_WAITING = 2_000  # products with waiting lines that are sorted by their number

Only = Literal["", "waiting", "short", "late", "overdue"]
Sort = Literal["sku", "-sku", "waiting"]


class Stock(NamedTuple):
    """Quantities of a product, a batch, or everything: on hand, and incoming."""

    on_hand: int = 0
    on_hand_allocated: int = 0
    incoming: int = 0
    incoming_allocated: int = 0

    @property
    def purchased(self) -> int:
        return self.on_hand + self.incoming

    @property
    def allocated(self) -> int:
        return self.on_hand_allocated + self.incoming_allocated

    @property
    def available(self) -> int:
        return self.purchased - self.allocated


class ProductRow(NamedTuple):
    """A product in a list."""

    sku: str
    waiting_lines: int
    stock: Stock


class ProductPage(NamedTuple):
    """Products in the requested order. ``next_after`` is the SKU after which the next page begins, None at the end.

    ``looked_through``: there may be more products, but the page ends early after examining `WINDOW` products.
    """

    rows: Sequence[ProductRow]
    next_after: str | None
    looked_through: bool = False


class OrderedLine(NamedTuple):
    """An order line as it is; ``batchref`` is None while it waits, ``eta`` also if it is on hand.

    The ``rest`` of it is in the parts that follow, which have order ids of their own.
    """

    orderid: str
    sku: str
    qty: int
    batchref: str | None
    eta: date | None
    need_by: date | None
    priority: int
    closed: str | None
    part: int | None
    rest: int | None

    @property
    def state(self) -> str:
        return state_of(self.batchref, self.closed, self.priority)

    def late_days(self, today: Today) -> int:
        """By how many days its promise is later than it is needed; 0 while it waits, and once it has ended."""
        day = None if self.batchref is None or self.closed else stock_day(self.eta, today)
        return days_late(self.need_by, day)


class LateLine(NamedTuple):
    """A line that is promised for a later day than it is needed by; ``eta`` is None where its stock is on hand."""

    orderid: str
    sku: str
    qty: int
    need_by: date
    batchref: str
    eta: date | None

    def late_days(self, today: Today) -> int:
        return days_late(self.need_by, stock_day(self.eta, today))


class Hold(NamedTuple):
    """Stock that a cart keeps until a moment."""

    holdid: str
    qty: int
    batchref: str
    expires_at: datetime


def products(  # noqa: PLR0913 - the filters of the list
    connection: Connection,
    *,
    search: str = "",
    anywhere: bool = False,
    only: Only = "",
    sort: Sort = "sku",
    after: str = "",
    today: Today,
    limit: int = PAGE,
) -> ProductPage:
    """Products whose SKU begins with ``search``, or contains it (``anywhere``), in upper or lower case.

    ``waiting``: with waiting lines; ``short``: with nothing available; ``late``: with a line promised for a later day
    than needed; ``overdue``: with a batch whose ETA is past.
    """
    asked = _Asked(search, anywhere, only, sort, after)
    window = asked.window(limit + 1)
    values = asked.values() | {"limit": limit + 1, "window": window, "most": MOST_WAITING, **days_of(today)}
    found = connection.execute(_prepared(asked.statement(), connection), values).all()
    if len(found) > limit:
        rows, next_after = found[:limit], str(found[limit - 1].sku)
        return ProductPage(_with_stock(connection, rows), next_after)
    if sort == "waiting":
        return ProductPage(_with_stock(connection, found), None)
    looked_at = f"SELECT count(*), {asked.last} FROM ({asked.looked_at()}) AS looked"
    last = connection.execute(_prepared(looked_at, connection), values).one()
    cut = last[0] >= window
    return ProductPage(_with_stock(connection, found), last[1] if cut else None, looked_through=cut)


def stock_of(connection: Connection, skus: Sequence[str]) -> Mapping[str, Stock]:
    """The stock of each of these products."""
    if not skus:
        return {}
    statement = text(f"SELECT sku, {SUMS} FROM batches WHERE sku IN :skus GROUP BY sku").bindparams(
        bindparam("skus", expanding=True)
    )
    return {row[0]: Stock(*row[1:]) for row in connection.execute(statement, {"skus": list(skus)})}


def late_lines(connection: Connection, sku: str, today: Today, limit: int = PAGE) -> Sequence[LateLine]:
    """A product's late lines, the one needed first first."""
    rows = connection.execute(_LATE, {"sku": sku, "limit": limit, **days_of(today)})
    return [LateLine._make(row) for row in rows]


def holds(connection: Connection, sku: str, limit: int = PAGE) -> Sequence[Hold]:
    """The holds of a product, by expiry."""
    rows = connection.execute(_HOLDS, {"sku": sku, "limit": limit})
    return [Hold(holdid, qty, batchref, as_moment(expires_at)) for holdid, qty, batchref, expires_at in rows]


def order(connection: Connection, orderid: str, *, after: str = "", limit: int = PAGE) -> Sequence[OrderedLine]:
    """An order's lines by SKU, one more than ``limit`` if there are; raises `UnknownOrder`."""
    found = connection.execute(_ORDER, {"orderid": orderid, "after": after, "limit": limit + 1}).all()
    if not found and not after:
        raise UnknownOrder(orderid)
    return [OrderedLine._make(row) for row in found]


def with_parts(connection: Connection, orderid: str, lines: Sequence[OrderedLine]) -> Sequence[OrderedLine]:
    """The lines of the order, each followed by its later parts."""
    split = [line.sku for line in lines if line.rest is not None and line.part == 1]
    found = connection.execute(_PARTS, {"orderids": later_parts(orderid), "skus": split}) if split else ()
    return views.with_parts(lines, map(OrderedLine._make, found))


SUMS = """
    CAST(coalesce(sum(CASE WHEN eta IS NULL THEN purchased_quantity END), 0) AS BIGINT),
    CAST(coalesce(sum(CASE WHEN eta IS NULL THEN allocated_quantity END), 0) AS BIGINT),
    CAST(coalesce(sum(CASE WHEN eta IS NOT NULL THEN purchased_quantity END), 0) AS BIGINT),
    CAST(coalesce(sum(CASE WHEN eta IS NOT NULL THEN allocated_quantity END), 0) AS BIGINT)
"""
# Open lines promised for a later day than needed; found by an index of the lines with a need-by day.
LATE = (
    "FROM order_lines AS lines JOIN batches AS place ON place.sku = lines.sku AND place.ref = lines.batchref"
    " WHERE lines.closed IS NULL AND lines.need_by IS NOT NULL"
    f" AND lines.need_by < {STOCK_DAY}"
)
_LATE = with_days(
    f"SELECT lines.orderid, lines.sku, lines.qty, lines.need_by, place.ref, place.eta {LATE} AND lines.sku = :sku"
    " ORDER BY lines.need_by, lines.orderid LIMIT :limit"
).columns(need_by=Date, eta=Date)
_HOLDS = text(
    "SELECT orderid, qty, batchref, expires_at FROM order_lines WHERE sku = :sku AND closed IS NULL"
    f" AND priority <> 0 AND priority = {HELD_PRIORITY} ORDER BY expires_at, orderid LIMIT :limit"
)
ORDERED = (
    "SELECT lines.orderid, lines.sku, lines.qty, lines.batchref, batches.eta, lines.need_by, lines.priority,"
    " lines.closed, lines.part, lines.rest"
    " FROM order_lines AS lines LEFT JOIN batches ON batches.sku = lines.sku AND batches.ref = lines.batchref"
)
_ORDER = text(
    f"{ORDERED} WHERE lines.orderid = :orderid AND lines.sku > :after ORDER BY lines.sku LIMIT :limit"
).columns(eta=Date, need_by=Date)
_PARTS = (
    text(f"{ORDERED} WHERE lines.orderid IN :orderids AND lines.sku IN :skus AND lines.part > 1")
    .bindparams(bindparam("orderids", expanding=True), bindparam("skus", expanding=True))
    .columns(eta=Date, need_by=Date)
)
_ALL = "SELECT sku, waiting_lines FROM products WHERE {bounds} ORDER BY sku {direction} LIMIT :window"
_WAITING = """
    {steps} SELECT sku, (SELECT waiting_lines FROM products WHERE products.sku = steps.sku) AS waiting_lines
    FROM steps WHERE sku IS NOT NULL LIMIT :window
"""
_MOST_WAITING = """
    SELECT sku, waiting_lines FROM ({waiting}) AS counted
    WHERE {matches} AND (:after = '' OR (-waiting_lines, sku) > (
        SELECT -last.waiting_lines, last.sku FROM products AS last WHERE last.sku = :after
    )) ORDER BY waiting_lines DESC, sku LIMIT :limit
"""
# As values and not by EXISTS, because PostgreSQL may answer EXISTS for all products together and read whole tables.
_CONDITIONS: Mapping[Only, str] = {
    "": "",
    "waiting": "",
    "short": " AND (SELECT 1 FROM batches WHERE batches.sku = looked.sku AND batches.has_room LIMIT 1) IS NULL",
    "late": f" AND (SELECT 1 {LATE} AND lines.sku = looked.sku LIMIT 1) = 1",
    "overdue": " AND (SELECT 1 FROM batches WHERE batches.sku = looked.sku AND batches.eta < :today LIMIT 1) = 1",
}
_LAST_CHARACTER = "\U0010ffff"


class _Asked(NamedTuple):
    """The filters of the list as SQL."""

    search: str
    anywhere: bool
    only: Only
    sort: Sort
    after: str

    @property
    def _direction(self) -> str:
        return "DESC" if self.sort == "-sku" else "ASC"

    @property
    def last(self) -> str:
        return "min(sku)" if self.sort == "-sku" else "max(sku)"

    @property
    def _spellings(self) -> Sequence[str]:
        """The beginnings that the index can be asked for."""
        return list(dict.fromkeys([self.search, self.search.upper(), self.search.lower()]))

    def statement(self) -> str:
        if self.sort == "waiting":
            waiting = self._waiting("sku > ''").replace(":window", ":most")
            return _MOST_WAITING.format(waiting=waiting, matches=self._matches)
        looked_at = self.looked_at()
        conditions = (
            f"{self._bounds} AND {self._matches}{_CONDITIONS[self.only]} ORDER BY sku {self._direction} LIMIT :limit"
        )
        return f"SELECT sku, waiting_lines FROM ({looked_at}) AS looked WHERE {conditions}"

    def looked_at(self) -> str:
        """The products that are looked at, in order."""
        bounds = self._bounds
        if self.only == "waiting":
            return self._waiting(bounds)
        if not self.search or self.anywhere:
            return _ALL.format(bounds=bounds, direction=self._direction)
        parts = []
        for number, _ in enumerate(self._spellings):
            of_part = f"sku >= :from_{number} AND sku < :to_{number}"  # one bound at each end: more hide the nearer one
            part = _ALL.format(bounds=of_part, direction=self._direction)
            parts.append(f"SELECT * FROM ({part}) AS part_{number}")
        return f"{' UNION ALL '.join(parts)} ORDER BY sku {self._direction} LIMIT :window"

    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = {"after": self.after}
        escaped = self.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values["pattern"] = f"%{escaped}%" if self.anywhere else f"{escaped}%"
        for number, spelling in enumerate(self._spellings):
            first, last = spelling, spelling + _LAST_CHARACTER
            if self.after.startswith(spelling):
                first, last = (first, self.after) if self.sort == "-sku" else (self.after, last)
            values |= {f"from_{number}": first, f"to_{number}": last}
        return values

    def window(self, limit: int) -> int:
        """The number of products to examine for a page of the given length; the same number if there is no filter."""
        if self.search or self.only not in {"", "waiting"}:
            return WAITING_WINDOW if self.only == "waiting" else WINDOW
        return limit

    @property
    def _matches(self) -> str:
        return "lower(sku) LIKE lower(:pattern) ESCAPE '\\'" if self.search else "sku > ''"

    @property
    def _bounds(self) -> str:
        return f"sku {'<' if self.sort == '-sku' else '>'} :after" if self.after else "sku > ''"

    def _waiting(self, bounds: str) -> str:
        return _WAITING.format(steps=steps(bounds, descending=self.sort == "-sku"))


def _prepared(statement: str, connection: Connection) -> TextClause:
    """The statement as this database has it, told where it has a day: SQLite keeps them as text."""
    return with_days(spelled(statement, connection))


def _with_stock(connection: Connection, rows: Sequence[Any]) -> Sequence[ProductRow]:
    stock = stock_of(connection, [row.sku for row in rows])
    return [ProductRow(row.sku, row.waiting_lines, stock.get(row.sku, Stock())) for row in rows]

"""Products, and the lines of an order with the batches they are promised from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Date, TextClause, bindparam, text

from allocation import views
from allocation.console_views.waiting import spelled, steps
from allocation.domain.errors import UnknownOrder
from allocation.domain.figures import is_expired, is_overdue, marks
from allocation.domain.lines import HELD_PRIORITY, NO_DAY, Today, later_parts, state_of
from allocation.service_layer.writing.store import as_moment
from allocation.views.figures import HAS_BLOCKED, HAS_OVERDUE, IS_AVAILABLE, LATE, LINE_ETA, Total, totals_of
from allocation.views.paging import days_of, with_days

PAGE = 50
WINDOW = 20_000  # products examined for one page, with any filter
WAITING_WINDOW = 2_000  # the same for products with waiting lines, which are found one by one
MOST_WAITING = 2_000  # products with waiting lines that are sorted by their number

Only = Literal["", "waiting", "short", "late", "overdue", "blocked", "retired"]
Sort = Literal["sku", "-sku", "waiting"]


class ProductRow(NamedTuple):
    """A product in a list."""

    sku: str
    waiting_lines: int
    retired: bool
    stock: Total


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
    quarantine: str | None
    expires_on: date | None

    @property
    def state(self) -> str:
        return state_of(self.batchref, self.closed, self.priority)

    def lateness(self, today: Today) -> views.Lateness:
        return views.lateness(self.batchref, self.closed, self.need_by, self.eta, today)

    def marks(self, today: Today) -> Sequence[str]:
        """The words for stock that it holds and that is not as it should be; none once the line has ended."""
        if self.closed is not None:
            return ()
        return marks(
            quarantined=self.quarantine is not None,
            expired=is_expired(self.expires_on, today),
            overdue=is_overdue(self.eta, today),
            eta_unknown=self.eta == NO_DAY,
        )

    def can_ship(self, today: Today) -> bool:
        """Whether its stock is in the warehouse, and nothing blocks it."""
        blocked = self.quarantine is not None or is_expired(self.expires_on, today)
        return self.batchref is not None and self.eta is None and not blocked


class LateLine(NamedTuple):
    """A late line; ``batchref`` is None while it waits, ``eta`` also where its stock is on hand."""

    orderid: str
    sku: str
    qty: int
    need_by: date
    batchref: str | None
    eta: date | None

    def lateness(self, today: Today) -> views.Lateness:
        return views.lateness(self.batchref, None, self.need_by, self.eta, today)


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

    ``waiting``: with waiting lines; ``short``: with nothing available; ``late``: with a late line; ``overdue``: with
    stock that is overdue; ``blocked``: with stock on hand that must not be sold; ``retired``: not sold any more.
    Retired products are left out where nothing is searched for, and among those without stock.
    """
    asked = _Asked(search, anywhere, only, sort, after)
    window = asked.window(limit + 1)
    values = asked.values() | {"limit": limit + 1, "window": window, "most": MOST_WAITING, **days_of(today)}
    found = connection.execute(_prepared(asked.statement(), connection), values).all()
    if len(found) > limit:
        rows, next_after = found[:limit], str(found[limit - 1].sku)
        return ProductPage(_with_stock(connection, rows, today), next_after)
    if sort == "waiting":
        return ProductPage(_with_stock(connection, found, today), None)
    looked_at = f"SELECT count(*), {asked.last} FROM ({asked.looked_at()}) AS looked"
    last = connection.execute(_prepared(looked_at, connection), values).one()
    cut = last[0] >= window
    return ProductPage(_with_stock(connection, found, today), last[1] if cut else None, looked_through=cut)


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


LATE_LINES = f"SELECT lines.orderid, lines.sku, lines.qty, lines.need_by, lines.batchref, {LINE_ETA} AS eta {LATE}"
FIRST_NEEDED = "ORDER BY lines.need_by, lines.orderid LIMIT :limit"
_LATE = with_days(f"{LATE_LINES} AND lines.sku = :sku {FIRST_NEEDED}").columns(need_by=Date, eta=Date)
_HOLDS = text(
    "SELECT orderid, qty, batchref, expires_at FROM order_lines WHERE sku = :sku AND closed IS NULL"
    f" AND priority <> 0 AND priority = {HELD_PRIORITY} ORDER BY expires_at, orderid LIMIT :limit"
)
ORDERED = (
    f"SELECT lines.orderid, lines.sku, lines.qty, lines.batchref, {LINE_ETA} AS eta, lines.need_by, lines.priority,"
    " lines.closed, lines.part, lines.rest, place.quarantine, place.expires_on"
    " FROM order_lines AS lines LEFT JOIN batches AS place ON place.sku = lines.sku AND place.ref = lines.batchref"
)
_ORDER = text(
    f"{ORDERED} WHERE lines.orderid = :orderid AND lines.sku > :after ORDER BY lines.sku LIMIT :limit"
).columns(eta=Date, need_by=Date, expires_on=Date)
_PARTS = (
    text(f"{ORDERED} WHERE lines.orderid IN :orderids AND lines.sku IN :skus AND lines.part > 1")
    .bindparams(bindparam("orderids", expanding=True), bindparam("skus", expanding=True))
    .columns(eta=Date, need_by=Date, expires_on=Date)
)
_ALL = "SELECT sku, waiting_lines, retired FROM products WHERE {bounds} ORDER BY sku {direction} LIMIT :window"
# Columns by themselves and not a join: before a join, SQLite would find the steps to the end.
_WAITING = """
    {steps} SELECT sku, (SELECT waiting_lines FROM products WHERE products.sku = steps.sku) AS waiting_lines,
    (SELECT retired FROM products WHERE products.sku = steps.sku) AS retired
    FROM steps WHERE sku IS NOT NULL LIMIT :window
"""
_MOST_WAITING = """
    SELECT sku, waiting_lines, retired FROM ({waiting}) AS counted
    WHERE {matches} AND (:after = '' OR (-waiting_lines, sku) > (
        SELECT -last.waiting_lines, last.sku FROM products AS last WHERE last.sku = :after
    )) ORDER BY waiting_lines DESC, sku LIMIT :limit
"""
_OF_PRODUCT = "SELECT 1 FROM batches WHERE batches.sku = looked.sku"
# As values and not by EXISTS, because PostgreSQL may answer EXISTS for all products together and read whole tables.
_CONDITIONS: Mapping[Only, str] = {
    "": "",
    "waiting": "",
    "short": f" AND ({_OF_PRODUCT} AND {IS_AVAILABLE} LIMIT 1) IS NULL",
    "late": f" AND (SELECT 1 {LATE} AND lines.sku = looked.sku LIMIT 1) = 1",
    "overdue": f" AND ({_OF_PRODUCT} AND {HAS_OVERDUE} LIMIT 1) = 1",
    "blocked": f" AND ({_OF_PRODUCT} AND {HAS_BLOCKED} LIMIT 1) = 1",
    "retired": " AND retired = TRUE",
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
        return f"SELECT sku, waiting_lines, retired FROM ({looked_at}) AS looked WHERE {conditions}"

    def looked_at(self) -> str:
        """The products that are looked at, in order."""
        bounds = self._bounds
        if self.only == "waiting":
            return self._waiting(bounds)
        if not self.search or self.anywhere:
            return _ALL.format(bounds=bounds + self._sold, direction=self._direction)
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

    @property
    def _sold(self) -> str:
        return " AND retired IS NOT TRUE" if self.only in {"", "short"} and not self.search else ""

    def _waiting(self, bounds: str) -> str:
        return _WAITING.format(steps=steps(bounds, descending=self.sort == "-sku"))


def _prepared(statement: str, connection: Connection) -> TextClause:
    """The statement as this database has it, told where it has a day: SQLite keeps them as text."""
    return with_days(spelled(statement, connection))


def _with_stock(connection: Connection, rows: Sequence[Any], today: Today) -> Sequence[ProductRow]:
    stock = totals_of(connection, [row.sku for row in rows], today)
    return [ProductRow(row.sku, row.waiting_lines, bool(row.retired), stock.get(row.sku, Total())) for row in rows]

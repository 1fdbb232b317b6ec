"""A product that is out of stock, and its waiting lines: since when, and which of them are new."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Date, Executable, text

from allocation.domain.events import Backordered
from allocation.domain.lines import part_of
from allocation.service_layer.delivering.stock_mail import (
    MOST_LINES,
    MOST_LINES_OF_DIGEST,
    MOST_PRODUCTS,
    Noted,
    Shortage,
    Shortages,
    WaitingLine,
)
from allocation.service_layer.writing.store import as_moment
from allocation.views.paging import AnyRow


def shortage(connection: Connection, sku: str, cascade: str, limit: int = MOST_LINES) -> Shortage:
    """The product's waiting lines, at most ``limit``: first the lines that began to wait in the cascade."""
    return _shortage(connection, _BY_CASCADE, Noted(sku, cascade), limit)


def shortages(connection: Connection, noted: Sequence[Noted], most: int = MOST_PRODUCTS) -> Shortages:
    """Of each product the waiting lines: first the new ones, which began to wait since the noted cascade.

    Products without new lines are left out, and so are all after the first ``most``.
    """
    found: list[Shortage] = []
    for number, each in enumerate(noted):
        if len(found) == most:
            return Shortages(found, len(noted) - number)
        read = _shortage(connection, _SINCE_CASCADE, each, MOST_LINES_OF_DIGEST)
        found += [read] if read.new else []
    return Shortages(found, 0)


def _shortage(connection: Connection, new_lines: Executable, noted: Noted, limit: int) -> Shortage:
    number = connection.scalar(text("SELECT waiting_lines FROM products WHERE sku = :sku"), {"sku": noted.sku}) or 0
    about = {**noted._asdict(), "limit": limit}
    new = [_line(row) for row in connection.execute(new_lines, about)] if number else []
    known = {(line.orderid, line.part) for line in new}
    oldest = connection.execute(_OLDEST, about) if len(new) < min(number, limit) else ()
    earlier = [line for line in map(_line, oldest) if (line.orderid, line.part) not in known]
    return Shortage(noted.sku, number, new, earlier[: limit - len(new)])


def _line(row: AnyRow) -> WaitingLine:
    orderid, part, qty, need_by, since = row
    later_part = part if part is not None and part > 1 else None
    return WaitingLine(part_of(orderid, part or 1), later_part, qty, as_moment(since) if since else None, need_by)


_WAITS = "line.batchref IS NULL AND line.closed IS NULL"
_BEGAN = f"told.type = '{Backordered.__name__}'"
_NEW = f"""
    SELECT line.orderid, line.part, line.qty, line.need_by, max(told.recorded_at)
    FROM messages AS told JOIN order_lines AS line ON line.sku = told.sku AND line.orderid = told.orderid
    WHERE told.sku = :sku AND {_BEGAN} AND {_WAITS} AND {{which}}
    GROUP BY line.orderid, line.part, line.qty, line.need_by ORDER BY max(told.position), line.orderid LIMIT :limit
"""  # noqa: S608 - constants
_BY_CASCADE = text(_NEW.format(which="told.correlation_id = :cascade")).columns(need_by=Date)
_SINCE_CASCADE = text(
    _NEW.format(
        which="told.position >= coalesce("
        "(SELECT min(position) FROM ledger WHERE correlation_id = :cascade AND step = 0), 0)"
    )
).columns(need_by=Date)
_OLDEST = text(f"""
    SELECT line.orderid, line.part, line.qty, line.need_by, (
        SELECT max(told.recorded_at) FROM messages AS told
        WHERE told.orderid = line.orderid AND told.sku = line.sku AND {_BEGAN}
    ) FROM order_lines AS line WHERE line.sku = :sku AND {_WAITS} ORDER BY line.position LIMIT :limit
""").columns(need_by=Date)  # noqa: S608 - constants

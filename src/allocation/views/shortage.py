"""A product that is out of stock, and its waiting lines: since when, and which of them are new."""

from __future__ import annotations

from sqlalchemy import Connection, Date, text

from allocation.domain.events import Backordered
from allocation.domain.lines import part_of
from allocation.service_layer.delivering.stock_mail import MOST_LINES, Shortage, WaitingLine
from allocation.service_layer.writing.store import as_moment
from allocation.views.paging import AnyRow


def shortage(connection: Connection, sku: str, cascade: str, limit: int = MOST_LINES) -> Shortage:
    """The product's waiting lines, at most ``limit``: first the lines that began to wait in the cascade."""
    number = connection.scalar(text("SELECT waiting_lines FROM products WHERE sku = :sku"), {"sku": sku}) or 0
    about = {"sku": sku, "cascade": cascade, "limit": limit}
    new = [_line(row) for row in connection.execute(_NEW, about)]
    known = {(line.orderid, line.part) for line in new}
    oldest = connection.execute(_OLDEST, about) if len(new) < min(number, limit) else ()
    earlier = [line for line in map(_line, oldest) if (line.orderid, line.part) not in known]
    return Shortage(sku, number, new, earlier[: limit - len(new)])


def _line(row: AnyRow) -> WaitingLine:
    orderid, part, qty, need_by, since = row
    later_part = part if part is not None and part > 1 else None
    return WaitingLine(part_of(orderid, part or 1), later_part, qty, as_moment(since) if since else None, need_by)


_WAITS = "line.batchref IS NULL AND line.closed IS NULL"
_BEGAN = f"told.type = '{Backordered.__name__}'"
_NEW = text(f"""
    SELECT line.orderid, line.part, line.qty, line.need_by, max(told.recorded_at)
    FROM messages AS told JOIN order_lines AS line ON line.sku = told.sku AND line.orderid = told.orderid
    WHERE told.correlation_id = :cascade AND told.sku = :sku AND {_BEGAN} AND {_WAITS}
    GROUP BY line.orderid, line.part, line.qty, line.need_by ORDER BY max(told.position), line.orderid LIMIT :limit
""").columns(need_by=Date)  # noqa: S608 - constants
_OLDEST = text(f"""
    SELECT line.orderid, line.part, line.qty, line.need_by, (
        SELECT max(told.recorded_at) FROM messages AS told
        WHERE told.orderid = line.orderid AND told.sku = line.sku AND {_BEGAN}
    ) FROM order_lines AS line WHERE line.sku = :sku AND {_WAITS} ORDER BY line.position LIMIT :limit
""").columns(need_by=Date)  # noqa: S608 - constants

"""The facts that the beginning of a day brings: batches that expired, overdue deliveries, and lines that are late.

Each is read by an index of its own, a page at a time, so past days and days to come cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Date, bindparam, text

from allocation.domain.events import BatchExpired, DeliveryOverdue, Event, LineBecameLate
from allocation.service_layer.writing.new_day import Brought, Place, Span


def brought(connection: Connection, kind: type[Event], span: Span, after: Place, most: int) -> Sequence[Brought]:
    """A page of the facts of that kind, for the days of the span: by day and name, behind that place."""
    statement = _STATEMENTS[kind]
    if connection.dialect.name != "sqlite":
        statement = statement.replace(_LATE_INDEX, "")
        connection.execute(_IN_ORDER)
    days = [bindparam(name, type_=Date) for name in ("since", "until", "day")]
    typed = text(statement).bindparams(*days).columns(found_on=Date)
    rows = connection.execute(typed, {**span._asdict(), **after._asdict(), "most": most})
    return [_brought(kind, row) for row in rows]


def _brought(kind: type[Event], row: Any) -> Brought:
    if kind is LineBecameLate:
        event: Event = LineBecameLate(row.orderid, row.name, row.qty, row.found_on)
        return Brought(event, Place(row.found_on, row.name, row.orderid))
    event = BatchExpired(row.name) if kind is BatchExpired else DeliveryOverdue(row.name)
    return Brought(event, Place(row.found_on, row.name))


# PostgreSQL takes the index that has the rows in order, SQLite the named one; other indexes have all waiting lines.
_IN_ORDER: Final = text("SELECT set_config('enable_sort', 'off', true)")
_LATE_INDEX: Final = "INDEXED BY ix_order_lines_late"
_BATCHES: Final = """
    SELECT {day} AS found_on, ref AS name FROM batches
    WHERE {day} IS NOT NULL AND {day} >= :since AND {day} < :until AND {is_there}
        AND ({day}, ref) > (:day, :name)
    ORDER BY {day}, ref LIMIT :most
"""
_STATEMENTS: Final = {
    BatchExpired: _BATCHES.format(
        day="expires_on", is_there="purchased_quantity + inspect_quantity > shipped_quantity"
    ),
    DeliveryOverdue: _BATCHES.format(day="eta", is_there="purchased_quantity > coalesce(arrived_quantity, 0)"),
    LineBecameLate: f"""
        SELECT need_by AS found_on, sku AS name, orderid, qty FROM order_lines {_LATE_INDEX}
        WHERE need_by IS NOT NULL AND batchref IS NULL AND closed IS NULL AND need_by >= :since AND need_by < :until
            AND (need_by, sku, orderid) > (:day, :name, :orderid)
        ORDER BY need_by, sku, orderid LIMIT :most
    """,  # noqa: S608 - a constant
}

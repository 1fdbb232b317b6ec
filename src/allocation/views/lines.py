"""The lines of an order, and the fields of a line in every view."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Date, bindparam, text

from allocation.domain.errors import UnknownOrder
from allocation.domain.lines import (
    NO_DAY,
    Today,
    is_late,
    late_by,
    later_parts,
    own_priority,
    part_of,
    state_of,
    stock_day,
)
from allocation.service_layer.writing.store import as_moment
from allocation.views.figures import LINE_ETA
from allocation.views.paging import DEFAULT_PAGE, AnyRow, typed

_Ordered = TypeVar("_Ordered", bound=Any)  # a line of an order, of any type with a SKU and a part


class PromisedLine(msgspec.Struct, omit_defaults=True):
    """One line of an order, or one hold; ``batchref`` is null while it waits, and of a line that is over.

    ``promised`` is the day its stock is due; without it, it is in the warehouse, or with ``eta_unknown``, due on no
    known day. It is ``late`` if that is after ``need_by``, or if it waits and ``need_by`` is past.
    Of a line that was split, the ``rest`` is in the parts that follow it: each has an ``orderid`` of its own, and is
    ``part_of`` the line's.
    """

    sku: str
    qty: int
    batchref: str | None
    state: str
    promised: date | None = None
    need_by: date | None = None
    late_days: int = 0
    priority: int = 0
    expires_at: datetime | None = None
    rest: int = 0
    orderid: str | None = None
    part_of: str | None = None
    late: bool = False
    eta_unknown: bool = False


class Line(msgspec.Struct, omit_defaults=True):
    """A line of the product or batch asked about. The smaller the position, the older the line.

    It is ``late`` if its stock is there after ``need_by``, or if it waits and ``need_by`` is past.
    """

    orderid: str
    qty: int
    position: int
    state: str
    need_by: date | None = None
    late_days: int = 0
    priority: int = 0
    expires_at: datetime | None = None
    late: bool = False


def allocations(
    connection: Connection, orderid: str, today: Today, *, after: str = "", limit: int = DEFAULT_PAGE
) -> list[PromisedLine]:
    """The order's lines by SKU, each followed by its later parts, which count for no page; raises `UnknownOrder`."""
    rows = connection.execute(typed(_ORDER), {"orderid": orderid, "after": after, "limit": limit}).all()
    if not rows and not (after and _exists(connection, orderid)):
        raise UnknownOrder(orderid)
    split = [row.sku for row in rows if row.rest is not None and row.part == 1]
    if split:
        rows = with_parts(rows, connection.execute(_PARTS, {"orderids": later_parts(orderid), "skus": split}))
    return [_promised(row, today) for row in rows]


def expired_holds(connection: Connection, moment: datetime, limit: int) -> list[tuple[str, datetime]]:
    """The open holds that ended by the moment, with their own, the longest over first."""
    at: object = moment
    if connection.dialect.name == "sqlite":  # which keeps moments as text, in UTC and whole seconds
        at = f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    rows = connection.execute(text(_EXPIRED_HOLDS), {"moment": at, "limit": limit})
    return [(holdid, as_moment(expires_at)) for holdid, expires_at in rows]


def with_parts(lines: Iterable[_Ordered], parts: Iterable[_Ordered]) -> list[_Ordered]:
    """Lines of an order, each followed by its later parts."""
    by_sku: defaultdict[str, list[_Ordered]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: part.part or 0):
        by_sku[part.sku].append(part)
    return [each for line in lines for each in (line, *by_sku[line.sku])]


class Lateness(NamedTuple):
    """The day an open line's stock is due, and whether and by how many days that is late, as far as is known.

    ``due`` is None if the stock is there, if the line waits, and if nobody knows the day (``eta_unknown``).
    """

    due: date | None = None
    late: bool = False
    late_days: int = 0
    eta_unknown: bool = False


def lateness(
    batchref: str | None, closed: str | None, need_by: date | None, eta: date | None, today: Today
) -> Lateness:
    if closed is not None:
        return Lateness()
    day = None if batchref is None else stock_day(eta, today)
    due = None if batchref is None or eta in {None, NO_DAY} else day
    return Lateness(due, is_late(need_by, day, today), late_by(need_by, day, today), day == NO_DAY)


def told_priority(priority: int) -> int:
    """The priority as ordered, without a pin; 0 for a hold."""
    return max(0, own_priority(priority))


def line_of(row: AnyRow, day: date | None, today: Today) -> Line:
    """``day`` is that of its stock, None while it waits."""
    orderid, qty, position, batchref, closed, priority, need_by, expires_at, *_ = row
    return Line(
        orderid,
        qty,
        position,
        state_of(batchref, closed, priority),
        need_by,
        0 if closed else late_by(need_by, day, today),
        told_priority(priority),
        as_moment(expires_at) if expires_at is not None else None,
        closed is None and is_late(need_by, day, today),
    )


def _promised(row: AnyRow, today: Today) -> PromisedLine:
    orderid, sku, qty, batchref, closed, priority, need_by, expires_at, eta, part, rest = row
    is_later = part is not None and part > 1
    found = lateness(batchref, closed, need_by, eta, today)
    return PromisedLine(
        sku,
        qty,
        batchref,
        state_of(batchref, closed, priority),
        found.due,
        need_by,
        found.late_days,
        told_priority(priority),
        as_moment(expires_at) if expires_at is not None else None,
        rest or 0,
        orderid if is_later else None,
        part_of(orderid, part) if is_later else None,
        found.late,
        found.eta_unknown,
    )


def _exists(connection: Connection, orderid: str) -> bool:
    statement = text("SELECT 1 FROM order_lines WHERE orderid = :orderid LIMIT 1")
    return connection.execute(statement, {"orderid": orderid}).first() is not None


LINE_COLUMNS = "orderid, qty, position, batchref, closed, priority, need_by, expires_at"
_ORDERED = f"""
    SELECT orderid, lines.sku, qty, batchref, closed, priority, need_by, expires_at, {LINE_ETA} AS eta, part, rest
    FROM order_lines AS lines LEFT JOIN batches AS place ON place.ref = lines.batchref
"""  # noqa: S608 - a constant
_ORDER = f"{_ORDERED} WHERE orderid = :orderid AND lines.sku > :after ORDER BY lines.sku LIMIT :limit"
_PARTS = (
    text(f"{_ORDERED} WHERE orderid IN :orderids AND lines.sku IN :skus AND part > 1")
    .bindparams(bindparam("orderids", expanding=True), bindparam("skus", expanding=True))
    .columns(eta=Date, need_by=Date)
)
_EXPIRED_HOLDS = (
    "SELECT orderid, expires_at FROM order_lines"
    " WHERE closed IS NULL AND expires_at IS NOT NULL AND expires_at <= :moment ORDER BY expires_at LIMIT :limit"
)

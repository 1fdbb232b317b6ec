"""The read models: plain functions of a read-only connection, run with `Reader.run`.

Each reads one page by an index, never a whole table. ``next_…`` in a result is the value of the parameter of that name
for the next page; null on the last one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Date, Executable, Row, bindparam, text

from allocation.domain.errors import UnknownBatch, UnknownDeadLetter, UnknownMessage, UnknownOrder, UnknownSku
from allocation.domain.lines import HELD_PRIORITY, days_late, later_parts, own_priority, part_of, state_of, stock_day
from allocation.domain.rules import USUAL, Rules
from allocation.service_layer.books import NOTHING_GONE, Opening
from allocation.service_layer.dead_letters import seconds
from allocation.service_layer.messages import message_id, split_id

DEFAULT_PAGE = 100
MAX_PAGE = 1_000
MAX_COUNTED = 1_000
MAX_POSITION = 2**63 - 1
MAX_STEP = 2**31 - 1


AnyRow = Row[*tuple[Any, ...]]
_Ordered = TypeVar("_Ordered", bound=Any)  # a line of an order, of whatever type: with its SKU and its part


class PromisedLine(msgspec.Struct, omit_defaults=True):
    """One line of an order, or one hold; ``batchref`` is null while it waits, and of a line that is over.

    ``promised`` is the day its stock is due; without it, it is in the warehouse. A promise after ``need_by`` is late.
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

    What was shipped is part of what is allocated; on hand is what was not, once it is in the warehouse. ``quarantine``
    is the reason why none of it may be sold now.
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


class Line(msgspec.Struct, omit_defaults=True):
    """A line of the product or batch asked about. The smaller the position, the older the line."""

    orderid: str
    qty: int
    position: int
    state: str
    need_by: date | None = None
    late_days: int = 0
    priority: int = 0
    expires_at: datetime | None = None


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


class RecordedEvent(msgspec.Struct):
    """A message of the ledger; ``body`` are the event's fields, ``causation_id`` is null if it came from outside."""

    position: int
    id: str
    correlation_id: str
    causation_id: str | None
    type: str
    sku: str
    actor: str
    recorded_at: datetime
    body: msgspec.Raw


class Events(msgspec.Struct):
    """Messages of the ledger, oldest first."""

    events: list[RecordedEvent]
    next_after: int | None


class DeadLetter(msgspec.Struct):
    """A delivery that was given up: its message, how often it was tried, and what the last attempt said."""

    number: int
    effect: str
    sku: str
    id: str
    correlation_id: str
    type: str
    attempts: int
    error: str
    died_at: datetime


class DeadLetterDetail(DeadLetter):
    """A dead letter with the cause and the body of its message, and the stack of the last attempt."""

    causation_id: str | None
    body: msgspec.Raw
    stack: str


class DeadLetters(msgspec.Struct):
    """Dead letters, oldest delivery first."""

    dead_letters: list[DeadLetter]
    next_after: int | None


def allocations(
    connection: Connection, orderid: str, *, after: str = "", limit: int = DEFAULT_PAGE
) -> list[PromisedLine]:
    """The order's lines by SKU, each followed by its later parts, which count for no page; raises `UnknownOrder`."""
    rows = connection.execute(_typed(_ORDER), {"orderid": orderid, "after": after, "limit": limit}).all()
    if not rows and not (after and _exists(connection, orderid)):
        raise UnknownOrder(orderid)
    split = [row.sku for row in rows if row.rest is not None and row.part == 1]
    if split:
        rows = with_parts(rows, connection.execute(_PARTS, {"orderids": later_parts(orderid), "skus": split}))
    return [_promised(row) for row in rows]


def products(connection: Connection, *, after: str = "", limit: int = DEFAULT_PAGE) -> Products:
    """A page of the products."""
    rows, more = _page(connection, f"{_SUMMARIES} WHERE sku > :after ORDER BY sku", limit, after=after)
    found = [ProductSummary(*_summed(row)) for row in rows]
    return Products(found, found[-1].sku if more else None)


def product(
    connection: Connection, sku: str, *, batches_after: str = "", waiting_after: int = 0, limit: int = DEFAULT_PAGE
) -> ProductDetail:
    """A product with a page of its batches and one of its waiting lines; raises `UnknownSku`."""
    summary = connection.execute(text(f"{_SUMMARIES} WHERE sku = :sku"), {"sku": sku}).one_or_none()
    if summary is None:
        raise UnknownSku(sku)
    batch_rows, more_batches = _page(
        connection, _BATCHES_FROM if batches_after else _BATCHES, limit, sku=sku, after=batches_after
    )
    waiting_rows, more_waiting = _page(connection, _WAITING_LINES, limit, sku=sku, after=waiting_after)
    batches = [StockedBatch(*row) for row in batch_rows]
    waiting = [_line(row, None) for row in waiting_rows]
    rules, held_quantity, late_lines = connection.execute(
        _typed(_LIFE), {"sku": sku, "today": today(), "most": MAX_COUNTED}
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


def batch(connection: Connection, ref: str, *, before: int = MAX_POSITION, limit: int = DEFAULT_PAGE) -> BatchDetail:
    """A batch with a page of its lines; raises `UnknownBatch`."""
    found = connection.execute(_typed(_BATCH), {"ref": ref}).one_or_none()
    if found is None:
        raise UnknownBatch(ref)
    rows, more = _page(connection, _LINES, limit, ref=ref, before=before)
    *stock, sku = found
    lines = [_line(row, stock_day(found.eta, today())) for row in rows]
    return BatchDetail(*stock, sku=sku, lines=lines, next_before=lines[-1].position if more else None)


def events(
    connection: Connection,
    *,
    correlation_id: str | None = None,
    sku: str | None = None,
    orderid: str | None = None,
    after: int = 0,
    limit: int = DEFAULT_PAGE,
) -> Events:
    """A page of the ledger: all of it, or what has the values asked for.

    Messages of one position are not parted: a page is longer than its limit by those that belong to its last one.
    """
    asked = {"correlation_id": correlation_id, "sku": sku, "orderid": orderid}
    values = {name: value for name, value in asked.items() if value is not None}
    conditions = " AND ".join(["position > :after", *(f"{name} = :{name}" for name in values)])
    # Within a correlation rows have the order of their steps, and its index is by step.
    order = "kept_step, place" if correlation_id is not None else "position, place"
    asked_for = f"{_MESSAGES} WHERE {conditions} ORDER BY {order}"
    page, more = _page(connection, asked_for, limit, after=after, **values)
    rows = list(page)
    if more:
        last = rows[-1]
        rows += connection.execute(text(_REST_OF_ROW), {"position": last.position, "place": last.place})
        _, more = _page(connection, asked_for, 0, after=last.position, **values)
    return Events([_recorded(row) for row in rows], rows[-1].position if more else None)


def event(connection: Connection, id_: str) -> RecordedEvent:
    """One message of the ledger; raises `UnknownMessage`."""
    correlation_id, step = split_id(id_)
    if step > MAX_STEP or message_id(correlation_id, step) != id_:
        raise UnknownMessage(id_)
    statement = text(f"{_MESSAGES} WHERE correlation_id = :correlation_id AND step = :step")
    found = connection.execute(statement, {"correlation_id": correlation_id, "step": step}).one_or_none()
    if found is None:
        raise UnknownMessage(id_)
    return _recorded(found)


def dead_letters(
    connection: Connection,
    *,
    effect: str | None = None,
    sku: str | None = None,
    older_than: str | None = None,
    after: int = 0,
    limit: int = DEFAULT_PAGE,
) -> DeadLetters:
    """A page of the dead letters: all, or those that have the values asked for."""
    values: dict[str, Any] = {"effect": effect, "sku": sku}
    values = {name: value for name, value in values.items() if value is not None}
    conditions = ["state = 'dead'", "number > :after", *(f"{name} = :{name}" for name in values)]
    if older_than is not None:
        conditions.append("settled_at < :before")
        before = datetime.now(UTC) - timedelta(seconds=seconds(older_than))
        values["before"] = before.isoformat() if connection.dialect.name == "sqlite" else before
    asked_for = f"{_DEAD_LETTERS} WHERE {' AND '.join(conditions)} ORDER BY number"
    rows, more = _page(connection, asked_for, limit, after=after, **values)
    return DeadLetters([DeadLetter(*_died(row)) for row in rows], rows[-1].number if more else None)


def dead_letter(connection: Connection, number: str) -> DeadLetterDetail:
    """One dead letter; raises `UnknownDeadLetter`."""
    if not (number.isascii() and number.isdecimal() and int(number) <= MAX_POSITION):
        raise UnknownDeadLetter(number)
    statement = text(f"{_DEAD_LETTER} WHERE state = 'dead' AND number = :number")
    found = connection.execute(statement, {"number": int(number)}).one_or_none()
    if found is None:
        raise UnknownDeadLetter(number)
    cause = None if found.causation_step is None else message_id(found.correlation_id, found.causation_step)
    return DeadLetterDetail(*_died(found), cause, msgspec.Raw(found.body.encode()), found.stack)


def opening(connection: Connection, sku: str) -> Opening:
    """Where the books of the product begin."""
    found = connection.execute(text(_OPENING), {"sku": sku}).one_or_none()
    if found is None:
        return NOTHING_GONE
    version_number, position, recorded_at = found
    taken = connection.execute(text(_TAKEN), {"sku": sku})
    shipped = {row.batchref: row.shipped_quantity for row in taken}
    return Opening(version_number, shipped, position, as_moment(recorded_at))


def expired_holds(connection: Connection, moment: datetime, limit: int) -> list[tuple[str, datetime]]:
    """The open holds that ended by the moment, with their own, the longest over first."""
    at: object = moment
    if connection.dialect.name == "sqlite":  # which keeps moments as text, in UTC and whole seconds
        at = f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    rows = connection.execute(text(_EXPIRED_HOLDS), {"moment": at, "limit": limit})
    return [(holdid, as_moment(expires_at)) for holdid, expires_at in rows]


def is_ready(connection: Connection) -> bool:
    """Whether the database answers, with our tables in it."""
    connection.execute(text("SELECT 1 FROM products LIMIT 1"))
    return True


def with_parts(lines: Iterable[_Ordered], parts: Iterable[_Ordered]) -> list[_Ordered]:
    """Lines of an order, each followed by its later parts."""
    by_sku: defaultdict[str, list[_Ordered]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: part.part or 0):
        by_sku[part.sku].append(part)
    return [each for line in lines for each in (line, *by_sku[line.sku])]


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
_LINE_COLUMNS = "orderid, qty, position, batchref, closed, priority, need_by, expires_at"
_WAITING_LINES = (
    f"SELECT {_LINE_COLUMNS} FROM order_lines"  # noqa: S608 - a constant
    " WHERE sku = :sku AND batchref IS NULL AND closed IS NULL AND position > :after"
    " ORDER BY position"
)
_LINES = (
    f"SELECT {_LINE_COLUMNS} FROM order_lines"  # noqa: S608 - a constant
    " WHERE batchref = :ref AND position < :before ORDER BY position DESC"
)
_ORDERED = """
    SELECT orderid, line.sku, qty, batchref, closed, priority, need_by, expires_at, eta, part, rest
    FROM order_lines AS line LEFT JOIN batches ON ref = batchref
"""
_ORDER = f"{_ORDERED} WHERE orderid = :orderid AND line.sku > :after ORDER BY line.sku LIMIT :limit"
_PARTS = (
    text(f"{_ORDERED} WHERE orderid IN :orderids AND line.sku IN :skus AND part > 1")
    .bindparams(bindparam("orderids", expanding=True), bindparam("skus", expanding=True))
    .columns(eta=Date, need_by=Date)
)
_LIFE = f"""
    SELECT rules, (
        SELECT CAST(coalesce(sum(qty), 0) AS BIGINT) FROM order_lines
        WHERE order_lines.sku = products.sku AND closed IS NULL AND priority <> 0 AND priority = {HELD_PRIORITY}
    ), (
        SELECT count(*) FROM (
            SELECT 1 FROM order_lines AS line JOIN batches ON ref = batchref
            WHERE line.sku = :sku AND closed IS NULL AND need_by IS NOT NULL
                AND need_by < CASE WHEN eta > :today THEN eta ELSE :today END
            LIMIT :most
        ) AS late
    ) FROM products WHERE sku = :sku
"""  # noqa: S608 - a constant
_EXPIRED_HOLDS = (
    "SELECT orderid, expires_at FROM order_lines"
    " WHERE closed IS NULL AND expires_at IS NOT NULL AND expires_at <= :moment ORDER BY expires_at LIMIT :limit"
)
_OPENING = "SELECT version_number, position, recorded_at FROM openings WHERE sku = :sku"
_TAKEN = "SELECT batchref, shipped_quantity FROM batch_openings WHERE sku = :sku"
_MESSAGES = (
    "SELECT position, place, correlation_id, step, causation_step, type, sku, actor, recorded_at, body FROM messages"
)
_REST_OF_ROW = f"{_MESSAGES} WHERE position = :position AND place > :place ORDER BY place"


_DEAD_COLUMNS = "number, effect, sku, correlation_id, step, type, attempts, error, settled_at"
_DEAD_LETTERS = f"SELECT {_DEAD_COLUMNS} FROM deliveries"  # noqa: S608 - a constant
_DEAD_LETTER = f"""
    SELECT {_DEAD_COLUMNS}, body, stack, (
        SELECT causation_step FROM messages
        WHERE messages.correlation_id = deliveries.correlation_id AND messages.step = deliveries.step
    ) AS causation_step FROM deliveries
"""  # noqa: S608 - a constant


def _died(row: AnyRow) -> tuple[int, str, str, str, str, str, int, str, datetime]:
    number, effect, sku, correlation_id, step, type_, attempts, error, died_at, *_ = row
    id_ = message_id(correlation_id, step)
    return number, effect, sku, id_, correlation_id, type_, attempts, error, as_moment(died_at)


def as_moment(value: datetime | str) -> datetime:
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


def _page(connection: Connection, statement: str, limit: int, **values: Any) -> tuple[Sequence[AnyRow], bool]:
    """At most ``limit`` rows, and whether there are more."""
    rows = connection.execute(_typed(f"{statement} LIMIT :limit"), {**values, "limit": limit + 1}).all()
    return rows[:limit], len(rows) > limit


def _typed(statement: str) -> Executable:
    """The statement, told where it has days and moments: SQLite keeps them as text."""
    typed = text(statement)
    if ":in_the_warehouse" in statement:
        typed = typed.bindparams(bindparam("in_the_warehouse", date.min, Date))
    if ":today" in statement:
        typed = typed.bindparams(bindparam("today", type_=Date))
    days = {name: Date for name in ("eta", "expires_on", "need_by") if name in statement}
    return typed.columns(**days)


def today() -> date:
    """The day that stock in the warehouse is promised for."""
    return datetime.now(UTC).date()


def unusual(rules: Rules) -> dict[str, Any]:
    """Of rules that a product has of its own, the strategy and what else is not as usual; nothing of usual ones."""
    if rules == USUAL:
        return {}
    usual = asdict(USUAL)
    return {name: value for name, value in asdict(rules).items() if name == "strategy" or value != usual[name]}


def late_and_due(
    batchref: str | None, closed: str | None, need_by: date | None, eta: date | None, on: date | None = None
) -> tuple[date | None, int]:
    """The day an open line's stock is due, None if it is there or the line waits, and by how many days that is late.

    That is as of today, or as it was ``on`` a day.
    """
    if batchref is None or closed is not None:
        return None, 0
    day = stock_day(eta, on or today())
    return day if eta is not None else None, days_late(need_by, day)


def _promised(row: AnyRow) -> PromisedLine:
    orderid, sku, qty, batchref, closed, priority, need_by, expires_at, eta, part, rest = row
    is_later = part is not None and part > 1
    promised, late_days = late_and_due(batchref, closed, need_by, eta)
    return PromisedLine(
        sku,
        qty,
        batchref,
        state_of(batchref, closed, priority),
        promised,
        need_by,
        late_days,
        told_priority(priority),
        as_moment(expires_at) if expires_at is not None else None,
        rest or 0,
        orderid if is_later else None,
        part_of(orderid, part) if is_later else None,
    )


def _line(row: AnyRow, day: date | None) -> Line:
    """``day`` is that of its stock."""
    orderid, qty, position, batchref, closed, priority, need_by, expires_at = row
    return Line(
        orderid,
        qty,
        position,
        state_of(batchref, closed, priority),
        need_by,
        0 if closed else days_late(need_by, day),
        told_priority(priority),
        as_moment(expires_at) if expires_at is not None else None,
    )


def told_priority(priority: int) -> int:
    """What was asked for; that of a hold is none."""
    return max(0, own_priority(priority))


def _exists(connection: Connection, orderid: str) -> bool:
    statement = text("SELECT 1 FROM order_lines WHERE orderid = :orderid LIMIT 1")
    return connection.execute(statement, {"orderid": orderid}).first() is not None


def _summed(row: AnyRow) -> tuple[str, int, int, int, int]:
    sku, purchased, allocated, waiting_lines = row
    return sku, purchased, allocated, purchased - allocated, waiting_lines


def _recorded(row: AnyRow) -> RecordedEvent:
    position, _, correlation_id, step, causation_step, type_, sku, actor, recorded_at, body = row
    return RecordedEvent(
        position=position,
        id=message_id(correlation_id, step),
        correlation_id=correlation_id,
        causation_id=None if causation_step is None else message_id(correlation_id, causation_step),
        type=type_,
        sku=sku,
        actor=actor,
        recorded_at=as_moment(recorded_at),
        body=msgspec.Raw(body.encode()),
    )

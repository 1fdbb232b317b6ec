"""The messages of the ledger, and where the books begin that it tells."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, text

from allocation.domain.errors import UnknownMessage
from allocation.service_layer.messages import message_id, split_id
from allocation.service_layer.proving.books import NOTHING_GONE, Opening
from allocation.service_layer.writing.store import as_moment
from allocation.views.paging import DEFAULT_PAGE, AnyRow, page_of

MAX_STEP = 2**31 - 1


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


def events(
    connection: Connection,
    *,
    correlation_id: str | None = None,
    sku: str | None = None,
    orderid: str | None = None,
    after: int = 0,
    limit: int = DEFAULT_PAGE,
) -> Events:
    """A page of the ledger: all messages, or only those with the given values.

    A page never ends inside a position: it exceeds its limit by the remaining messages of its last position.
    """
    asked = {"correlation_id": correlation_id, "sku": sku, "orderid": orderid}
    values = {name: value for name, value in asked.items() if value is not None}
    conditions = " AND ".join(["position > :after", *(f"{name} = :{name}" for name in values)])
    # Within a correlation rows have the order of their steps, and its index is by step.
    order = "kept_step, place" if correlation_id is not None else "position, place"
    asked_for = f"{_MESSAGES} WHERE {conditions} ORDER BY {order}"
    page, more = page_of(connection, asked_for, limit, after=after, **values)
    rows = list(page)
    if more:
        last = rows[-1]
        rows += connection.execute(text(_REST_OF_ROW), {"position": last.position, "place": last.place})
        _, more = page_of(connection, asked_for, 0, after=last.position, **values)
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


def opening(connection: Connection, sku: str) -> Opening:
    """Where the books of the product begin."""
    found = connection.execute(text(_OPENING), {"sku": sku}).one_or_none()
    if found is None:
        return NOTHING_GONE
    version_number, position, recorded_at = found
    taken = connection.execute(text(_TAKEN), {"sku": sku})
    shipped = {row.batchref: row.shipped_quantity for row in taken}
    return Opening(version_number, shipped, position, as_moment(recorded_at))


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


_OPENING = "SELECT version_number, position, recorded_at FROM openings WHERE sku = :sku"
_TAKEN = "SELECT batchref, shipped_quantity FROM batch_openings WHERE sku = :sku"
_MESSAGES = (
    "SELECT position, place, correlation_id, step, causation_step, type, sku, actor, recorded_at, body FROM messages"
)
_REST_OF_ROW = f"{_MESSAGES} WHERE position = :position AND place > :place ORDER BY place"

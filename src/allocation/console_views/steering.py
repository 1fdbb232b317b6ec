"""What a change begins with, and what became of the lines that it touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Date, bindparam, text

from allocation import views
from allocation.console_views.stock import ORDERED, OrderedLine
from allocation.domain.errors import UnknownBatch, UnknownLine, UnknownSku
from allocation.domain.lines import ALLOCATED, WAITING, days_late
from allocation.domain.rules import Rules
from allocation.service_layer.messages import split_id
from allocation.service_layer.previewing.preview import LineChange

MOST_READ = 50_000  # messages of a cascade
MOST_AT_ONCE = 500  # lines that are looked up together


class BatchState(NamedTuple):
    """A batch as it is; ``quarantine`` is the reason, None: it may be sold."""

    ref: str
    sku: str
    eta: date | None
    purchased_quantity: int
    allocated_quantity: int
    shipped_quantity: int
    location: str | None
    expires_on: date | None
    quarantine: str | None


class Touched(NamedTuple):
    """The lines that a message changed; ``more``: it set off more messages than were read."""

    type: str
    fields: Mapping[str, Any]
    sku: str
    lines: Sequence[LineChange]
    more: bool


def batch_state(connection: Connection, ref: str) -> BatchState:
    """Raises `UnknownBatch`."""
    found = connection.execute(_BATCH, {"ref": ref}).one_or_none()
    if found is None:
        raise UnknownBatch(ref)
    return BatchState._make(found)


def line_state(connection: Connection, orderid: str, sku: str) -> OrderedLine:
    """Raises `UnknownLine`."""
    found = _line_states(connection, sku, [orderid]).get(orderid)
    if found is None:
        raise UnknownLine(orderid, sku)
    return found


def rules_of(connection: Connection, sku: str) -> Rules | None:
    """The product's own rules, None: the usual ones. Raises `UnknownSku`."""
    found = connection.execute(text("SELECT rules FROM products WHERE sku = :sku"), {"sku": sku}).one_or_none()
    if found is None:
        raise UnknownSku(sku)
    return None if found[0] is None else msgspec.json.decode(found[0], type=Rules)


def touched(connection: Connection, id_: str) -> Touched:
    """What became of lines by this message from outside, as a preview tells it; raises `UnknownMessage`.

    Who moved and which promises changed is what the ledger says; whether a line is late, and what it is, as it is now.
    """
    correlation_id, _ = split_id(id_)
    first = views.event(connection, correlation_id)
    rows = connection.execute(_CASCADE, {"correlation_id": correlation_id, "limit": MOST_READ + 1}).all()
    fields = msgspec.json.decode(first.body)
    ways = _ways(rows[:MOST_READ], fields.get("ref") or fields.get("batchref"))
    lines = _line_states(connection, first.sku, list(ways))
    etas = _etas(connection, ways.values())
    today = first.recorded_at.date()
    found = [(way, _change(lines[id_], way, etas, today)) for id_, way in ways.items() if id_ in lines]
    changes = [each for way, each in found if way.is_other or (each.start, each.before) != (each.end, each.after)]
    return Touched(first.type, fields, first.sku, changes, len(rows) > MOST_READ)


_BATCH = text(
    "SELECT ref, sku, eta, purchased_quantity, allocated_quantity, shipped_quantity, location, expires_on, quarantine"
    " FROM batches WHERE ref = :ref"
).columns(eta=Date, expires_on=Date)
_LINES = (
    text(f"{ORDERED} WHERE lines.sku = :sku AND lines.orderid IN :orderids")
    .bindparams(bindparam("orderids", expanding=True))
    .columns(eta=Date, need_by=Date)
)
_ETAS = (
    text("SELECT ref, eta FROM batches WHERE ref IN :refs")
    .bindparams(bindparam("refs", expanding=True))
    .columns(eta=Date)
)
_CASCADE = text(
    "SELECT type, body FROM messages WHERE correlation_id = :correlation_id ORDER BY kept_step, place LIMIT :limit"
)
_HERE, _ABOUT, _NOWHERE = "the batch of the message", "the batch that the cascade is about", "no batch"
# Of a line that a message is the first to tell of, where it stood; and where it stands after the message.
_ENDS = {
    "Allocated": (_NOWHERE, _HERE),
    "Backordered": (_NOWHERE, _NOWHERE),
    "Cancelled": (_HERE, _NOWHERE),
    "Deallocated": (_HERE, _NOWHERE),
    "Held": (_ABOUT, _HERE),
    "HoldEnded": (_ABOUT, _NOWHERE),
    "Returned": (_HERE, _HERE),
    "Shipped": (_HERE, _HERE),
}
_STAYING = {"Resized", "Pinned", "Split"}  # which say nothing of where the line stands
_ENDING = {"Cancelled", "HoldEnded", "Returned", "Shipped"}
_TELLING = {*_ENDS, *_STAYING, "PromiseChanged"}
_UNTOLD = ""  # where a line stood or stands, as far as the messages read say nothing of it


class _Way(NamedTuple):
    """A line's way through a cascade: where from and where to; the days it was promised for, if they changed.

    ``is_other``: it has another state or quantity, wherever it stands.
    """

    start: str | None = _UNTOLD
    end: str | None = _UNTOLD
    days: tuple[date | None, date | None] | None = None
    is_other: bool = False


def _step(way: _Way, type_: str, fields: Mapping[str, Any], about: str | None) -> _Way:
    """The way with one more message; ``about`` is the batch that the cascade is about."""
    ref = fields.get("batchref")
    if type_ == "PromiseChanged":
        before = way.days[0] if way.days else _day(fields["before"])
        return way._replace(days=(before, _day(fields["after"])))
    if type_ in _STAYING:
        return way._replace(is_other=True)
    start, end = _ENDS[type_]
    stood = {_HERE: ref, _ABOUT: about, _NOWHERE: None}
    return _Way(
        stood[start] if way.start == _UNTOLD else way.start,
        None if type_ == "Returned" and not fields["kept"] else stood[end],
        way.days,
        way.is_other or type_ in _ENDING,
    )


def _ways(rows: Iterable[Any], about: str | None) -> Mapping[str, _Way]:
    """The way of each line or hold, by its id, in the order first touched."""
    ways: dict[str, _Way] = {}
    for type_, body in rows:
        fields = msgspec.json.decode(body)
        if type_ in _TELLING and (id_ := fields.get("orderid") or fields.get("holdid")):
            ways[id_] = _step(ways.get(id_, _Way()), type_, fields, about)
            if type_ == "Split":  # what was cut off comes from where the line was
                ways[fields["next_part"]] = ways[id_]._replace(start=ways[id_].start or None)
    return ways


def _change(line: OrderedLine, way: _Way, etas: Mapping[str, date | None], today: date) -> LineChange:
    start, end = (line.batchref if ref == _UNTOLD else ref for ref in (way.start, way.end))
    days = [None if ref is None else etas.get(ref, line.eta) or today for ref in (start, end)]
    before, after = way.days or days
    late, was = days_late(line.need_by, after), WAITING if start is None else ALLOCATED
    return LineChange(line.orderid, line.sku, line.qty, start, end, before, after, late, line.state, was)


def _day(told: str | None) -> date | None:
    return None if told is None else date.fromisoformat(told)


def _line_states(connection: Connection, sku: str, orderids: Sequence[str]) -> Mapping[str, OrderedLine]:
    found: dict[str, OrderedLine] = {}
    for begin in range(0, len(orderids), MOST_AT_ONCE):
        asked = {"sku": sku, "orderids": orderids[begin : begin + MOST_AT_ONCE]}
        found |= {row.orderid: OrderedLine._make(row) for row in connection.execute(_LINES, asked)}
    return found


def _etas(connection: Connection, ways: Iterable[_Way]) -> Mapping[str, date | None]:
    refs = list({ref for way in ways for ref in (way.start, way.end) if ref})
    found: dict[str, date | None] = {}
    for begin in range(0, len(refs), MOST_AT_ONCE):
        rows = connection.execute(_ETAS, {"refs": refs[begin : begin + MOST_AT_ONCE]})
        found |= {row.ref: row.eta for row in rows}
    return found

"""The initial values of a change, and its effect on lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Date, bindparam, text

from allocation import views
from allocation.console_views.stock import ORDERED, OrderedLine
from allocation.domain.days import Calendar
from allocation.domain.errors import UnknownBatch, UnknownLine
from allocation.domain.events import Event
from allocation.domain.lines import Promise
from allocation.domain.rules import Rules
from allocation.domain.standing import STOCK
from allocation.service_layer.messages import recall, split_id
from allocation.service_layer.previewing.line_changes import Etas, Key, LineChange, keys_of, line_changes
from allocation.service_layer.proving.books import Books
from allocation.views.facts import batch_facts_before, line_facts_before
from allocation.views.look_alikes import unknown_sku

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
        raise unknown_sku(connection, sku)
    return None if found[0] is None else msgspec.json.decode(found[0], type=Rules)


def touched(connection: Connection, id_: str, calendar: Calendar) -> Touched:
    """The lines changed by this message from outside, in the form of a preview; raises `UnknownMessage`.

    Lines that were deleted since are missing.
    """
    correlation_id, _ = split_id(id_)
    first = views.event(connection, correlation_id)
    rows = connection.execute(_CASCADE, {"correlation_id": correlation_id, "limit": MOST_READ + 1}).all()
    told = [recall(type_, body) for type_, body in rows[:MOST_READ]]
    lines = _line_states(connection, first.sku, [orderid for orderid, _ in keys_of(told)])
    before = _before(connection, first.sku, lines, first.position)
    etas = _etas(connection, first.sku, first.position, told)
    changes = line_changes(told, before, *etas, calendar.at(first.recorded_at))
    kept = [change for change in changes if change.orderid in lines]
    return Touched(first.type, msgspec.json.decode(first.body), first.sku, kept, len(rows) > MOST_READ)


_BATCH = text(
    "SELECT ref, sku, eta, purchased_quantity, allocated_quantity, shipped_quantity, location, expires_on, quarantine"
    " FROM batches WHERE ref = :ref"
).columns(eta=Date, expires_on=Date)
_LINES = (
    text(f"{ORDERED} WHERE lines.sku = :sku AND lines.orderid IN :orderids")
    .bindparams(bindparam("orderids", expanding=True))
    .columns(eta=Date, need_by=Date)
)
_CASCADE = text(
    "SELECT type, body FROM messages WHERE correlation_id = :correlation_id ORDER BY kept_step, place LIMIT :limit"
)


def _line_states(connection: Connection, sku: str, orderids: Sequence[str]) -> Mapping[str, OrderedLine]:
    found: dict[str, OrderedLine] = {}
    for begin in range(0, len(orderids), MOST_AT_ONCE):
        asked = {"sku": sku, "orderids": orderids[begin : begin + MOST_AT_ONCE]}
        found |= {row.orderid: OrderedLine._make(row) for row in connection.execute(_LINES, asked)}
    return found


def _before(connection: Connection, sku: str, lines: Mapping[str, OrderedLine], position: int) -> Mapping[Key, Promise]:
    """The lines as they were before that position of the ledger."""
    found: dict[Key, Promise] = {}
    for orderid, facts in groupby(line_facts_before(connection, sku, list(lines), position), key=attrgetter("orderid")):
        books, booked = Books(sku), None
        for fact in facts:
            booked = books.book(fact, booked)
        if booked is not None:
            line, batchref, closed = booked.promise
            found[orderid, sku] = Promise(replace(line, need_by=lines[orderid].need_by), batchref, closed)
    return found


def _etas(connection: Connection, sku: str, position: int, told: Iterable[Event]) -> tuple[Etas, Etas]:
    """The ETA of each batch before and after that position of the ledger."""
    books = Books(sku)
    for fact in batch_facts_before(connection, sku, position):
        books.book(fact)
    before = {ref: batch.eta for ref, batch in books.batches.items()}
    for event in told:
        if type(event) in STOCK:
            STOCK[type(event)](books, event)
    return before, {ref: batch.eta for ref, batch in books.batches.items()}

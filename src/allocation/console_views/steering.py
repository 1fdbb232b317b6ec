"""The initial values of a change, and its effect on lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Date, bindparam, text

from allocation import views
from allocation.console_views.stock import ORDERED, OrderedLine
from allocation.console_views.stock_then import stock_around
from allocation.domain.days import Calendar
from allocation.domain.errors import UnknownBatch, UnknownDelivery, UnknownLine
from allocation.domain.events import Event
from allocation.domain.lines import NO_DAY, Promise, Today
from allocation.domain.rules import Rules
from allocation.domain.standing import STOCK
from allocation.domain.stock import Stock
from allocation.service_layer.messages import recall, split_id
from allocation.service_layer.previewing.line_changes import Key, LineChange, keys_of, line_changes
from allocation.service_layer.previewing.stock_changes import StockChange
from allocation.service_layer.proving.books import Books, Fact
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
    delivery: str | None
    arrived_quantity: int | None
    inspect_quantity: int

    @property
    def is_due(self) -> bool:
        return self.eta is not None

    @property
    def shown_eta(self) -> date | None:
        """The day it is due; None: it is not due, or on no known day."""
        return None if self.eta == NO_DAY else self.eta

    @property
    def due(self) -> int:
        """The quantity still due."""
        return self.purchased_quantity - self.arrived

    @property
    def arrived(self) -> int:
        """The purchased quantity that has arrived, with the shipped quantity."""
        return (self.arrived_quantity or 0) if self.is_due else self.purchased_quantity

    @property
    def on_hand(self) -> int:
        """The quantity in the warehouse, with the goods in inspection."""
        return self.arrived - self.shipped_quantity + self.inspect_quantity


class Touched(NamedTuple):
    """The lines and batches that a message changed; ``more``: it set off more messages than were read.

    ``stock`` is None if too many messages led there and followed, or some were deleted.
    """

    type: str
    fields: Mapping[str, Any]
    sku: str
    lines: Sequence[LineChange]
    stock: Sequence[StockChange] | None
    more: bool


def batch_state(connection: Connection, ref: str) -> BatchState:
    """Raises `UnknownBatch`."""
    found = connection.execute(_BATCH, {"ref": ref}).one_or_none()
    if found is None:
        raise UnknownBatch(ref)
    return BatchState._make(found)


def delivered(connection: Connection, delivery: str) -> Sequence[BatchState]:
    """The batches of a delivery, by SKU; raises `UnknownDelivery`."""
    found = [BatchState._make(row) for row in connection.execute(_DELIVERED, {"delivery": delivery})]
    if not found:
        raise UnknownDelivery(delivery)
    return found


def locations(connection: Connection, sku: str) -> Sequence[str]:
    """The warehouses of a product's batches."""
    return connection.execute(_LOCATIONS, {"sku": sku}).scalars().all()


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
    """The changes by this message from outside, in the form of a preview; raises `UnknownMessage`.

    Lines that were deleted since are missing.
    """
    correlation_id, _ = split_id(id_)
    first = views.event(connection, correlation_id)
    rows = connection.execute(_CASCADE, {"correlation_id": correlation_id, "limit": MOST_READ + 1}).all()
    by_sku: dict[str, list[Fact]] = {}
    for row in rows[:MOST_READ]:
        by_sku.setdefault(row.sku, []).append(Fact._make(row))
    today = calendar.at(first.recorded_at)
    lines: list[LineChange] = []
    stock: list[StockChange] | None = []
    for sku, facts in by_sku.items():
        lines += _lines_touched(connection, sku, facts, first.position, today)
        changed = stock_around(connection, sku, facts, today)
        stock = None if stock is None or changed is None else [*stock, *changed]
    return Touched(first.type, msgspec.json.decode(first.body), first.sku, lines, stock, len(rows) > MOST_READ)


_STATES = (
    "SELECT ref, sku, eta, purchased_quantity, allocated_quantity, shipped_quantity, location, expires_on, quarantine,"
    " delivery, arrived_quantity, inspect_quantity FROM batches"
)
_BATCH = text(f"{_STATES} WHERE ref = :ref").columns(eta=Date, expires_on=Date)
_DELIVERED = text(f"{_STATES} WHERE delivery = :delivery ORDER BY sku, ref").columns(eta=Date, expires_on=Date)
_LOCATIONS = text("SELECT DISTINCT location FROM batches WHERE sku = :sku AND location IS NOT NULL ORDER BY location")
_LINES = (
    text(f"{ORDERED} WHERE lines.sku = :sku AND lines.orderid IN :orderids")
    .bindparams(bindparam("orderids", expanding=True))
    .columns(eta=Date, need_by=Date)
)
_CASCADE = text(
    "SELECT position, sku, type, orderid, body FROM messages WHERE correlation_id = :correlation_id"
    " ORDER BY kept_step, place LIMIT :limit"
)


def _lines_touched(
    connection: Connection, sku: str, facts: Sequence[Fact], position: int, today: Today
) -> Sequence[LineChange]:
    """The lines of a product that these facts changed."""
    told = [recall(fact.type, fact.body) for fact in facts]
    lines = _line_states(connection, sku, [orderid for orderid, _ in keys_of(told)])
    before = _before(connection, sku, lines, position)
    changes = line_changes(told, before, *_batches(connection, sku, position, told), today)
    return [change for change in changes if change.orderid in lines]


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


def _batches(
    connection: Connection, sku: str, position: int, told: Iterable[Event]
) -> tuple[Mapping[str, Stock], Mapping[str, Stock]]:
    """The batches before and after that position of the ledger, without the quantities that their lines have."""
    books = Books(sku)
    for fact in batch_facts_before(connection, sku, position):
        books.book(fact)
    before = {ref: copy(batch) for ref, batch in books.batches.items()}
    for event in told:
        if type(event) in STOCK:
            STOCK[type(event)](books, event)
    return before, books.batches

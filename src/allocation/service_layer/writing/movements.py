"""By how much the stock on hand of a batch changed since a time, from the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from allocation.domain.events import Event, Returned, Shipped
from allocation.domain.standing import STOCK
from allocation.service_layer.messages import encode
from allocation.service_layer.proving.books import Books, Fact
from allocation.service_layer.writing.ledger import unfold
from allocation.service_layer.writing.store import MessageRow, Session, TimedRow


def moved_since(session: Session, sku: str, ref: str, moment: datetime) -> int:
    """The receipts, adjustments and returns less the shipments after that moment, as far as they are stored."""
    return _arrived_since(session, sku, ref, moment) - _shipped_since(session, sku, ref, moment)


def _arrived_since(session: Session, sku: str, ref: str, moment: datetime) -> int:
    """The change by facts about stock: they are few, and only all of them together say how much has arrived.

    A batch that was entered after that moment was there as it was entered.
    """
    books = Books(sku)
    before = None
    for row in session.stock_told(sku):
        for event in _told(row):
            if before is None and row.recorded_at > moment:
                before = _on_hand(books, ref)
            if type(event) in STOCK:
                books.book(Fact(row.position, sku, type(event).__name__, None, encode(event)))
    return 0 if before is None else (_on_hand(books, ref) or 0) - before


def _shipped_since(session: Session, sku: str, ref: str, moment: datetime) -> int:
    """The quantity shipped with lines, less returns: the ledger is read backwards as far as that moment."""
    shipped = 0
    position = None
    while rows := session.told_before(sku, position):
        for row in rows:
            if row.recorded_at <= moment:
                return shipped
            for event in _told(row):
                match event:
                    case Shipped(batchref=batchref, qty=qty) if batchref == ref:
                        shipped += qty
                    case Returned(batchref=batchref, qty=qty) if batchref == ref:
                        shipped -= qty
        position = rows[-1].position
    return shipped


def _on_hand(books: Books, ref: str) -> int | None:
    """The arrived quantity of the batch, with the shipped quantity; None: it was not entered yet."""
    batch = books.batches.get(ref)
    return None if batch is None else batch.arrived_quantity + batch.inspect_quantity


def _told(row: TimedRow) -> Iterator[Event]:
    kept = MessageRow("", 0, None, row.type, "", None, row.body, row.facts, None, "")
    return (event for _, event in unfold(kept))

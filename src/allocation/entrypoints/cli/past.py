"""``allocation at TIME show``: a product, an order or a batch as it was, from the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date, datetime

from sqlalchemy import Connection

from allocation import views
from allocation.adapters.history import line_positions, order_facts, product_facts, sku_of_batch
from allocation.config import Settings
from allocation.domain.errors import LedgerBeginsLater
from allocation.domain.events import Held, Split
from allocation.domain.lines import HELD_PRIORITY, state_of
from allocation.entrypoints.cli.exits import DONE, UsageError, complain, log_to_stderr
from allocation.entrypoints.cli.reading import read
from allocation.entrypoints.cli.showing import Found, print_found
from allocation.entrypoints.refusals import EXIT_UNKNOWN
from allocation.service_layer.books import BookedBatch, BookedLine
from allocation.service_layer.history import PastProduct, past_order
from allocation.service_layer.messages import recall


def show_past(settings: Settings, time: str, name: str, *, as_json: bool) -> int:
    """Print what the name named at that time; return the exit code."""
    log_to_stderr()
    moment = parse_moment(time)
    found = asyncio.run(read(settings, find_past, name, moment))
    if found == Found():
        complain(
            f"{name}: unknown at {moment.isoformat()}",
            "It named no product, no batch and no order then, or only lines that were removed since.",
        )
        return EXIT_UNKNOWN
    print_found(name, found, as_json=as_json)
    return DONE


def parse_moment(time: str) -> datetime:
    """A moment in ISO 8601 with its offset from UTC. Raises `UsageError`."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise UsageError(
            f"{time!r} is no time", "Write it as in 2026-01-31T12:00Z or 2026-01-31T12:00+01:00."
        ) from None
    if moment.tzinfo is None:
        raise UsageError(
            f"{time!r} does not say which time zone it is in",
            f"Write {moment.isoformat()}Z for UTC, or the offset from it as in {moment.isoformat()}+01:00.",
        )
    return moment


def find_past(connection: Connection, name: str, moment: datetime) -> Found:
    """Everything that had the name."""
    found = Found()
    product = _past(connection, name, moment)
    if product.books.batches:
        found.product = _product(product)
    sku = sku_of_batch(connection, name)
    if sku is not None:
        product = _past(connection, sku, moment)
        if name in product.books.batches:
            found.batch = _batch(product, name)
    found.order = [line for _, lines in sorted(_order(connection, name, moment).items()) for line in lines]
    return found


def _order(connection: Connection, orderid: str, moment: datetime) -> Mapping[str, list[views.PromisedLine]]:
    """An order's lines by SKU, each with the parts that follow it."""
    facts = list(order_facts(connection, orderid, moment))
    held = {fact.sku for fact in facts if fact.type == Held.__name__}
    order = {
        sku: [views.PromisedLine(sku, line.qty, line.batchref, _state(line, held=sku in held))]
        for sku, line in past_order(facts).items()
    }
    for fact in facts:
        if isinstance(cut := recall(fact.type, fact.body), Split):
            order[fact.sku][0].rest = cut.rest
            order[fact.sku] += _later_parts(connection, cut, orderid, moment)
    return order


def _later_parts(connection: Connection, cut: Split, orderid: str, moment: datetime) -> list[views.PromisedLine]:
    parts = _order(connection, cut.next_part, moment).get(cut.sku)
    if parts is None:  # it was closed, and has gone
        return []
    first, *others = parts
    first.orderid, first.part_of = cut.next_part, orderid
    for each in others:
        each.part_of = orderid
    return [first, *others]


def _past(connection: Connection, sku: str, moment: datetime) -> PastProduct:
    """The product then. Raises `LedgerBeginsLater`."""
    opening = views.opening(connection, sku)
    if opening.recorded_at is None:
        return PastProduct(sku, product_facts(connection, sku, moment))
    if moment < opening.recorded_at:
        raise LedgerBeginsLater(sku, opening.recorded_at)
    product = PastProduct(sku, product_facts(connection, sku, moment, opening.position), opening)
    product.positions |= line_positions(connection, sku, list(product.lines))  # which the ledger told by what is gone
    return product


def _state(line: BookedLine, *, held: bool) -> str:
    return state_of(line.batchref, line.closed, HELD_PRIORITY if held else 0)


def _product(product: PastProduct) -> views.ProductDetail:
    batches = sorted(product.books.batches.items(), key=lambda each: (each[1].eta or date.min, each[1].position))
    purchased = sum(batch.purchased_quantity for _, batch in batches)
    allocated = sum(batch.allocated_quantity for _, batch in batches)
    waiting = _lines(product, None)
    return views.ProductDetail(
        product.sku,
        purchased,
        allocated,
        purchased - allocated,
        len(waiting),
        [views.StockedBatch(ref, *_stock(batch)) for ref, batch in batches],
        None,
        waiting,
        None,
    )


def _batch(product: PastProduct, ref: str) -> views.BatchDetail:
    newest_first = _lines(product, ref)[::-1]
    stock = _stock(product.books.batches[ref])
    return views.BatchDetail(ref, *stock, sku=product.sku, lines=newest_first, next_before=None)


def _stock(batch: BookedBatch) -> tuple[date | None, int, int, int, int, int, None, None, str | None]:
    available = batch.purchased_quantity - batch.allocated_quantity
    on_hand = batch.purchased_quantity - batch.shipped_quantity if batch.eta is None else 0
    numbers = (batch.purchased_quantity, batch.allocated_quantity, available, batch.shipped_quantity, on_hand)
    return batch.eta, *numbers, None, None, batch.quarantine


def _lines(product: PastProduct, ref: str | None) -> list[views.Line]:
    return [
        views.Line(orderid, line.qty, product.positions[orderid], _state(line, held=orderid in product.holds))
        for orderid, line in product.lines_on(ref)
    ]

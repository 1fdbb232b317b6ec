"""A product, an order or a batch as it was at a moment, replayed from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection

from allocation.domain.days import UTC_DAYS, Calendar
from allocation.domain.errors import LedgerBeginsLater
from allocation.domain.figures import figures, in_sum, is_expired
from allocation.domain.lines import NO_DAY, PART_MARK, Promise, Today, is_late, late_by, part_of, state_of
from allocation.domain.rules import USUAL, Rules
from allocation.domain.stock import Stock
from allocation.service_layer.proving.books import Fact, Opening, PastProduct, parts_cut_off, past_order
from allocation.views.facts import (
    batch_facts,
    line_positions,
    order_facts,
    product_facts,
    sku_of_batch,
    were_inbound,
)
from allocation.views.ledger import opening
from allocation.views.lines import Line, PromisedLine, lateness, told_priority
from allocation.views.named import Found
from allocation.views.paging import MAX_COUNTED
from allocation.views.stock import BatchDetail, ProductDetail, StockedBatch, unusual


def find_past(
    connection: Connection,
    name: str,
    moment: datetime,
    usual_rules: Rules = USUAL,
    calendar: Calendar = UTC_DAYS,
) -> Found:
    """Everything that had the name at that moment. Raises `LedgerBeginsLater`."""
    found = Found()
    today = calendar.at(moment)
    product = past_product(connection, name, moment)
    if product.books.batches:
        found.product = _product(product, today, usual_rules)
    sku = sku_of_batch(connection, name)
    if sku is not None:
        product = past_product(connection, sku, moment)
        if name in product.books.batches:
            found.batch = _batch(product, name, today)
    found.order = _order(connection, name, moment, today)
    return found


def past_product(connection: Connection, sku: str, moment: datetime) -> PastProduct:
    """The product at that moment. Raises `LedgerBeginsLater`."""
    begins = opening(connection, sku)
    if begins.recorded_at is not None and moment < begins.recorded_at:
        raise LedgerBeginsLater(sku, begins.recorded_at)
    return replayed(connection, sku, product_facts(connection, sku, moment, begins.position), begins)


def replayed(connection: Connection, sku: str, facts: Iterable[Fact], begins: Opening) -> PastProduct:
    """The product after these facts. Where lines were deleted, the positions of the others are read from storage."""
    product = PastProduct(sku, facts, begins)
    if begins.recorded_at is not None:
        product.set_positions(line_positions(connection, sku, list(product.lines)))
    return product


def rules_of(product: PastProduct, usual_rules: Rules) -> Rules:
    """The rules that the product had."""
    return usual_rules if product.books.rules is None else Rules.of(product.books.rules, usual_rules)


def _product(product: PastProduct, today: Today, usual_rules: Rules) -> ProductDetail:
    batches = sorted(product.books.batches.values(), key=lambda batch: (batch.eta or date.min, batch.position))
    waiting = [_line(promise, None, today) for promise in product.lines_on(None)]
    still_open = [promise for promise in product.lines.values() if promise.closed is None]
    rules = rules_of(product, usual_rules)
    return ProductDetail(
        product.sku,
        *in_sum(figures(batch, today) for batch in batches),
        len(waiting),
        product.books.retired,
        [StockedBatch(batch.reference, *_stock(batch, today)) for batch in batches],
        None,
        waiting,
        None,
        {} if rules is usual_rules else unusual(rules),
        sum(promise.line.qty for promise in still_open if promise.line.expires_at is not None),
        min(sum(_is_late(product, promise, today) for promise in still_open), MAX_COUNTED),
    )


def _is_late(product: PastProduct, promise: Promise, today: Today) -> bool:
    batch = product.books.batches.get(promise.batchref or "")
    day = None if batch is None else batch.source_of(promise.line).day(today)
    return is_late(promise.line.need_by, day, today)


def _batch(product: PastProduct, ref: str, today: Today) -> BatchDetail:
    batch = product.books.batches[ref]
    newest_first = [
        _line(promise, batch.source_of(promise.line).day(today), today) for promise in product.lines_on(ref)[::-1]
    ]
    return BatchDetail(ref, *_stock(batch, today), sku=product.sku, lines=newest_first, next_before=None)


def _stock(batch: Stock, today: Today) -> tuple[Any, ...]:
    """The values of a `StockedBatch` after its reference."""
    is_unknown = batch.eta == NO_DAY
    return (
        None if is_unknown else batch.eta,
        *figures(batch, today),
        batch.location,
        batch.expires_on,
        batch.quarantine,
        is_expired(batch.expires_on, today),
        is_unknown,
        batch.delivery,
        batch.inspect_quantity,
    )


def _line(promise: Promise, day: date | None, today: Today) -> Line:
    """``day`` is that of its stock, None while it waits."""
    line, batchref, closed = promise
    return Line(
        line.orderid,
        line.qty,
        line.position,
        state_of(batchref, closed, line.priority),
        line.need_by,
        0 if closed else late_by(line.need_by, day, today),
        told_priority(line.priority),
        line.expires_at,
        closed is None and is_late(line.need_by, day, today),
    )


def _order(connection: Connection, orderid: str, moment: datetime, today: Today) -> list[PromisedLine]:
    """An order's lines by SKU, each with the parts that follow it."""
    lines = past_order(_facts_of(connection, orderid, moment))
    own = {sku: promise for (sku, name), promise in lines.items() if name == orderid}
    wanted: list[Promise] = []
    for sku, promise in sorted(own.items()):
        wanted.append(promise)
        if promise.line.part == 1:
            others = [part for (of, _), part in lines.items() if of == sku and part.line.part > 1]
            parts = [part for part in others if part_of(part.line.orderid, part.line.part) == orderid]
            wanted += sorted(parts, key=lambda part: part.line.part)
    batches = _batches(connection, wanted, moment)
    return [_promised(promise, batches.get(promise.batchref or ""), today) for promise in wanted]


def _facts_of(connection: Connection, orderid: str, moment: datetime) -> list[Fact]:
    """The facts of an order's lines, and of the parts into which they were split."""
    whole, _, number = orderid.rpartition(PART_MARK)
    names = [whole, orderid] if whole and number.isdecimal() else [orderid]
    facts = []
    for name in names:  # which become more
        found = list(order_facts(connection, name, moment))
        names += [part for part in parts_cut_off(found) if part not in names]
        facts += found
    return sorted(facts, key=attrgetter("position"))


def _batches(connection: Connection, lines: Iterable[Promise], moment: datetime) -> Mapping[str, Stock]:
    """Their batches, without the quantities of lines, for batches that were inbound at some time."""
    inbound = were_inbound(connection, {promise.batchref for promise in lines if promise.batchref is not None})
    books = {sku: PastProduct(sku, batch_facts(connection, sku, moment)).books for sku in set(inbound.values())}
    return {ref: books[sku].batches[ref] for ref, sku in inbound.items()}


def _promised(promise: Promise, batch: Stock | None, today: Today) -> PromisedLine:
    line, batchref, closed = promise
    is_later = line.part > 1
    eta = None if batch is None else batch.source_of(line).eta
    found = lateness(batchref, closed, line.need_by, eta, today)
    return PromisedLine(
        line.sku,
        line.qty,
        batchref,
        state_of(batchref, closed, line.priority),
        found.due,
        line.need_by,
        found.late_days,
        told_priority(line.priority),
        line.expires_at,
        line.rest,
        line.orderid if is_later else None,
        part_of(line.orderid, line.part) if is_later else None,
        found.late,
        found.eta_unknown,
    )

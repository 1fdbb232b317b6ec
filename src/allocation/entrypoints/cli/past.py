"""``allocation at TIME show``: a product, an order or a batch as it was, from the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection

from allocation import views
from allocation.adapters.history import (
    batch_facts,
    line_positions,
    order_facts,
    product_facts,
    sku_of_batch,
    were_inbound,
)
from allocation.bootstrap import usual_rules_of
from allocation.config import Settings
from allocation.domain.errors import LedgerBeginsLater
from allocation.domain.lines import PART_MARK, days_late, part_of, state_of, stock_day
from allocation.domain.rules import USUAL, Rules
from allocation.entrypoints.cli.exits import DONE, UsageError, complain, log_to_stderr
from allocation.entrypoints.cli.reading import read
from allocation.entrypoints.cli.showing import Found, print_found
from allocation.entrypoints.refusals import EXIT_UNKNOWN
from allocation.service_layer.proving.books import BookedBatch, BookedLine, Fact
from allocation.service_layer.proving.history import PastProduct, parts_cut_off, past_order


def show_past(settings: Settings, time: str, name: str, *, as_json: bool) -> int:
    """Print what the name named at that time; return the exit code."""
    log_to_stderr()
    moment = parse_moment(time)
    found = asyncio.run(read(settings, find_past, name, moment, usual_rules_of(settings)))
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


def find_past(connection: Connection, name: str, moment: datetime, usual_rules: Rules = USUAL) -> Found:
    """Everything that had the name."""
    found = Found()
    day = moment.astimezone(UTC).date()
    product = _past(connection, name, moment)
    if product.books.batches:
        found.product = _product(product, day, usual_rules)
    sku = sku_of_batch(connection, name)
    if sku is not None:
        product = _past(connection, sku, moment)
        if name in product.books.batches:
            found.batch = _batch(product, name, day)
    found.order = _order(connection, name, moment)
    return found


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


def _product(product: PastProduct, day: date, usual_rules: Rules) -> views.ProductDetail:
    batches = sorted(product.books.batches.items(), key=lambda each: (each[1].eta or date.min, each[1].position))
    purchased = sum(batch.purchased_quantity for _, batch in batches)
    allocated = sum(batch.allocated_quantity for _, batch in batches)
    waiting = _lines(product, None, None)
    still_open = [line for line in product.lines.values() if line.closed is None]
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
        _rules(product, usual_rules),
        sum(line.qty for line in still_open if line.expires_at is not None),
        min(sum(_is_late(product, line, day) for line in still_open), views.MAX_COUNTED),
    )


def _rules(product: PastProduct, usual_rules: Rules) -> dict[str, Any]:
    if product.books.rules is None:
        return {}
    rules = Rules.of(product.books.rules, usual_rules)
    return {} if rules is usual_rules else views.unusual(rules)


def _is_late(product: PastProduct, line: BookedLine, day: date) -> bool:
    batch = product.books.batches.get(line.batchref or "")
    return batch is not None and days_late(line.terms.need_by, stock_day(batch.eta, day)) > 0


def _batch(product: PastProduct, ref: str, day: date) -> views.BatchDetail:
    batch = product.books.batches[ref]
    newest_first = _lines(product, ref, stock_day(batch.eta, day))[::-1]
    return views.BatchDetail(ref, *_stock(batch), sku=product.sku, lines=newest_first, next_before=None)


def _stock(batch: BookedBatch) -> tuple[date | None, int, int, int, int, int, str | None, date | None, str | None]:
    available = batch.purchased_quantity - batch.allocated_quantity
    on_hand = batch.purchased_quantity - batch.shipped_quantity if batch.eta is None else 0
    numbers = (batch.purchased_quantity, batch.allocated_quantity, available, batch.shipped_quantity, on_hand)
    return batch.eta, *numbers, batch.location, batch.expires_on, batch.quarantine


def _lines(product: PastProduct, ref: str | None, day: date | None) -> list[views.Line]:
    """``day`` is that of their stock."""
    return [
        views.Line(
            orderid,
            line.qty,
            product.positions[orderid],
            state_of(line.batchref, line.closed, line.priority),
            line.terms.need_by,
            0 if line.closed else days_late(line.terms.need_by, day),
            views.told_priority(line.priority),
            line.expires_at,
        )
        for orderid, line in product.lines_on(ref)
    ]


def _order(connection: Connection, orderid: str, moment: datetime) -> list[views.PromisedLine]:
    """An order's lines by SKU, each with the parts that follow it."""
    lines = past_order(_facts_of(connection, orderid, moment))
    own = {sku: line for (sku, name), line in lines.items() if name == orderid}
    wanted = []
    for sku, line in sorted(own.items()):
        wanted.append((sku, orderid, line))
        if line.terms.part == 1:
            parts = [(sku, name, part) for (of, name), part in lines.items() if of == sku and part.terms.part > 1]
            wanted += sorted(parts, key=lambda each: each[2].terms.part)
    etas = _etas(connection, [line for *_, line in wanted], moment)
    day = moment.astimezone(UTC).date()
    return [_promised(sku, name, line, etas.get(line.batchref or ""), day) for sku, name, line in wanted]


def _facts_of(connection: Connection, orderid: str, moment: datetime) -> list[Fact]:
    """What happened to the lines of an order, and to the parts that they are or were split into."""
    whole, _, number = orderid.rpartition(PART_MARK)
    names = [whole, orderid] if whole and number.isdecimal() else [orderid]
    facts = []
    for name in names:  # which become more
        found = list(order_facts(connection, name, moment))
        names += [part for part in parts_cut_off(found) if part not in names]
        facts += found
    return sorted(facts, key=attrgetter("position"))


def _etas(connection: Connection, lines: Iterable[BookedLine], moment: datetime) -> Mapping[str, date | None]:
    """The days that their batches were due, of those that were bought inbound."""
    inbound = were_inbound(connection, {line.batchref for line in lines if line.batchref is not None})
    books = {sku: PastProduct(sku, batch_facts(connection, sku, moment)).books for sku in set(inbound.values())}
    return {ref: books[sku].batches[ref].eta for ref, sku in inbound.items()}


def _promised(sku: str, orderid: str, line: BookedLine, eta: date | None, day: date) -> views.PromisedLine:
    is_later = line.terms.part > 1
    promised, late_days = views.late_and_due(line.batchref, line.closed, line.terms.need_by, eta, day)
    return views.PromisedLine(
        sku,
        line.qty,
        line.batchref,
        state_of(line.batchref, line.closed, line.priority),
        promised,
        line.terms.need_by,
        late_days,
        views.told_priority(line.priority),
        line.expires_at,
        line.rest,
        orderid if is_later else None,
        part_of(orderid, line.terms.part) if is_later else None,
    )

"""The stock of batches just before and just after a message of the ledger.

If few messages of the product lead there, they are replayed. Otherwise the stock as it is now is counted back over the
lines that changed since, if these are few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Text, bindparam, text

from allocation.domain.events import AllocatedQuantityRepaired, ShippedQuantityRepaired
from allocation.domain.lines import SHIPPED, Today
from allocation.domain.stock import Stock
from allocation.service_layer.messages import recall
from allocation.service_layer.previewing.stock_changes import StockChange, named_batches, stock_changes
from allocation.service_layer.proving.books import Books, Fact
from allocation.views import opening
from allocation.views.explain import MAX_REPLAYED
from allocation.views.facts import LedgerPlace, batch_facts_before, facts_before, line_facts_before
from allocation.views.past import replayed

MAX_SINCE = 10_000  # messages of a product, this one included
MOST_AT_ONCE = 500  # lines that are looked up together
_REPAIRS = {AllocatedQuantityRepaired.__name__, ShippedQuantityRepaired.__name__}

Held = Counter[tuple[str, bool]]  # the quantity that lines have, by batch and by whether it was shipped


def stock_around(connection: Connection, sku: str, facts: Sequence[Fact], today: Today) -> Sequence[StockChange] | None:
    """The batches of a product that these facts of one message name, before and after all of them.

    None if too many messages led there and followed, or some were deleted.
    """
    begins = opening(connection, sku)
    first = facts[0].position
    if first <= begins.position:
        return None
    named = named_batches(recall(fact.type, fact.body) for fact in facts)
    earlier = facts_before(connection, sku, LedgerPlace(first, 0), MAX_REPLAYED + 1)
    if len(earlier) > MAX_REPLAYED:
        return _counted_back(connection, sku, facts, named, today)
    past = replayed(connection, sku, earlier, begins)
    before = {ref: deepcopy(batch) for ref, batch in past.books.batches.items() if ref in named}
    past.book(facts)
    return stock_changes(named, before, past.books.batches, today)


def _counted_back(
    connection: Connection, sku: str, facts: Sequence[Fact], named: Sequence[str], today: Today
) -> Sequence[StockChange] | None:
    first, last = facts[0].position, max(fact.position for fact in facts)
    since = connection.execute(_SINCE, {"sku": sku, "position": first, "most": MAX_SINCE + 1}).all()
    if len(since) > MAX_SINCE or any(row.type in _REPAIRS for row in since):
        return None
    orderids = list(dict.fromkeys(row.orderid for row in since if row.orderid is not None))
    stored, now = _stored(connection, sku, named), _held_now(connection, sku, orderids)
    books = Books(sku)

    def at(position: int) -> Mapping[str, Stock]:
        batches = {ref: books.batches[ref] for ref in named if ref in books.batches}
        return _with_counters(batches, stored, now, _held_before(connection, sku, orderids, position))

    for fact in batch_facts_before(connection, sku, first):
        books.book(fact)
    before = at(first)
    for fact in facts:
        if fact.orderid is None:
            books.book(fact)
    return stock_changes(named, before, at(last + 1), today)


def _with_counters(
    batches: Mapping[str, Stock], stored: Mapping[str, tuple[int, int]], now: Held, held: Held
) -> Mapping[str, Stock]:
    """The batches with the counters that they had when their lines had that much."""
    found = {}
    for ref, batch in batches.items():
        allocated, shipped = stored[ref]
        shipped += held[ref, True] - now[ref, True]
        allocated += held[ref, True] + held[ref, False] - now[ref, True] - now[ref, False]
        found[ref] = deepcopy(batch)
        found[ref].correct(allocated=allocated, shipped=shipped)
    return found


def _stored(connection: Connection, sku: str, refs: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """The allocated quantity, shipped stock included, and the shipped quantity of batches, as they are now."""
    rows = connection.execute(_COUNTERS, {"sku": sku, "refs": list(refs)})
    return {ref: (allocated, shipped) for ref, allocated, shipped in rows}


def _held_now(connection: Connection, sku: str, orderids: Sequence[str]) -> Held:
    held: Held = Counter()
    for begin in range(0, len(orderids), MOST_AT_ONCE):
        asked = {"sku": sku, "orderids": orderids[begin : begin + MOST_AT_ONCE]}
        for qty, batchref, closed in connection.execute(_HELD, asked):
            held[batchref, closed == SHIPPED] += qty
    return held


def _held_before(connection: Connection, sku: str, orderids: Sequence[str], position: int) -> Held:
    held: Held = Counter()
    lines: Iterable[Any] = line_facts_before(connection, sku, orderids, position)
    for _, facts in groupby(lines, key=attrgetter("orderid")):
        books, booked = Books(sku), None
        for fact in facts:
            booked = books.book(fact, booked)
        if booked is not None and booked.promise.batchref is not None:
            held[booked.promise.batchref, booked.promise.closed == SHIPPED] += booked.line.qty
    return held


_SINCE = text("SELECT type, orderid FROM messages WHERE sku = :sku AND position >= :position LIMIT :most")
_COUNTERS = text(
    "SELECT ref, allocated_quantity, shipped_quantity FROM batches WHERE sku = :sku AND ref IN :refs"
).bindparams(bindparam("refs", type_=Text, expanding=True))
_HELD = text(
    "SELECT qty, batchref, closed FROM order_lines WHERE sku = :sku AND orderid IN :orderids AND batchref IS NOT NULL"
).bindparams(bindparam("orderids", type_=Text, expanding=True))

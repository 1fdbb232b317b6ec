"""Random events of every kind, about few products, batches, orders and holds, so that they meet."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from allocation.domain import events, fields
from allocation.domain.events import Event
from allocation.service_layer.messages import EVENTS, incoming_types
from tests.lives import by_fields

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TODAY = NOW.date()

SKUS = st.sampled_from(["POSTER", "POSTER", "POSTER", "FORK"])
REFS = st.sampled_from([f"b{number}" for number in range(1, 7)])
ORDERS = st.sampled_from([f"o{number}" for number in range(1, 13)] + ["o1/2", "o2/2", "o2/3"])
HOLDS = st.sampled_from([f"h{number}" for number in range(1, 4)])
QUANTITIES = st.integers(1, 8)
DAYS: st.SearchStrategy[date] = st.sampled_from([TODAY + timedelta(days=days) for days in (1, 5, 10, 20)])
MOMENTS = st.sampled_from([NOW + timedelta(minutes=minutes) for minutes in (-1, 5, 60)])
LOCATIONS = st.sampled_from([None, "north", "south"])
DELIVERIES = st.sampled_from(["PO-1", "PO-2"])  # each of several products
SELDOM = st.sampled_from([None, None, None, None, "damp"])
COUNTED = st.none() | st.sampled_from([NOW - timedelta(days=1), NOW - timedelta(minutes=1), NOW])

BATCHES = st.builds(
    events.BatchCreated,
    *(REFS, SKUS, st.integers(1, 20), st.none() | DAYS, st.none() | DAYS, LOCATIONS, st.none() | DELIVERIES, SELDOM),
)
WHOLE = st.builds(events.AllocationRequired, ORDERS, SKUS, QUANTITIES, st.none() | DAYS, st.sampled_from([0, 0, 0, 5]))
SPLIT = st.builds(
    events.AllocationRequired, ORDERS, SKUS, st.integers(1, 30), st.none() | DAYS, st.just(0), st.just(True)
)
LINES = st.one_of(WHOLE, WHOLE, SPLIT)
FIELDS: dict[type[Event], tuple[st.SearchStrategy[Any], ...]] = {
    events.BatchQuantityChanged: (REFS, st.integers(0, 12)),
    events.BatchEtaChanged: (REFS, DAYS),
    events.BatchReceived: (
        REFS,
        st.none() | st.integers(0, 12),
        st.sampled_from([fields.EXPECTED, fields.EXPECTED, fields.CLOSED]),
        st.none() | st.none() | DAYS,
        SELDOM,
    ),
    events.ReceiptUndone: (REFS, st.none() | st.integers(1, 5)),
    events.DeliveryEtaChanged: (DELIVERIES, DAYS),
    events.DeliveryReceived: (DELIVERIES,),
    events.BatchCounted: (REFS, st.integers(0, 12), st.none(), COUNTED),
    events.StockAdjusted: (REFS, st.sampled_from([-5, -1, 2]), st.just("broken")),
    events.BatchCorrected: (
        *(REFS, st.none() | DAYS, st.none() | DAYS, LOCATIONS, st.none() | DELIVERIES),
        st.sampled_from([None, None, None, *fields.CLEARABLE]),
    ),
    events.StockTransferred: (
        REFS,
        st.sampled_from(["north", "south"]),
        st.none() | st.integers(1, 5),
        st.none() | REFS,
        st.none() | DAYS,
        st.booleans(),
    ),
    events.ProductRetired: (SKUS,),
    events.ProductReinstated: (SKUS,),
    events.BatchQuarantined: (REFS, st.just("damp"), st.booleans()),
    events.BatchReleased: (REFS,),
    events.AllocationCancelled: (ORDERS, SKUS),
    events.LineQuantityChanged: (ORDERS, SKUS, QUANTITIES),
    events.LineShipped: (ORDERS, SKUS),
    events.LineReturned: (
        *(ORDERS, SKUS, st.none() | QUANTITIES, st.just(False)),
        st.sampled_from([None, fields.STOCK, fields.INSPECT, fields.SCRAP]),
    ),
    events.LinePinned: (ORDERS, SKUS, REFS, st.just("asked for")),
    events.StockHeld: (HOLDS, SKUS, QUANTITIES, MOMENTS),
    events.HoldConfirmed: (HOLDS, ORDERS),
    events.HoldReleased: (HOLDS,),
    events.HoldExpired: (HOLDS,),
    events.RulesChanged: (
        SKUS,
        st.sampled_from([None, *fields.STRATEGIES]),
        LOCATIONS,
        st.sampled_from([0, 0, 3]),
        st.sampled_from([0, 0, 4]),
        st.sampled_from([None, None, 2]),
        st.sampled_from([None, None, 3]),
        st.sampled_from([0, 7]),
        st.sampled_from([None, None, 1]),
        st.sampled_from([False, False, True]),
        st.sampled_from([False, True]),
    ),
    events.MoveUpRequired: (SKUS,),
    events.RepairRequired: (SKUS,),
}
# An event without a row of its own is made field by field, so a new kind is played with from its first day.
NAMED = {
    "sku": ["POSTER", "FORK"],
    "ref": [f"b{number}" for number in range(1, 7)],
    "batchref": [f"b{number}" for number in range(1, 7)],
    "orderid": [f"o{number}" for number in range(1, 13)],
    "holdid": ["h1", "h2", "h3"],
}
DICE = st.builds(random.Random, st.integers(0, 2**32))


def _of_kind(kind: type[Event]) -> st.SearchStrategy[Event]:
    if kind in FIELDS:
        return st.builds(kind, *FIELDS[kind])
    return st.builds(lambda dice: by_fields(kind, dice, NAMED), DICE)


ALLOCATIONS = {events.BatchCreated, events.AllocationRequired}
CHANGES = st.one_of(*(_of_kind(EVENTS[name]) for name in incoming_types() if EVENTS[name] not in ALLOCATIONS))
BEGINNING: st.SearchStrategy[list[Event]] = st.lists(st.one_of(BATCHES, LINES, LINES), min_size=4, max_size=14)
TROUBLE: st.SearchStrategy[list[Event]] = st.lists(st.one_of(CHANGES, CHANGES, BATCHES, LINES), min_size=3, max_size=8)

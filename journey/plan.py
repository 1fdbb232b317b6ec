"""What a shop with these order lines would have bought, and all of it as events. Nothing here is left to chance.

Every product gets stock for its orders, mostly in the warehouse, the rest inbound; of the popular ones too little is
bought, and a part of that late, when lines wait already.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

SEED = 2017
NEW_YEAR = date(2017, 1, 1)
POPULAR_SHARE = 0.001  # of the products, by number of lines, and at least one
REORDERED_LINES = 100  # from so many on, a product is bought more than once
SPARE = 1.1  # of what is ordered of a product that is not popular
POPULAR_STOCK = 0.80  # of what is ordered of them
LATE = 0.75  # of the lines have come when the late batches do

Event = dict[str, Any]


class Line(NamedTuple):
    """One product of one basket."""

    orderid: str
    sku: str
    qty: int


class Stock(NamedTuple):
    """A batch to buy."""

    ref: str
    sku: str
    qty: int
    eta: date | None


def merged(lines: Iterable[Line]) -> list[Line]:
    """One line per basket and product, in the order first seen, with a quantity of at least 1."""
    quantities: dict[tuple[str, str], int] = {}
    for orderid, sku, qty in lines:
        key = (orderid, sku)
        quantities[key] = quantities.get(key, 0) + max(qty, 0)
    return [Line(orderid, sku, max(qty, 1)) for (orderid, sku), qty in quantities.items()]


def events(lines: Sequence[Line]) -> Iterator[Event]:
    """Batches first, then the lines in their order, and three quarters through the late batches."""
    early, late = _stock(lines)
    yield from map(_batch_created, early)
    turn = int(len(lines) * LATE)
    yield from map(_allocation_required, lines[:turn])
    yield from map(_batch_created, late)
    yield from map(_allocation_required, lines[turn:])


def write(path: Path, some: Iterable[Event]) -> int:
    """Write the events as JSON lines; return how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, event in enumerate(some, 1):  # noqa: B007 - wanted after the loop
            file.write(f"{json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n")
    return count


def _stock(lines: Iterable[Line]) -> tuple[list[Stock], list[Stock]]:
    """The batches bought before the first order, and those bought late."""
    random = Random(SEED)
    demand: Counter[str] = Counter()
    popularity: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    for line in lines:
        demand[line.sku] += line.qty
        popularity[line.sku] += 1
        largest[line.sku] = max(largest[line.sku], line.qty)
    popular = {sku for sku, _ in popularity.most_common(max(1, int(len(popularity) * POPULAR_SHARE)))}
    early: list[Stock] = []
    late: list[Stock] = []
    for sku in demand:
        if sku in popular:
            *bought, last = _split(sku, int(demand[sku] * POPULAR_STOCK), (0.5, 0.25, 0.15, 0.1), random)
            early += bought
            late.append(last)
        else:  # room for the largest line, for a line goes whole into one batch
            once = popularity[sku] < REORDERED_LINES and random.random() < 0.7
            early += _split(sku, int(demand[sku] * SPARE) + largest[sku], (1.0,) if once else (0.6, 0.4), random)
    return early, late


def _split(sku: str, qty: int, shares: Sequence[float], random: Random) -> list[Stock]:
    """The first in the warehouse, three times out of four; all others inbound."""
    batches = []
    for number, share in enumerate(shares, 1):
        here = number == 1 and random.random() < 0.75
        eta = None if here else NEW_YEAR + timedelta(days=random.randrange(7, 365))
        batches.append(Stock(f"{sku}/{number}", sku, max(1, round(qty * share)), eta))
    return batches


def _batch_created(stock: Stock) -> Event:
    eta = stock.eta and stock.eta.isoformat()
    return {"type": "BatchCreated", "ref": stock.ref, "sku": stock.sku, "qty": stock.qty, "eta": eta}


def _allocation_required(line: Line) -> Event:
    return {"type": "AllocationRequired", "orderid": line.orderid, "sku": line.sku, "qty": line.qty}

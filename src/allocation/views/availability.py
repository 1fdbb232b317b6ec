"""Availability: the quantity that can be promised now and by day. Reads only batches with free stock, by their index.

It follows the rules of allocation: a whole line from one batch, no stock that is in quarantine or expires too early,
and the safety stock is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Date, bindparam, text

from allocation.domain.errors import InvalidMessage
from allocation.domain.figures import figures
from allocation.domain.lines import NO_DAY, Fit, OrderLine, Today
from allocation.domain.rules import USUAL, Choice, Room, Rules
from allocation.domain.stock import Source, Stock, sources_of
from allocation.domain.waiting import fits_into
from allocation.views import MAX_PAGE
from allocation.views.look_alikes import unknown_sku

MAX_SKUS = 100


class Promisable(msgspec.Struct):
    """The quantity that can be promised for that day: all stock that has arrived and not expired by then."""

    date: date
    quantity: int


class Availability(msgspec.Struct):
    """The quantities of a product that can be promised now and by day, over all its batches.

    ``available_quantity`` is that of the product: the stock that is neither allocated nor blocked, on hand or incoming,
    with the part that the rules keep back.
    ``earliest`` is the first day for a whole line of ``qty``, null if no batch has enough stock; ``can_promise`` says
    whether that is in time for ``by``. Both are null without ``qty``.
    """

    sku: str
    available_now: int
    timeline: list[Promisable]
    earliest: date | None
    can_promise: bool | None
    available_quantity: int


class Availabilities(msgspec.Struct):
    """Several products, in the order asked for; ``unknown`` are the SKUs that no batch was ever bought of."""

    products: list[Availability]
    unknown: list[str]


def availability(
    connection: Connection, sku: str, today: Today, *, qty: int | None = None, by: date | None = None
) -> Availability:
    """The availability of a product; raises `UnknownSku`."""
    found = availabilities(connection, today, sku=[sku], qty=qty, by=by)
    if not found.products:
        raise unknown_sku(connection, sku)
    return found.products[0]


def availabilities(
    connection: Connection, today: Today, *, sku: Sequence[str] = (), qty: int | None = None, by: date | None = None
) -> Availabilities:
    """The availability of several products; raises `InvalidMessage` for none, or more than `MAX_SKUS`."""
    if not 1 <= len(sku) <= MAX_SKUS:
        raise InvalidMessage(f"{len(sku)} SKUs are asked about", f"Ask about 1 to {MAX_SKUS} with sku.")
    if by is not None and qty is None:
        raise InvalidMessage("by is given without qty", "Give the quantity that is needed by then as qty.")
    rows = connection.execute(_STOCK, {"skus": list(sku)}).all()
    found = {
        name: _availability(connection, name, list(stock), today, qty, by)
        for name, stock in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0))
    }
    asked = dict.fromkeys(sku)
    return Availabilities(
        [found[name] for name in asked if name in found], [name for name in asked if name not in found]
    )


_STOCK = (
    text("""
    SELECT products.sku, rules, ref, eta, expires_on, purchased_quantity, allocated_quantity,
        arrived_quantity, arrived_allocated, shipped_quantity, version_number
    FROM products LEFT JOIN batches ON batches.sku = products.sku AND has_room AND quarantine IS NULL
    WHERE products.sku IN :skus
""")
    .bindparams(bindparam("skus", expanding=True))
    .columns(eta=Date, expires_on=Date)
)


_OLDEST_WAITING = text("""
    SELECT orderid, qty, need_by, priority, position FROM order_lines
    WHERE sku = :sku AND batchref IS NULL AND closed IS NULL AND (part IS NULL OR rest IS NOT NULL)
    AND qty <= :qty AND (need_by IS NULL OR need_by <= :day) ORDER BY position LIMIT :most
""").columns(need_by=Date)


def _oldest_waiting(connection: Connection, sku: str, fits: Sequence[Fit]) -> OrderLine | None:
    """The oldest line that waits whole and fits; looked for among the first few."""
    asked = {"sku": sku, "qty": fits[0].qty, "day": fits[-1].day.isoformat(), "most": MAX_PAGE}
    if connection.dialect.name != "sqlite":
        asked["day"] = fits[-1].day
    for row in connection.execute(_OLDEST_WAITING, asked):
        line = OrderLine(row.orderid, sku, row.qty, row.position, row.need_by, row.priority)
        if fits_into(line, fits):
            return line
    return None


def _availability(
    connection: Connection, sku: str, rows: Sequence[Any], today: Today, qty: int | None, by: date | None
) -> Availability:
    stored = rows[0][1]
    rules = USUAL if stored is None else msgspec.json.decode(stored, type=Rules)
    batches = [_batch(row) for row in rows if row.ref is not None]
    sources = sources_of(batches)
    choice = Choice(sources, rules, today, Room(sources))
    if rules.ages_after:
        choice.keep(lambda fits: _oldest_waiting(connection, sku, fits), rows[0].version_number)
    sellable = [source for source, obstacle in choice.candidates(OrderLine("", sku, 0)) if not obstacle]
    timeline = _timeline(choice, sellable, rules.safety_stock, today)
    earliest = None if qty is None else _earliest(choice, OrderLine("", sku, qty), today)
    can_promise = None if qty is None else earliest is not None
    if qty is not None and by is not None:
        can_promise = choice.on_time(OrderLine("", sku, qty, need_by=by)) is not None
    available = sum(figures(batch, today).available_quantity for batch in batches)
    now = _now(sellable, rules.safety_stock)
    return Availability(sku, now, timeline[:MAX_PAGE], earliest, can_promise, available)


def _batch(row: Any) -> Stock:
    arrived = None if row.arrived_quantity is None else (row.arrived_quantity, row.arrived_allocated)
    bought = (row.ref, row.sku, row.purchased_quantity, row.eta)
    return Stock(
        *bought,
        expires_on=row.expires_on,
        allocated_quantity=row.allocated_quantity,
        shipped_quantity=row.shipped_quantity,
        arrived=arrived,
    )


def _now(sources: Iterable[Source], safety_stock: int) -> int:
    in_stock = sum(source.available_quantity for source in sources if source.eta is None)
    return max(0, in_stock - safety_stock)


def _timeline(choice: Choice[Source], sources: Sequence[Source], safety_stock: int, today: Today) -> list[Promisable]:
    """Quantities by day, from today on. An overdue delivery counts for the first day that it is promised for."""
    in_stock, incoming = Counter({today.day: 0}), Counter[date]()
    for source in sources:
        change = in_stock if source.eta is None else incoming
        quantity = source.available_quantity - (source.arrived.available_quantity if source.arrived else 0)
        change[source.day(today)] += quantity
        last = choice.last_day(source)
        if last is not None and last < date.max:
            change[last + timedelta(days=1)] -= quantity
    days = sorted((in_stock.keys() | incoming.keys()) - {NO_DAY})
    sums = accumulate(in_stock[day] for day in days), accumulate(incoming[day] for day in days)
    return [Promisable(day, max(0, stock - safety_stock) + due) for day, stock, due in zip(days, *sums, strict=True)]


def _earliest(choice: Choice[Source], line: OrderLine, today: Today) -> date | None:
    """The first day that is known, if there is one."""
    days = (source.day(today) for source, obstacle in choice.candidates(line) if not obstacle and source.eta != NO_DAY)
    return min(days, default=None)

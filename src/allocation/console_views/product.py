"""Everything that the page of a product shows, read at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from allocation import views
from allocation.console_views import ledger, steering, stock
from allocation.domain.lines import Today
from allocation.domain.rules import Rules
from allocation.views.availability import Promisable, availability
from allocation.views.figures import Total, totals_of


class ProductLook(NamedTuple):
    """A product; ``rules`` are its own, None: the usual ones. ``promisable`` is by day, from today on."""

    product: views.ProductDetail
    stock: Total
    promisable: Sequence[Promisable]
    late: Sequence[stock.LateLine]
    holds: Sequence[stock.Hold]
    rules: Rules | None
    history: ledger.LedgerPage


def look(
    connection: Connection, sku: str, today: Today, *, batches_after: str, waiting_after: int, before: int
) -> ProductLook:
    """Raises `UnknownSku`."""
    found = views.product(
        connection, sku, today, batches_after=batches_after, waiting_after=waiting_after, limit=stock.PAGE
    )
    return ProductLook(
        found,
        totals_of(connection, [sku], today).get(sku, Total()),
        availability(connection, sku, today).timeline,
        stock.late_lines(connection, sku, today) if found.late_lines else (),
        stock.holds(connection, sku) if found.held_quantity else (),
        steering.rules_of(connection, sku),
        ledger.latest(connection, sku=sku, before=before, limit=ledger.HISTORY),
    )

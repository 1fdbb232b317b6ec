"""Look-up by name: a product, a batch, an order, or several of them."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from sqlalchemy import Connection

from allocation.domain.errors import UnknownBatch, UnknownOrder, UnknownSku
from allocation.domain.fields import cleaned
from allocation.domain.lines import Today
from allocation.views.lines import PromisedLine, allocations
from allocation.views.paging import MAX_PAGE
from allocation.views.stock import BatchDetail, ProductDetail, batch, product


class Found(msgspec.Struct, omit_defaults=True):
    """Everything with the name; None or no lines: there is nothing of that kind."""

    product: ProductDetail | None = None
    batch: BatchDetail | None = None
    order: list[PromisedLine] = []


def find(connection: Connection, name: str, today: Today) -> Found:
    """Everything that has the name as it is given; if nothing has, as names are written now."""
    found = _find(connection, name, today)
    return found if found != Found() or cleaned(name) == name else _find(connection, cleaned(name), today)


def _find(connection: Connection, name: str, today: Today) -> Found:
    found = Found()
    with suppress(UnknownSku):
        found.product = product(connection, name, today)
    with suppress(UnknownBatch):
        found.batch = batch(connection, name, today)
    with suppress(UnknownOrder):
        found.order = allocations(connection, name, today, limit=MAX_PAGE)
    return found

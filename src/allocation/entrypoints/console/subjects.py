"""The subject of a change: its page, and its present values for the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from allocation import views
from allocation.console_views import steering
from allocation.domain.errors import UnknownBatch, UnknownOrder, UnknownSku
from allocation.domain.rules import Rules
from allocation.entrypoints.console.changes import Change
from allocation.entrypoints.console.pages import Console
from allocation.entrypoints.parameters import Text

MOST_SUGGESTED = 100
_REF, _ORDERID, _SKU = Text("ref", "The batch"), Text("orderid", "The order"), Text("sku", "The product")
_PRODUCTS, _ORDERS = ("Products", "products", None), ("Orders", "orders", None)

Crumb = tuple[str, str, str | None]


class Subject(NamedTuple):
    """The subject of a change. ``crumbs`` lead to it; ``now`` has the initial values of its form.

    ``suggested`` has values that a field may take, by its name.
    """

    sku: str
    crumbs: Sequence[Crumb]
    now: Mapping[str, str]
    suggested: Mapping[str, Sequence[str]]

    @property
    def home(self) -> Crumb:
        """The page about it."""
        return self.crumbs[-1]


async def subject_of(console: Console, change: Change, texts: Mapping[str, str]) -> Subject:
    """Raises the refusal for an unknown subject."""
    match change.place:
        case "batches":
            return await _batch(console, texts)
        case "orders":
            return await _line(console, texts)
    return await _product(console, texts)


async def _batch(console: Console, texts: Mapping[str, str]) -> Subject:
    ref = _REF.parse_or(UnknownBatch, texts.get("ref", ""))
    batch = await console.service.reader.run(steering.batch_state, ref)
    now = {"qty": str(batch.purchased_quantity), "eta": batch.eta.isoformat() if batch.eta else ""}
    crumbs = [_PRODUCTS, (batch.sku, "products", batch.sku), (ref, "batches", ref)]
    return Subject(batch.sku, crumbs, now, {})


async def _line(console: Console, texts: Mapping[str, str]) -> Subject:
    orderid = _ORDERID.parse_or(UnknownOrder, texts.get("orderid", ""))
    sku = _SKU.parse_or(UnknownSku, texts.get("sku", ""))
    line = await console.service.reader.run(steering.line_state, orderid, sku)
    product = await console.service.reader.run(views.product, sku, console.service.today(), limit=MOST_SUGGESTED)
    refs = [batch.batchref for batch in product.batches]
    return Subject(sku, [_ORDERS, (orderid, "orders", orderid)], {"qty": str(line.qty)}, {"batchref": refs})


async def _product(console: Console, texts: Mapping[str, str]) -> Subject:
    sku = _SKU.parse_or(UnknownSku, texts.get("sku", ""))
    rules = await console.service.reader.run(steering.rules_of, sku)
    return Subject(sku, [_PRODUCTS, (sku, "products", sku)], _texts(rules), {})


def _texts(rules: Rules | None) -> Mapping[str, str]:
    """The rules as a form has them: empty where they are as usual."""
    if rules is None:
        return {}
    usual = Rules()
    named = {name: getattr(rules, name) for name in Rules.__slots__}
    return {
        name: "true" if value is True else str(value)
        for name, value in named.items()
        if value != getattr(usual, name) or name == "strategy"
    }

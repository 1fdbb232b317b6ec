"""The subject of a change: its page, and its present values for the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from allocation import views
from allocation.console_views import steering
from allocation.domain.errors import UnknownBatch, UnknownDelivery, UnknownOrder, UnknownSku
from allocation.domain.events import (
    BatchCorrected,
    BatchCounted,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    ReceiptUndone,
    StockAdjusted,
    StockTransferred,
)
from allocation.domain.rules import Rules
from allocation.entrypoints.console.changes import Change
from allocation.entrypoints.console.pages import Console
from allocation.entrypoints.parameters import Text

MOST_SUGGESTED = 100
_REF, _DELIVERY = Text("ref", "The batch"), Text("delivery", "The delivery")
_ORDERID, _SKU = Text("orderid", "The order"), Text("sku", "The product")
_PRODUCTS, _ORDERS = ("Products", "products", None), ("Orders", "orders", None)

Crumb = tuple[str, str, str | None]


class Subject(NamedTuple):
    """The subject of a change. ``crumbs`` lead to it; ``now`` has the initial values of its form.

    ``suggested`` has values that a field may take, and ``beside`` the present value shown beside it, both by its name.
    ``sku`` is None for a delivery, whose ``batches`` may be of several products.
    """

    sku: str | None
    crumbs: Sequence[Crumb]
    now: Mapping[str, str]
    suggested: Mapping[str, Sequence[str]]
    beside: Mapping[str, str] = {}
    batches: Sequence[steering.BatchState] = ()

    @property
    def home(self) -> Crumb:
        """The page about it."""
        return self.crumbs[-1]

    def among(self, versions: Mapping[str, int]) -> Mapping[str, int]:
        """The versions of its product, or of its products."""
        return versions if self.sku is None else {self.sku: versions[self.sku]}


async def subject_of(console: Console, change: Change, texts: Mapping[str, str]) -> Subject:
    """Raises the refusal for an unknown subject."""
    match change.place:
        case "batches":
            return await _batch(console, change, texts)
        case "deliveries":
            return await _delivery(console, texts)
        case "orders":
            return await _line(console, texts)
    return await _product(console, texts)


async def _batch(console: Console, change: Change, texts: Mapping[str, str]) -> Subject:
    ref = _REF.parse_or(UnknownBatch, texts.get("ref", ""))
    reader = console.service.reader
    batch = await reader.run(steering.batch_state, ref)
    suggested: dict[str, Sequence[str]] = {}
    if change.kind is StockTransferred:
        suggested["to_location"] = await reader.run(steering.locations, batch.sku)
    elif change.kind in {BatchCounted, StockAdjusted}:
        suggested["reason"] = console.service.settings.reasons
    crumbs = [_PRODUCTS, (batch.sku, "products", batch.sku), (ref, "batches", ref)]
    return Subject(batch.sku, crumbs, _now(change, batch), suggested, _beside(change, batch))


def _now(change: Change, batch: steering.BatchState) -> Mapping[str, str]:
    """The initial values of the form."""
    if change.kind is BatchQuantityChanged:
        return {"qty": str(batch.purchased_quantity + batch.inspect_quantity)}
    if change.kind is BatchEtaChanged:
        return {"eta": batch.shown_eta.isoformat() if batch.shown_eta else ""}
    return {}


def _beside(change: Change, batch: steering.BatchState) -> Mapping[str, str]:
    """The present values, as sentences."""
    on_hand = f"On hand as known: {batch.on_hand:,}."
    due_on = f"Now {batch.shown_eta or ('day unknown' if batch.is_due else 'in the warehouse')}."
    if change.kind is BatchReceived:
        return {"qty": f"Still due: {batch.due:,}.", "rest_eta": due_on}
    if change.kind is ReceiptUndone:
        return {"qty": f"Arrived and not shipped: {batch.arrived - batch.shipped_quantity:,}."}
    if change.kind is BatchCorrected:
        texts = {"expires_on": batch.expires_on, "location": batch.location, "delivery": batch.delivery}
        return {"eta": due_on, **{name: f"Now {value or 'none'}." for name, value in texts.items()}}
    if change.kind is StockTransferred:
        return {"to_location": f"Now {batch.location or 'none'}.", "qty": on_hand, "eta": due_on}
    return {"on_hand": on_hand, "by": on_hand}


async def _delivery(console: Console, texts: Mapping[str, str]) -> Subject:
    delivery = _DELIVERY.parse_or(UnknownDelivery, texts.get("delivery", ""))
    batches = await console.service.reader.run(steering.delivered, delivery)
    first = batches[0]
    crumbs = [_PRODUCTS, (first.sku, "products", first.sku), (first.ref, "batches", first.ref)]
    days = {batch.shown_eta for batch in batches if batch.is_due}
    now = {"eta": day.isoformat() if len(days) == 1 and (day := days.pop()) else ""}
    return Subject(None, crumbs, now, {}, batches=batches)


async def _line(console: Console, texts: Mapping[str, str]) -> Subject:
    orderid = _ORDERID.parse_or(UnknownOrder, texts.get("orderid", ""))
    sku = _SKU.parse_or(UnknownSku, texts.get("sku", ""))
    line = await console.service.reader.run(steering.line_state, orderid, sku)
    product = await console.service.reader.run(views.product, sku, console.service.today(), limit=MOST_SUGGESTED)
    refs = [batch.batchref for batch in product.batches]
    qty = f"Now {line.qty:,}."
    return Subject(
        sku, [_ORDERS, (orderid, "orders", orderid)], {"qty": str(line.qty)}, {"batchref": refs}, {"qty": qty}
    )


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

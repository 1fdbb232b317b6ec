"""The use cases, one function each, and the tables that say what the system does.

A handler takes ``(event, uow)`` and changes state inside the unit of work. An effect takes the event, and the port
it needs; it touches the outside world, so it runs after the commit, at least once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from allocation.domain import events, model
from allocation.domain.errors import InvalidSku, UnknownBatch, UnknownSku
from allocation.domain.model import OrderLine
from allocation.service_layer.unit_of_work import AbstractUnitOfWork

STOCK_TEAM = "stock@made.com"


class Notifications(Protocol):
    """Tells people something; raises when it could not."""

    def send_mail(self, to: str, subject: str) -> None:
        """Hand the mail over to whoever delivers it."""


def add_batch(event: events.BatchCreated, uow: AbstractUnitOfWork) -> str:
    """Take bought stock in; lines that wait for it are called."""
    with uow:
        batch = model.Batch(event.ref, event.sku, event.qty, event.eta)
        product = uow.products.get_by_batchref(batchref=event.ref) or uow.products.get(sku=event.sku)
        if product is None:
            product = model.Product(event.sku, batches=[])
            uow.products.add(product)
        product.add_batch(batch)
        uow.commit()
    return batch.reference


def allocate(event: events.AllocationRequired, uow: AbstractUnitOfWork) -> str | None:
    """Promise a line from a batch, or let it wait."""
    line = OrderLine(event.orderid, event.sku, event.qty)
    with uow:
        product = uow.products.get(sku=line.sku)
        if product is None:
            raise InvalidSku(line.sku)
        batchref = product.allocate(line)
        uow.commit()
    return batchref


def change_batch_quantity(event: events.BatchQuantityChanged, uow: AbstractUnitOfWork) -> str:
    """Accept a new count of a batch; lines that no longer fit are freed and called again."""
    with uow:
        product = uow.products.get_by_batchref(batchref=event.ref)
        if product is None:
            raise UnknownBatch(event.ref)
        product.change_batch_quantity(ref=event.ref, qty=event.qty)
        uow.commit()
    return event.ref


def repair_counters(event: events.RepairRequired, uow: AbstractUnitOfWork) -> str:
    """Count a product's counters again, from its lines; promises stay as they are."""
    with uow:
        product = uow.products.get(sku=event.sku)
        if product is None:
            raise UnknownSku(event.sku)
        product.repair_counters()
        uow.commit()
    return event.sku


def send_out_of_stock_notification(event: events.OutOfStock, notifications: Notifications) -> None:
    """Tell the stock team that a line waits."""
    notifications.send_mail(STOCK_TEAM, f"Out of stock for {event.sku}")


Handler = Callable[[Any, AbstractUnitOfWork], Any]
Effect = Callable[..., None]

HANDLERS: Mapping[type[events.Event], Sequence[Handler]] = {
    events.BatchCreated: [add_batch],
    events.AllocationRequired: [allocate],
    events.BatchQuantityChanged: [change_batch_quantity],
    events.RepairRequired: [repair_counters],
    events.Allocated: [],
    events.Deallocated: [],
    events.Backordered: [],
    events.OutOfStock: [],
    events.AllocatedQuantityRepaired: [],
    events.WaitingLinesRepaired: [],
}

RAISES: Mapping[Handler, frozenset[type[events.Event]]] = {
    add_batch: frozenset({events.AllocationRequired}),
    allocate: frozenset({events.Allocated, events.Backordered, events.OutOfStock}),
    change_batch_quantity: frozenset({events.Deallocated, events.AllocationRequired}),
    repair_counters: frozenset({events.AllocatedQuantityRepaired, events.WaitingLinesRepaired}),
}

EFFECTS: Mapping[type[events.Event], Sequence[Effect]] = {
    events.OutOfStock: [send_out_of_stock_notification],
}

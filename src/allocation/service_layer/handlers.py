"""The use cases, one function each, and the tables that connect them with events.

A handler takes ``(event, uow)`` and changes state inside the unit of work. An effect takes the event and its ports, and
the ``message_id`` of the event if it asks for that. It touches the outside world, so it runs after the commit, at least
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from allocation.domain import events, model
from allocation.domain.errors import (
    BatchConflict,
    DeliveryArrived,
    FarDay,
    HoldConflict,
    InvalidMessage,
    InvalidSku,
    SolverMissing,
    UnknownBatch,
    UnknownDelivery,
    UnknownHold,
    UnknownLine,
    UnknownSku,
)
from allocation.domain.fields import SCRAP, STOCK
from allocation.domain.harm import MissingSolver
from allocation.domain.lines import HELD_PRIORITY, NO_DAY, SHIPPED, Promise
from allocation.domain.model import OrderLine, Product
from allocation.domain.standing import transferred_as
from allocation.service_layer.unit_of_work import AbstractUnitOfWork


class Mail(NamedTuple):
    """A mail to addresses separated by commas. A repeat of it has the same ``id``."""

    to: str
    subject: str
    text: str
    id: str


class Notifications(Protocol):
    """Notifies people. An error means that the notification was not sent."""

    def send_mail(self, to: str, subject: str, text: str = "", id_: str = "") -> None:
        """Send the mail, or raise an error. Without a text, its text is the subject."""


class StockTeam(Protocol):
    """The people who buy stock, and how they are informed."""

    def mail(self, sku: str, message_id: str) -> Mail | None:
        """The mail about a product that is out of stock, caused by this message; None: no mail is sent now."""


def add_batch(event: events.BatchCreated, uow: AbstractUnitOfWork) -> str:
    """Add bought stock and give it to backorders."""
    if event.eta is not None and event.eta_unknown:
        raise InvalidMessage(f"eta is {event.eta}, and eta_unknown is true", "Leave out one of them.")
    if event.eta == NO_DAY:
        raise FarDay("eta", event.eta)
    with uow:
        batch = model.Batch.bought(event)
        product = uow.products.get_by_batchref(batchref=event.ref) or uow.products.get(sku=event.sku)
        if product is None:
            product = model.Product(event.sku, batches=[])
            uow.products.add(product)
        product.add_batch(batch)
        uow.commit()
    return batch.reference


def allocate(event: events.AllocationRequired, uow: AbstractUnitOfWork) -> str | list[dict[str, Any]] | None:
    """Allocate an order line to a batch, or to several if it may be split; without stock it becomes a backorder."""
    line = OrderLine.asked_for(event)
    with uow:
        product = uow.products.get(sku=line.sku)
        if product is None:
            raise InvalidSku(line.sku)
        batchref = product.allocate(line)
        parts = product.parts(line.orderid) if event.split else []
        uow.commit()
    return [_standing(part) for part in parts if part.closed in {None, SHIPPED}] if len(parts) > 1 else batchref


def change_batch_quantity(event: events.BatchQuantityChanged, uow: AbstractUnitOfWork) -> str:
    """Record another purchased quantity of a batch and reallocate the order lines that no longer fit."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.change_batch_quantity(ref=event.ref, qty=event.qty, solve=uow.solve)
        uow.commit()
    return event.ref


def change_batch_eta(event: events.BatchEtaChanged, uow: AbstractUnitOfWork) -> str:
    """Record another delivery day and reallocate the order lines that would be late."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.change_batch_eta(ref=event.ref, eta=event.eta, solve=uow.solve)
        uow.commit()
    return event.ref


def receive_batch(event: events.BatchReceived, uow: AbstractUnitOfWork) -> str:
    """Record that a batch, or some of it, arrived, and give its stock to order lines."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.receive_batch(event, uow.solve)
        uow.commit()
    return event.ref


def undo_receipt(event: events.ReceiptUndone, uow: AbstractUnitOfWork) -> str:
    """Record that a batch, or some of it, had not come, and reallocate the order lines that no longer fit."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.undo_receipt(event.ref, event.qty, uow.solve)
        uow.commit()
    return event.ref


def change_delivery_eta(event: events.DeliveryEtaChanged, uow: AbstractUnitOfWork) -> str:
    """Record another day of a delivery for every batch that is due with it."""
    with uow:
        for product, refs in _due_with(event.delivery, uow):
            product.change_delivery_eta(refs, event.eta, uow.solve)
        uow.commit()
    return event.delivery


def receive_delivery(event: events.DeliveryReceived, uow: AbstractUnitOfWork) -> str:
    """Record that a delivery arrived, with the whole quantity still due of every batch."""
    with uow:
        for product, refs in _due_with(event.delivery, uow):
            product.receive_delivery(refs, uow.solve)
        uow.commit()
    return event.delivery


def count_batch(event: events.BatchCounted, uow: AbstractUnitOfWork) -> str:
    """Record the quantity of a batch that was counted in the warehouse."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.count_batch(event, uow.now, lambda since: uow.products.moved(product.sku, event.ref, since), uow.solve)
        uow.commit()
    return event.ref


def adjust_batch(event: events.StockAdjusted, uow: AbstractUnitOfWork) -> str:
    """Record that the warehouse has more or less of a batch than was known, and why."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.adjust_batch(event, uow.solve)
        uow.commit()
    return event.ref


def correct_batch(event: events.BatchCorrected, uow: AbstractUnitOfWork) -> str:
    """Correct wrong values of a batch, and reallocate the order lines that it does not suit any more."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.correct_batch(event, uow.solve)
        uow.commit()
    return event.ref


def transfer_stock(event: events.StockTransferred, uow: AbstractUnitOfWork) -> str:
    """Move stock of a batch to another warehouse; a part becomes a batch of its own."""
    with uow:
        product = _of_batch(event.ref, uow)
        if event.qty is not None:
            ref = transferred_as(event)
            other = uow.products.get_by_batchref(batchref=ref)
            if other is not None and (known := other.batch(ref)) is not None:
                raise BatchConflict(ref, known.created)
        product.transfer_stock(event, uow.solve)
        uow.commit()
    return event.ref if event.qty is None else ref


def retire_product(event: events.ProductRetired, uow: AbstractUnitOfWork) -> str:
    """Stop selling a product; existing promises do not change."""
    with uow:
        product = _of_sku(event.sku, uow)
        product.retire_product()
        uow.commit()
    return event.sku


def reinstate_product(event: events.ProductReinstated, uow: AbstractUnitOfWork) -> str:
    """Sell a retired product again."""
    with uow:
        product = _of_sku(event.sku, uow)
        product.reinstate_product()
        uow.commit()
    return event.sku


def quarantine_batch(event: events.BatchQuarantined, uow: AbstractUnitOfWork) -> str:
    """Stop selling a batch; its order lines are reallocated, or keep it."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.quarantine_batch(ref=event.ref, reason=event.reason, keep_lines=event.keep_lines)
        uow.commit()
    return event.ref


def release_batch(event: events.BatchReleased, uow: AbstractUnitOfWork) -> str:
    """Sell a batch in quarantine again and give its stock to backorders."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.release_batch(ref=event.ref)
        uow.commit()
    return event.ref


def expire_batch(event: events.BatchExpired, uow: AbstractUnitOfWork) -> str:
    """Stop selling a batch whose last day is over, and reallocate its order lines."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.expire_batch(ref=event.ref)
        uow.commit()
    return event.ref


def mark_overdue(event: events.DeliveryOverdue, uow: AbstractUnitOfWork) -> str:
    """Promise the lines of an overdue delivery for a later day, and reallocate late lines."""
    with uow:
        product = _of_batch(event.ref, uow)
        product.mark_overdue(ref=event.ref, solve=uow.solve)
        uow.commit()
    return event.ref


def mark_late(event: events.LineBecameLate, uow: AbstractUnitOfWork) -> int:
    """Record that an order line waits although it was needed already."""
    with uow:
        product = _of_line(event.orderid, event.sku, uow)
        late_days = product.mark_late(event)
        uow.commit()
    return late_days


def cancel_allocation(event: events.AllocationCancelled, uow: AbstractUnitOfWork) -> None:
    """Cancel an order line and give its stock to backorders."""
    with uow:
        product = _of_line(event.orderid, event.sku, uow)
        product.cancel_allocation(orderid=event.orderid)
        uow.commit()


def change_line_quantity(event: events.LineQuantityChanged, uow: AbstractUnitOfWork) -> str | None:
    """Change the quantity of an order line, and reallocate it if its batch does not have enough."""
    with uow:
        product = _of_line(event.orderid, event.sku, uow)
        batchref = product.change_line_quantity(orderid=event.orderid, qty=event.qty)
        uow.commit()
    return batchref


def ship_line(event: events.LineShipped, uow: AbstractUnitOfWork) -> str:
    """Record that an order line left the warehouse."""
    with uow:
        product = _of_line(event.orderid, event.sku, uow)
        batchref = product.ship_line(orderid=event.orderid)
        uow.commit()
    return batchref


def return_line(event: events.LineReturned, uow: AbstractUnitOfWork) -> None:
    """Record that a customer returned stock, and give it to backorders, inspect it or scrap it."""
    if event.scrapped and event.disposition not in {None, SCRAP}:
        raise InvalidMessage(
            f"disposition is {event.disposition}, and scrapped is true", "Give one of them, or say scrap with both."
        )
    with uow:
        product = _of_line(event.orderid, event.sku, uow)
        disposition = SCRAP if event.scrapped else event.disposition or STOCK
        product.return_line(orderid=event.orderid, qty=event.qty, disposition=disposition)
        uow.commit()


def pin_line(event: events.LinePinned, uow: AbstractUnitOfWork) -> str:
    """Put an order line on a batch by hand and reallocate the lines that make room for it."""
    with uow:
        product = _of_line(event.orderid, event.sku, uow)
        if product.batch(event.batchref) is None:
            raise UnknownBatch(event.batchref)
        product.pin_line(orderid=event.orderid, ref=event.batchref)
        uow.commit()
    return event.batchref


def hold_stock(event: events.StockHeld, uow: AbstractUnitOfWork) -> str:
    """Hold stock for a cart, or extend its hold."""
    with uow:
        product = _of_sku(event.sku, uow)
        _check_is_no_hold_of_another(product, event.holdid, uow)
        hold = OrderLine(event.holdid, event.sku, event.qty, priority=HELD_PRIORITY, expires_at=event.expires_at)
        batchref = product.hold_stock(hold, uow.now)
        uow.commit()
    return batchref


def confirm_hold(event: events.HoldConfirmed, uow: AbstractUnitOfWork) -> str | None:
    """Turn the stock held for a cart into an order line."""
    with uow:
        product = _of_hold(event.holdid, uow)
        batchref = product.confirm_hold(event.holdid, event.orderid, uow.now)
        uow.commit()
    return batchref


def release_hold(event: events.HoldReleased, uow: AbstractUnitOfWork) -> str:
    """End the hold of a cart that the customer gave up, and give its stock to backorders."""
    with uow:
        product = _of_hold(event.holdid, uow)
        product.release_hold(event.holdid)
        uow.commit()
    return event.holdid


def expire_hold(event: events.HoldExpired, uow: AbstractUnitOfWork) -> str:
    """End a hold whose expiry has passed, and give its stock to backorders."""
    with uow:
        product = _of_hold(event.holdid, uow)
        product.expire_hold(event.holdid, uow.now)
        uow.commit()
    return event.holdid


def change_rules(event: events.RulesChanged, uow: AbstractUnitOfWork) -> str:
    """Change the rules by which a product is allocated; existing promises do not change."""
    with uow:
        product = _of_sku(event.sku, uow)
        if event.least_harm and isinstance(uow.solve, MissingSolver):
            raise SolverMissing(event.sku)
        product.change_rules(event)
        uow.commit()
    return event.sku


def move_up(event: events.MoveUpRequired, uow: AbstractUnitOfWork) -> str:
    """Move late order lines of a product to earlier stock, and give their stock to backorders."""
    with uow:
        product = _of_sku(event.sku, uow)
        product.move_up()
        uow.commit()
    return event.sku


def repair_counters(event: events.RepairRequired, uow: AbstractUnitOfWork) -> str:
    """Recount the counters of a product from its order lines; promises do not change."""
    with uow:
        product = _of_sku(event.sku, uow)
        product.repair_counters()
        uow.commit()
    return event.sku


def send_out_of_stock_notification(
    event: events.OutOfStock, notifications: Notifications, stock_team: StockTeam, message_id: str = ""
) -> None:
    """Tell the stock team by mail which order lines of a product wait."""
    mail = stock_team.mail(event.sku, message_id)
    if mail is not None:
        notifications.send_mail(*mail)


def _standing(part: Promise) -> dict[str, Any]:
    return {"orderid": part.line.orderid, "qty": part.line.qty, "batchref": part.batchref}


def _of_sku(sku: str, uow: AbstractUnitOfWork) -> Product:
    product = uow.products.get(sku=sku)
    if product is None:
        raise UnknownSku(sku)
    return product


def _of_batch(ref: str, uow: AbstractUnitOfWork) -> Product:
    product = uow.products.get_by_batchref(batchref=ref)
    if product is None:
        raise UnknownBatch(ref)
    return product


def _due_with(delivery: str, uow: AbstractUnitOfWork) -> Sequence[tuple[Product, Sequence[str]]]:
    """The batches that are due with a delivery, by SKU; raises `UnknownDelivery` or `DeliveryArrived`."""
    batches = uow.products.batches_of(delivery)
    if not batches:
        raise UnknownDelivery(delivery)
    due = [(product, ref) for product, ref in batches if (batch := product.batch(ref)) and batch.incoming_quantity]
    if not due:
        raise DeliveryArrived(delivery)
    return [(product, [ref for _, ref in several]) for product, several in groupby(due, itemgetter(0))]


def _of_line(orderid: str, sku: str, uow: AbstractUnitOfWork) -> Product:
    product = uow.products.get(sku=sku)
    if product is None:
        raise UnknownLine(orderid, sku)
    return product


def _of_hold(holdid: str, uow: AbstractUnitOfWork) -> Product:
    product = uow.products.get_by_holdid(holdid=holdid)
    if product is None:
        raise UnknownHold(holdid)
    return product


def _check_is_no_hold_of_another(product: Product, holdid: str, uow: AbstractUnitOfWork) -> None:
    """The id of a hold is unique over all SKUs, because later events name only the id."""
    other = uow.products.get_by_holdid(holdid=holdid)
    known = None if other is None or other is product else other.promise(holdid)
    if known is not None:
        raise HoldConflict(known.line)


class Needs(Enum):
    """The rows that an event needs: whether the rows named in its fields are enough."""

    NAMED = "the rows that its fields name"
    MORE_AT_TIMES = "more, if lines wait or lose their batch, or their batch is used up"
    MORE = "more than those"


Handler = Callable[[Any, AbstractUnitOfWork], Any]
Effect = Callable[..., None]

HANDLERS: Mapping[type[events.Event], Sequence[Handler]] = {
    events.BatchCreated: [add_batch],
    events.AllocationRequired: [allocate],
    events.BatchQuantityChanged: [change_batch_quantity],
    events.BatchEtaChanged: [change_batch_eta],
    events.BatchReceived: [receive_batch],
    events.ReceiptUndone: [undo_receipt],
    events.DeliveryEtaChanged: [change_delivery_eta],
    events.DeliveryReceived: [receive_delivery],
    events.BatchCounted: [count_batch],
    events.StockAdjusted: [adjust_batch],
    events.BatchCorrected: [correct_batch],
    events.StockTransferred: [transfer_stock],
    events.ProductRetired: [retire_product],
    events.ProductReinstated: [reinstate_product],
    events.BatchQuarantined: [quarantine_batch],
    events.BatchReleased: [release_batch],
    events.BatchExpired: [expire_batch],
    events.DeliveryOverdue: [mark_overdue],
    events.LineBecameLate: [mark_late],
    events.AllocationCancelled: [cancel_allocation],
    events.LineQuantityChanged: [change_line_quantity],
    events.LineShipped: [ship_line],
    events.LineReturned: [return_line],
    events.LinePinned: [pin_line],
    events.StockHeld: [hold_stock],
    events.HoldConfirmed: [confirm_hold],
    events.HoldReleased: [release_hold],
    events.HoldExpired: [expire_hold],
    events.RulesChanged: [change_rules],
    events.MoveUpRequired: [move_up],
    events.RepairRequired: [repair_counters],
    events.Allocated: [],
    events.Deallocated: [],
    events.Backordered: [],
    events.OutOfStock: [],
    events.PromiseChanged: [],
    events.Cancelled: [],
    events.Resized: [],
    events.Split: [],
    events.Shipped: [],
    events.Returned: [],
    events.StockScrapped: [],
    events.StockInspected: [],
    events.StockCounted: [],
    events.Served: [],
    events.Pinned: [],
    events.Held: [],
    events.HoldEnded: [],
    events.AllocatedQuantityRepaired: [],
    events.ShippedQuantityRepaired: [],
    events.WaitingLinesRepaired: [],
}

# Facts that the service says by itself when a day begins.
BY_THE_CLOCK = frozenset({events.BatchExpired, events.DeliveryOverdue, events.LineBecameLate})

# Events after a batch has more room, and after lines and holds lose their batch.
_SERVES = frozenset({events.AllocationRequired, events.MoveUpRequired})
_FREES = frozenset({events.Deallocated, events.AllocationRequired, events.Held, events.HoldEnded})

RAISES: Mapping[Handler, frozenset[type[events.Event]]] = {
    add_batch: _SERVES,
    allocate: frozenset({events.Allocated, events.Split, events.Backordered, events.OutOfStock, events.PromiseChanged}),
    change_batch_quantity: _FREES | _SERVES | {events.PromiseChanged, events.Served},
    change_batch_eta: _FREES | _SERVES | {events.PromiseChanged},
    receive_batch: _FREES | _SERVES | {events.PromiseChanged, events.Served},
    undo_receipt: _FREES | _SERVES | {events.PromiseChanged, events.Served},
    change_delivery_eta: _FREES | _SERVES | {events.BatchEtaChanged, events.PromiseChanged, events.Served},
    receive_delivery: _FREES | _SERVES | {events.BatchReceived, events.PromiseChanged, events.Served},
    count_batch: _FREES | _SERVES | {events.StockCounted},
    adjust_batch: _FREES | _SERVES,
    correct_batch: _FREES | _SERVES | {events.PromiseChanged, events.Served},
    transfer_stock: _FREES | _SERVES | {events.PromiseChanged, events.Served},
    retire_product: frozenset(),
    reinstate_product: frozenset(),
    quarantine_batch: _FREES,
    release_batch: _SERVES | {events.PromiseChanged, events.Served},
    expire_batch: _FREES,
    mark_overdue: _FREES | _SERVES | {events.PromiseChanged},
    mark_late: frozenset(),
    cancel_allocation: _SERVES | {events.Cancelled},
    change_line_quantity: _SERVES | {events.Resized, events.Deallocated},
    ship_line: _SERVES | {events.Shipped},
    return_line: _SERVES | {events.Returned, events.StockScrapped, events.StockInspected},
    pin_line: _FREES | _SERVES | {events.Pinned, events.Allocated, events.PromiseChanged},
    hold_stock: frozenset({events.Held}),
    confirm_hold: frozenset({events.HoldEnded, events.Allocated}),
    release_hold: _SERVES | {events.HoldEnded},
    expire_hold: _SERVES | {events.HoldEnded},
    change_rules: _SERVES,
    move_up: frozenset({events.Deallocated, events.AllocationRequired, events.PromiseChanged}),
    repair_counters: frozenset(
        {events.AllocatedQuantityRepaired, events.ShippedQuantityRepaired, events.WaitingLinesRepaired}
    ),
}

EFFECTS: Mapping[type[events.Event], Sequence[Effect]] = {
    events.OutOfStock: [send_out_of_stock_notification],
}

# The rows that the handler of an event from outside needs, so that the writer knows the locks beforehand. An event
# without an entry needs more rows than it names: this default is always correct, but may be slower than needed.
NEEDS: Mapping[type[events.Event], Needs] = {
    events.BatchCreated: Needs.MORE_AT_TIMES,
    events.AllocationRequired: Needs.NAMED,
    events.BatchQuantityChanged: Needs.MORE_AT_TIMES,
    events.BatchEtaChanged: Needs.MORE_AT_TIMES,
    events.BatchReceived: Needs.MORE_AT_TIMES,
    events.BatchReleased: Needs.MORE_AT_TIMES,
    events.LineBecameLate: Needs.NAMED,
    events.AllocationCancelled: Needs.MORE_AT_TIMES,
    events.LineQuantityChanged: Needs.MORE_AT_TIMES,
    events.LineShipped: Needs.MORE_AT_TIMES,
    events.LineReturned: Needs.MORE_AT_TIMES,
    events.StockHeld: Needs.NAMED,
    events.HoldReleased: Needs.MORE_AT_TIMES,
    events.HoldExpired: Needs.MORE_AT_TIMES,
    events.RulesChanged: Needs.MORE_AT_TIMES,
}

"""The events: requests to the service, and facts about its promises.

Each event is declared once, here, with the limits and the meaning of each field. Validation, JSON, the HTTP route,
OpenAPI, the command line, the ledger row, the forms and the reference pages are derived from the declaration.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated

from allocation.domain.fields import (
    EXPECTED,
    Arrived,
    BatchRef,
    Clearable,
    Count,
    Counted,
    Days,
    Delivery,
    Difference,
    Disposition,
    HoldId,
    LineQuantity,
    Meaning,
    OrderId,
    Position,
    Priority,
    Quantity,
    Reference,
    Rest,
    Sku,
    Stored,
    Strategy,
)


class Event:
    """The only kind of thing the message bus handles. An event is a fact, unless it is a request or a notice.

    A fact changes a product: `allocation.domain.standing` says how.
    """

    __slots__ = ()


class Request(Event):
    """An event that asks for something. It changes nothing itself: the facts that its handler tells do."""

    __slots__ = ()


class Notice(Event):
    """An event that informs somebody. It changes nothing."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BatchCreated(Event):
    """Stock was bought: it is in the warehouse if it has no ETA, otherwise it is delivered on that day."""

    ref: Annotated[Reference, Meaning("Your reference of the batch, unique over all products")]
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity bought")]
    eta: Annotated[date | None, Meaning("Day the delivery is due; leave it out for stock in the warehouse")] = None
    expires_on: Annotated[
        date | None, Meaning("Last day the stock can be used; leave it out if it does not expire")
    ] = None
    location: Annotated[Reference | None, Meaning("Warehouse that has the stock or gets the delivery")] = None
    delivery: Annotated[
        Reference | None, Meaning("Purchase order or container it comes with; one delivery may have many products")
    ] = None
    quarantine: Annotated[Reference | None, Meaning("Reason why the stock must not be sold yet")] = None
    eta_unknown: Annotated[bool, Meaning("The stock is inbound, and nobody knows when; leave out the ETA")] = False


@dataclass(frozen=True, slots=True)
class AllocationRequired(Event):
    """An order line needs stock: it is new, or it lost its batch, or stock became available.

    If no batch has enough, the line waits as a backorder, or with ``split`` is divided over several batches.
    """

    orderid: Annotated[Reference, Meaning("Your number of the order; with the SKU it identifies the line")]
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity ordered")]
    need_by: Annotated[date | None, Meaning("Day the customer needs the stock; leave it out if any day will do")] = None
    priority: Annotated[Priority, Meaning("Urgency: backorders with a higher priority get stock first")] = 0
    split: Annotated[bool, Meaning("Divide the line over several batches if no single batch has enough")] = False


@dataclass(frozen=True, slots=True)
class BatchQuantityChanged(Event):
    """The purchased quantity of a batch is another one: the order was changed, or some of it was lost or scrapped."""

    ref: BatchRef
    qty: Annotated[Count, Meaning("Purchased quantity less losses; units shipped since still count")]


@dataclass(frozen=True, slots=True)
class BatchEtaChanged(Event):
    """A delivery is late or early: it is due on another day."""

    ref: BatchRef
    eta: Annotated[date, Meaning("Day the delivery is due now")]


@dataclass(frozen=True, slots=True)
class BatchReceived(Event):
    """A batch arrived in the warehouse, or some of it did: then the rest is still due, unless it is closed."""

    ref: BatchRef
    qty: Annotated[Count | None, Meaning("Quantity that arrived; leave it out if all of the rest did")] = None
    rest: Annotated[Rest, Meaning("Whether the rest is still expected, or closed, because it will not come")] = EXPECTED
    rest_eta: Annotated[date | None, Meaning("Day the rest is due, if that is another day")] = None
    quarantine: Annotated[Reference | None, Meaning("Reason why the goods that arrived must not be sold yet")] = None


@dataclass(frozen=True, slots=True)
class ReceiptUndone(Event):
    """A batch, or some of it, had not come: it is incoming again, due on its last ETA."""

    ref: BatchRef
    qty: Annotated[Quantity | None, Meaning("Quantity that had not come; leave it out if none of it had")] = None


@dataclass(frozen=True, slots=True)
class DeliveryEtaChanged(Request):
    """A delivery is late or early: every batch that is due with it has another ETA."""

    delivery: Delivery
    eta: Annotated[date, Meaning("Day the delivery is due now")]


@dataclass(frozen=True, slots=True)
class DeliveryReceived(Request):
    """A delivery arrived: every quantity still due with it is in the warehouse."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class BatchCounted(Request):
    """Somebody counted the stock of a batch in the warehouse."""

    ref: BatchRef
    on_hand: Annotated[Count, Meaning("Quantity in the warehouse, with goods that are blocked")]
    reason: Annotated[Reference | None, Meaning("Reason for a difference, kept in the ledger")] = None
    counted_at: Annotated[
        datetime | None, Meaning("Time of the count, if it is not now; stock that came or left since is reckoned with")
    ] = None


@dataclass(frozen=True, slots=True)
class StockAdjusted(Event):
    """The warehouse has more or less of a batch than was known."""

    ref: BatchRef
    by: Annotated[Difference, Meaning("Quantity found, or with a minus sign the quantity missing")]
    reason: Annotated[Reference, Meaning("Reason for the difference, such as damaged, lost or found")]
    note: Annotated[Reference | None, Meaning("Any further words about it")] = None


@dataclass(frozen=True, slots=True)
class BatchCorrected(Event):
    """A batch was entered wrongly. Its order lines move if they do not fit the right values."""

    ref: BatchRef
    eta: Annotated[date | None, Meaning("Right day the stock is due; stock in the warehouse becomes incoming")] = None
    expires_on: Annotated[date | None, Meaning("Right last day the stock can be used")] = None
    location: Annotated[Reference | None, Meaning("Right warehouse")] = None
    delivery: Annotated[Reference | None, Meaning("Right purchase order or container")] = None
    clear: Annotated[Clearable | None, Meaning("The value that the batch has by mistake and loses")] = None


@dataclass(frozen=True, slots=True)
class StockTransferred(Event):
    """Stock of a batch moves to another warehouse. Its order lines move with it, or to other stock."""

    ref: BatchRef
    to_location: Annotated[Reference, Meaning("Warehouse that gets the stock")]
    qty: Annotated[
        Quantity | None, Meaning("Quantity of the stock in the warehouse that moves; leave it out for the whole batch")
    ] = None
    new_ref: Annotated[Reference | None, Meaning("Reference of the batch that a part becomes")] = None
    eta: Annotated[date | None, Meaning("Day the stock is there; leave it out if it is there now")] = None
    keep_lines: Annotated[bool, Meaning("Let the order lines move with the stock")] = True


@dataclass(frozen=True, slots=True)
class ProductRetired(Event):
    """A product is not sold any more: it takes no new order lines and no holds. Existing promises do not change."""

    sku: Sku


@dataclass(frozen=True, slots=True)
class ProductReinstated(Event):
    """A retired product is sold again."""

    sku: Sku


@dataclass(frozen=True, slots=True)
class BatchQuarantined(Event):
    """A batch must not be sold for now. Its order lines move to other stock, or keep it until it is released."""

    ref: BatchRef
    reason: Annotated[Reference, Meaning("Reason for the quarantine, shown with the batch")]
    keep_lines: Annotated[bool, Meaning("Leave the order lines on the batch until it is released")] = False


@dataclass(frozen=True, slots=True)
class BatchReleased(Event):
    """A batch in quarantine may be sold again, and so may its goods in inspection."""

    ref: BatchRef


@dataclass(frozen=True, slots=True)
class BatchExpired(Event):
    """The last day of a batch is over, so it must not be sold or shipped any more. Its order lines move, or wait.

    The service says so by itself.
    """

    ref: BatchRef


@dataclass(frozen=True, slots=True)
class DeliveryOverdue(Event):
    """A delivery did not arrive on the day it was due. Its order lines are promised for later, or move.

    The service says so by itself.
    """

    ref: BatchRef


@dataclass(frozen=True, slots=True)
class LineBecameLate(Notice):
    """An order line waits for stock, and the day it was needed by is over. The service says so by itself."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    need_by: Annotated[date, Meaning("Day the customer needed the stock")]


@dataclass(frozen=True, slots=True)
class AllocationCancelled(Request):
    """The customer no longer wants the order line."""

    orderid: OrderId
    sku: Sku


@dataclass(frozen=True, slots=True)
class LineQuantityChanged(Request):
    """The customer wants more or less of an order line."""

    orderid: OrderId
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity the customer wants now")]


@dataclass(frozen=True, slots=True)
class LineShipped(Request):
    """An order line left the warehouse. It never changes its batch again."""

    orderid: OrderId
    sku: Sku


@dataclass(frozen=True, slots=True)
class LineReturned(Request):
    """The customer returned a shipped order line, or some of it."""

    orderid: OrderId
    sku: Sku
    qty: Annotated[Quantity | None, Meaning("Quantity returned; leave it out if all of the line was")] = None
    scrapped: Annotated[bool, Meaning("Scrap the returned stock; the same as the disposition scrap")] = False
    disposition: Annotated[
        Disposition | None,
        Meaning("Whether the stock is sold again (stock, the usual one), inspected until it is released, or scrapped"),
    ] = None


@dataclass(frozen=True, slots=True)
class LinePinned(Request):
    """Somebody puts an order line on a batch by hand, and other lines make room for it."""

    orderid: OrderId
    sku: Sku
    batchref: Annotated[Reference, Meaning("Batch the line is put on, by your reference")]
    reason: Annotated[Reference, Meaning("Reason for the choice, kept in the ledger")]


@dataclass(frozen=True, slots=True)
class StockHeld(Request):
    """A cart needs stock kept for it until it is ordered or the hold expires. A later expiry extends the hold."""

    holdid: Annotated[Reference, Meaning("Your number of the cart, unique over all products")]
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity to keep for the cart")]
    expires_at: Annotated[datetime, Meaning("Time the hold ends by itself")]


@dataclass(frozen=True, slots=True)
class HoldConfirmed(Request):
    """The cart was ordered: the stock it held now belongs to a line of this order."""

    holdid: HoldId
    orderid: Annotated[Reference, Meaning("Your number of the order that the cart became")]


@dataclass(frozen=True, slots=True)
class HoldReleased(Request):
    """The customer gave up the cart before its hold expired."""

    holdid: HoldId


@dataclass(frozen=True, slots=True)
class HoldExpired(Request):
    """The expiry of a hold has passed, and its stock is free again."""

    holdid: HoldId


@dataclass(frozen=True, slots=True)
class RulesChanged(Event):
    """A product is allocated by these rules from now on. Omitted rules use the defaults."""

    sku: Sku
    strategy: Annotated[Strategy | None, Meaning("Order in which batches are tried for an order line")] = None
    location: Annotated[Reference | None, Meaning("Warehouse that preferred-location tries first")] = None
    safety_stock: Annotated[Count, Meaning("Quantity kept back in the warehouse and not promised to orders")] = 0
    shelf_life_days: Annotated[Days, Meaning("Number of days the stock must last after the promised day")] = 0
    most_waiting: Annotated[Count | None, Meaning("Maximum number of backorders; further orders are rejected")] = None
    ages_after: Annotated[
        Quantity | None, Meaning("Number of changes of the product after which a backorder gains a priority")
    ] = None
    frozen_days: Annotated[Days, Meaning("Lines needed within this many days do not make room for other lines")] = 0
    most_moved: Annotated[Count | None, Meaning("Maximum number of order lines one change moves by choice")] = None
    least_harm: Annotated[bool, Meaning("On a shortage, move the fewest lines and make them the least late")] = False
    move_up: Annotated[bool, Meaning("Move late order lines to earlier stock when there is some")] = False


@dataclass(frozen=True, slots=True)
class MoveUpRequired(Event):
    """Order lines of a product that are promised too late have to move to earlier stock, if there is any."""

    sku: Sku


@dataclass(frozen=True, slots=True)
class RepairRequired(Request):
    """The counters of a product are in doubt and have to be counted again from its order lines."""

    sku: Sku


@dataclass(frozen=True, slots=True)
class Allocated(Event):
    """An order line got stock of a batch."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    batchref: BatchRef
    arrived: Arrived = False


@dataclass(frozen=True, slots=True)
class Deallocated(Event):
    """An order line lost the stock it had of a batch."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    batchref: BatchRef


@dataclass(frozen=True, slots=True)
class Backordered(Event):
    """No batch has enough for an order line, so it waits and gets stock when there is some."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity


@dataclass(frozen=True, slots=True)
class OutOfStock(Notice):
    """An order line became a backorder, and the stock team has to know."""

    sku: Sku


@dataclass(frozen=True, slots=True)
class AllocatedQuantityRepaired(Event):
    """The allocated quantity of a batch differed from its order lines and was corrected. No promise changed."""

    sku: Sku
    batchref: BatchRef
    stored: Stored
    counted: Counted


@dataclass(frozen=True, slots=True)
class ShippedQuantityRepaired(Event):
    """The shipped quantity of a batch differed from its shipped lines and was corrected. No promise changed."""

    sku: Sku
    batchref: BatchRef
    stored: Stored
    counted: Counted


@dataclass(frozen=True, slots=True)
class WaitingLinesRepaired(Event):
    """The number of backorders of a product was wrong and was corrected. No promise changed."""

    sku: Sku
    stored: Stored
    counted: Counted


@dataclass(frozen=True, slots=True)
class PromiseChanged(Notice):
    """An order line is promised for another day.

    Stock in the warehouse is promised for the day of the change. A backorder that gets stock has `Allocated` alone.
    """

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    before: Annotated[date | None, Meaning("Day promised before, or null if the line waited")]
    after: Annotated[date | None, Meaning("Day promised now, or null if the line waits")]
    late_days: Annotated[Count, Meaning("Number of days from the day needed to the day promised now, 0 if in time")]


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """An order line was cancelled."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    batchref: Annotated[Reference | None, Meaning("Batch that the line was on, or null if it waited")]


@dataclass(frozen=True, slots=True)
class Resized(Event):
    """An order line has a new quantity and keeps its place: on its batch, or waiting."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    before: Annotated[Quantity, Meaning("Quantity before the change")]


@dataclass(frozen=True, slots=True)
class Split(Event):
    """No batch has enough for an order line, so it was divided: the rest is a line of its own, the next part.

    The next part gets stock like any line, and may be divided again.
    """

    orderid: OrderId
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity that this line keeps")]
    rest: Annotated[Quantity, Meaning("Quantity of the next part")]
    next_part: Annotated[Reference, Meaning("Order id of the next part, such as order-1/2")]
    position: Annotated[Position, Meaning("Age of the line and its parts: the lower the number, the older they are")]


@dataclass(frozen=True, slots=True)
class Shipped(Event):
    """An order line left the warehouse with its stock."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    batchref: BatchRef


@dataclass(frozen=True, slots=True)
class Returned(Event):
    """A customer returned a shipped order line, or some of it."""

    orderid: OrderId
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity returned")]
    batchref: BatchRef
    kept: Annotated[Count, Meaning("Quantity that the customer keeps")]


@dataclass(frozen=True, slots=True)
class StockScrapped(Event):
    """Returned stock was scrapped, so its batch has less."""

    sku: Sku
    batchref: BatchRef
    qty: Annotated[Quantity, Meaning("Quantity scrapped")]


@dataclass(frozen=True, slots=True)
class StockInspected(Event):
    """Returned stock is in inspection: it belongs to its batch and is blocked until the batch is released."""

    sku: Sku
    batchref: BatchRef
    qty: Annotated[Quantity, Meaning("Quantity in inspection")]


@dataclass(frozen=True, slots=True)
class StockCounted(Event):
    """The stock of a batch in the warehouse was counted."""

    sku: Sku
    batchref: BatchRef
    on_hand: Annotated[Count, Meaning("Quantity in the warehouse now")]
    before: Annotated[Count, Meaning("Quantity in the warehouse as it was known before")]
    counted_at: Annotated[datetime, Meaning("Time of the count")]


@dataclass(frozen=True, slots=True)
class Served(Event):
    """The stock of an order line or hold has arrived, while the rest of its batch is due; or it is due again."""

    orderid: Annotated[Reference, Meaning("The order or the hold, by your number")]
    sku: Sku
    qty: LineQuantity
    batchref: BatchRef
    arrived: Annotated[bool, Meaning("Whether its stock has arrived")]


@dataclass(frozen=True, slots=True)
class Pinned(Event):
    """An order line was put on a batch by hand. It comes before all others and makes room for none."""

    orderid: OrderId
    sku: Sku
    qty: LineQuantity
    batchref: BatchRef


@dataclass(frozen=True, slots=True)
class Held(Event):
    """Stock of a batch is kept for a cart. It is raised again when the hold is extended or moves to another batch."""

    holdid: HoldId
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity kept for the cart")]
    batchref: BatchRef
    expires_at: Annotated[datetime, Meaning("Time the hold ends by itself")]
    arrived: Arrived = False


@dataclass(frozen=True, slots=True)
class HoldEnded(Event):
    """A hold ended: no stock is kept for the cart any more."""

    holdid: HoldId
    sku: Sku
    qty: Annotated[Quantity, Meaning("Quantity that was kept for the cart")]
    batchref: Annotated[Reference | None, Meaning("Batch that had the stock, or null if the hold lost it")]
    how: Annotated[Reference, Meaning("How it ended: confirmed, released, expired or lost, if its stock was gone")]

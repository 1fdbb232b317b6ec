"""Refusals: the ordinary *no* of the business, each naming the value and the cure.

A refusal is the answer to a request and changes nothing. A problem that the caller cannot cure (a lost database, a
bug) is not here: it is a failure, and failures are loud.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from allocation.domain.fields import cleaned
from allocation.domain.lines import NO_DAY, Creation, OrderLine, own_priority


class Refusal(Exception):
    """A request that is understood and declined. ``message`` names the value, ``cure`` the remedy."""

    cure = ""

    def __init__(self, message: str, cure: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if cure is not None:
            self.cure = cure


class InvalidMessage(Refusal):
    """The input is not an event: malformed, or a field is missing, unknown or out of its limits."""


def _did_you_mean(look_alikes: Sequence[str]) -> str:
    """The products that may be meant. A name of an earlier version that looks like another is quoted."""
    names = [each if cleaned(each) == each else ascii(each) for each in look_alikes]
    return f" (did you mean {' or '.join(names)}?)" if names else ""


class InvalidSku(Refusal):
    """No batch of this SKU was ever bought."""

    cure = "Add a batch of it first."

    def __init__(self, sku: str, look_alikes: Sequence[str] = ()) -> None:
        super().__init__(
            f"Invalid sku {sku}{_did_you_mean(look_alikes)}",
            "Correct the SKU, or add a batch of it first." if look_alikes else None,
        )
        self.sku = sku


class UnknownSku(Refusal):
    """No batch of the SKU that was looked up was ever bought."""

    cure = "Look the SKU up in the list of products."

    def __init__(self, sku: str, look_alikes: Sequence[str] = ()) -> None:
        super().__init__(f"Unknown sku {sku}{_did_you_mean(look_alikes)}")
        self.sku = sku


class LedgerBeginsLater(Refusal):
    """The moment asked for is older than the product's history: closed lines and their messages were deleted."""

    cure = "Ask for that moment or a later one."

    def __init__(self, sku: str, since: datetime) -> None:
        super().__init__(f"The history of {sku} starts at {since.isoformat()}")


class UnknownBatch(Refusal):
    """No batch has this reference."""

    cure = "Check the reference, or add the batch first."

    def __init__(self, ref: str) -> None:
        super().__init__(f"Unknown batch {ref}")


class UnknownDelivery(Refusal):
    """No batch comes with this delivery."""

    cure = "Check the delivery, or name it with the batches that come with it."

    def __init__(self, delivery: str) -> None:
        super().__init__(f"Unknown delivery {delivery}")


class DeliveryArrived(Refusal):
    """Nothing of the delivery is due any more."""

    cure = "Count or adjust the batches whose quantity is wrong."

    def __init__(self, delivery: str) -> None:
        super().__init__(f"Nothing of delivery {delivery} is due")


class UnknownOrder(Refusal):
    """No line of this order was ever taken."""

    cure = "Check the order id, or allocate a line of it first."

    def __init__(self, orderid: str) -> None:
        super().__init__(f"Unknown order {orderid}")


class UnknownMessage(Refusal):
    """The ledger holds no message with this id."""

    cure = "Look the id up in the list of events."

    def __init__(self, message_id: str) -> None:
        super().__init__(f"Unknown message {message_id}")


class UnknownDeadLetter(Refusal):
    """No dead letter has this number."""

    cure = "Look the number up in the list of dead letters; it may have been retried or dropped."

    def __init__(self, number: int | str) -> None:
        super().__init__(f"Unknown dead letter {number}")


class ProductChanged(Refusal):
    """The request was made for an earlier version of the product."""

    cure = "Preview the change again, then repeat the request."

    def __init__(self, sku: str) -> None:
        super().__init__(f"Product {sku} has changed meanwhile")


class LineConflict(Refusal):
    """``(orderid, sku)`` identifies a line, and this line was ordered with another quantity, day or priority."""

    cure = "Repeat the line unchanged, or use another order id."

    def __init__(self, taken: OrderLine, asked: OrderLine) -> None:
        told = f"Order {asked.orderid} already has a line of {asked.sku}"
        if asked.qty not in {taken.qty, taken.qty + taken.rest}:
            told += f" with quantity {taken.qty + taken.rest}, not {asked.qty}"
        elif taken.need_by != asked.need_by:
            told += f" needed by {taken.need_by or 'no day'}, not {asked.need_by or 'no day'}"
        elif own_priority(taken.priority) != asked.priority:
            told += f" with priority {own_priority(taken.priority)}, not {asked.priority}"
        elif bool(taken.part) != bool(asked.part):
            told += " that may be split; this one may not" if taken.part else " that may not be split; this one may"
        super().__init__(told)


class BatchConflict(Refusal):
    """A batch reference is unique over all SKUs, and this one names a different batch."""

    cure = "Repeat the batch as it was created, or use another reference."

    def __init__(self, ref: str, created: Creation) -> None:
        sku, qty, eta, expires_on, location, delivery = created
        told = [due(eta)]
        told += [f"expires on {expires_on}"] if expires_on else []
        told += [f"location {location}"] if location else []
        told += [f"delivery {delivery}"] if delivery else []
        super().__init__(f"Batch {ref} already exists: {qty} of {sku}, {', '.join(told)}")


class IdempotencyKeyReused(Refusal):
    """A message id was used for a different message before."""

    cure = "Use a new key for a new request; repeat a request unchanged to get its first answer."

    def __init__(self, message_id: str) -> None:
        super().__init__(f"Idempotency key {message_id} belongs to a different request")


class InvalidWebhook(Refusal):
    """The URL, an event type or another field of the webhook is not allowed."""


class UnknownWebhook(Refusal):
    """There is no webhook with this id."""

    cure = "Look the id up in the list of webhooks."

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"Unknown webhook {webhook_id}")


class WebhookConflict(Refusal):
    """The same event types are posted to the same URL already."""

    def __init__(self, known_id: str, url: str) -> None:
        super().__init__(
            f"Webhook {known_id} already posts the same events to {url}",
            "If its secret is lost, rotate it; if it is disabled, remove it first.",
        )


class TooManyWebhooks(Refusal):
    """The maximum number of webhooks is reached."""

    def __init__(self, most: int) -> None:
        super().__init__(f"There are already {most} webhooks, the maximum", "Remove a webhook that is no longer used.")


class UnknownLine(Refusal):
    """The order has no line of this SKU."""

    cure = "Check the order id and the SKU, or allocate the line first."

    def __init__(self, orderid: str, sku: str) -> None:
        super().__init__(f"Order {orderid} has no line of {sku}")


class UnknownHold(Refusal):
    """No stock was ever held under this id."""

    cure = "Check the id of the hold, or hold the stock first."

    def __init__(self, holdid: str) -> None:
        super().__init__(f"Unknown hold {holdid}")


class LineClosed(Refusal):
    """A line that was cancelled, shipped or returned does not change any more."""

    cure = "Order it again under another order id."

    def __init__(self, orderid: str, sku: str, how: str) -> None:
        super().__init__(f"The line of {sku} in order {orderid} was {how}")


class LineWasSplit(Refusal):
    """The quantity of a split line is the sum of its parts, and only the last part can grow or shrink."""

    def __init__(self, line: OrderLine, last: str) -> None:
        change = "Cancel" if last == line.orderid else f"Change {last}, which is its last part, or cancel"
        super().__init__(
            f"The line of {line.sku} in order {line.orderid} was split: the other {line.rest} are in {line.next_part}",
            f"{change} the line and order it again.",
        )


class NotShippable(Refusal):
    """The line has no stock in the warehouse that can be shipped."""

    def __init__(self, line: OrderLine, why: str, cure: str) -> None:
        super().__init__(f"The line of {line.sku} in order {line.orderid} cannot be shipped: {why}", cure)


class NotReturnable(Refusal):
    """Only shipped items can be returned."""

    cure = "Return at most the quantity that was shipped and not yet returned."

    def __init__(self, line: OrderLine, qty: int | None, shipped: int) -> None:
        asked = line.qty if qty is None else qty
        super().__init__(f"{asked} of {line.sku} cannot be returned from order {line.orderid}: {shipped} are shipped")


class CountBelowShipped(Refusal):
    """The purchased quantity is smaller than the quantity already shipped from the batch, or in inspection."""

    cure = "Enter the purchased quantity minus losses; shipped items stay included."

    def __init__(self, ref: str, qty: int, shipped: int, inspected: int = 0) -> None:
        told = f", and {inspected} are in inspection" if inspected else ""
        super().__init__(f"Batch {ref} cannot have {qty}: {shipped} were already shipped{told}")


class NothingDue(Refusal):
    """Nothing of the batch is due, so nothing can be received."""

    cure = "Count or adjust a batch in the warehouse; change the purchased quantity of a cancelled batch."

    def __init__(self, ref: str) -> None:
        super().__init__(f"Batch {ref} cannot be received: nothing of it is due")


class NotArrived(Refusal):
    """None of the batch is in the warehouse yet."""

    cure = "Receive the batch first."

    def __init__(self, ref: str) -> None:
        super().__init__(f"Nothing of batch {ref} is in the warehouse")


class NotOnHand(Refusal):
    """The warehouse does not have so much of the batch."""

    cure = "Give at most the quantity on hand; shipped goods and goods in inspection are not part of it."

    def __init__(self, ref: str, qty: int, on_hand: int) -> None:
        super().__init__(f"Batch {ref} cannot lose {qty}: {on_hand} are on hand")


class CountOutdated(Refusal):
    """The batch was counted at a later time."""

    cure = "Count it again."

    def __init__(self, ref: str, counted_at: datetime, last: datetime) -> None:
        super().__init__(f"The count of batch {ref} from {counted_at} is older than the last one, from {last}")


class CountImpossible(Refusal):
    """More of the batch left the warehouse since the count than was counted."""

    cure = "Check the quantity and the time of the count; release goods in inspection before they are counted out."

    def __init__(self, ref: str, on_hand: int, less: int) -> None:
        super().__init__(
            f"Batch {ref} cannot have been {on_hand} on hand: {less} have left since, or are in inspection"
        )


class ShippedAlready(Refusal):
    """Goods of the receipt were shipped, so they had come."""

    cure = "Undo at most the quantity on hand, or return the shipped lines first."

    def __init__(self, ref: str, qty: int, on_hand: int, shipped: int) -> None:
        super().__init__(f"{qty} of batch {ref} cannot be undone: {on_hand} are on hand and {shipped} were shipped")


class BatchClosed(Refusal):
    """The batch was created before, and was cut to nothing since."""

    cure = "Change its purchased quantity, or use another reference for the new stock."

    def __init__(self, ref: str) -> None:
        super().__init__(f"Batch {ref} already exists, and its quantity was set to 0")


class RetiredProduct(Refusal):
    """The product takes no new lines."""

    cure = "Reinstate the product first, if it is sold again."

    def __init__(self, sku: str) -> None:
        super().__init__(f"Product {sku} is retired")


class FarDay(Refusal):
    """A day is more than ten years away, which is most likely a typing error."""

    cure = "Check the year; if nobody knows the day of a delivery, say so with eta_unknown."

    def __init__(self, name: str, day: date) -> None:
        super().__init__(f"{name} is {day}, which is more than ten years away")


class BatchArrived(Refusal):
    """The batch is in the warehouse already, so it cannot get a new ETA."""

    cure = "Recount the batch if its quantity is wrong, or quarantine it if it is not there."

    def __init__(self, ref: str, eta: date) -> None:
        super().__init__(f"Batch {ref} cannot be due on {eta}: it is in the warehouse")


class NotPast(Refusal):
    """The day of the batch or order line is not over, or it does not matter to the batch or line."""

    cure = "Look it up. The service tells by itself when a day is over."


class HoldEndedAlready(Refusal):
    """A hold that was confirmed, released, lost or has expired is over, and is never revived."""

    cure = "Hold the stock again under a new id."

    def __init__(self, holdid: str, how: str) -> None:
        super().__init__(f"Hold {holdid} is over: {how}")


class HoldStillRuns(Refusal):
    """A hold cannot expire before its expiry time."""

    cure = "Release the hold if it is no longer needed."

    def __init__(self, line: OrderLine) -> None:
        super().__init__(f"Hold {line.orderid} runs until {line.expires_at}")


class HoldConflict(Refusal):
    """The id belongs to another hold, or to an order."""

    cure = "Repeat the hold as it was made, or use another id."

    def __init__(self, known: OrderLine) -> None:
        kind = "order" if known.expires_at is None else "hold"
        super().__init__(f"{known.orderid} is already the id of a {kind} of {known.qty} of {known.sku}")


class InvalidMoment(Refusal):
    """The expiry time of a hold must be in the future, and not too far away."""

    cure = "Give a time in the near future, with its time zone, for example 2026-01-31T12:00:00Z."

    def __init__(self, expires_at: object, why: str) -> None:
        super().__init__(f"expires_at is {expires_at}, which is {why}")


class NotEnoughStock(Refusal):
    """No batch has enough free stock for the hold. A hold is never backordered."""

    cure = "Hold a smaller quantity, or place an order: an order line can wait for stock."

    def __init__(self, sku: str, qty: int) -> None:
        super().__init__(f"No batch of {sku} has {qty} free")


class TooManyWaiting(Refusal):
    """The product has its maximum number of backorders."""

    cure = "Order a smaller quantity, or try again after the next delivery."

    def __init__(self, sku: str, most: int) -> None:
        super().__init__(f"No batch of {sku} has enough stock, and its limit of {most} backorders is reached")


class NotPinnable(Refusal):
    """The line cannot be pinned to that batch."""

    def __init__(self, line: OrderLine, ref: str, why: str, cure: str) -> None:
        super().__init__(f"The line of {line.sku} in order {line.orderid} cannot be pinned to {ref}: {why}", cure)


class SolverMissing(Refusal):
    """The rule ``least_harm`` needs a solver, and none is installed with the service."""

    cure = "Omit least_harm, or install the solver on the service's machine: pip install 'allocation[least-harm]'."

    def __init__(self, sku: str) -> None:
        super().__init__(f"least_harm cannot be true for {sku}: the solver is not installed")


def due(eta: date | None) -> str:
    """Where a batch is, in words."""
    if eta is None:
        return "in the warehouse"
    return "due on a day not yet known" if eta == NO_DAY else f"due {eta}"

"""Refusals: the ordinary *no* of the business, each naming the value and the cure.

A refusal answers the one who asked and changes nothing. What a caller cannot cure (a lost database, a
bug) is not here: that is a failure, and failures are loud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allocation.domain.model import Batch, OrderLine


class Refusal(Exception):
    """A request that is understood and declined. ``message`` names the value, ``cure`` what helps."""

    cure = ""

    def __init__(self, message: str, cure: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if cure is not None:
            self.cure = cure


class InvalidMessage(Refusal):
    """The input is not an event: malformed, or a field is missing, unknown or out of its limits."""


class InvalidSku(Refusal):
    """No batch of this SKU was ever bought."""

    cure = "Add a batch of it first."

    def __init__(self, sku: str) -> None:
        super().__init__(f"Invalid sku {sku}")


class UnknownSku(Refusal):
    """A look-up of a SKU that no batch was ever bought of."""

    cure = "Look the SKU up in the list of products."

    def __init__(self, sku: str) -> None:
        super().__init__(f"Unknown sku {sku}")


class UnknownBatch(Refusal):
    """No batch has this reference."""

    cure = "Check the reference, or add the batch first."

    def __init__(self, ref: str) -> None:
        super().__init__(f"Unknown batch {ref}")


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


class LineConflict(Refusal):
    """``(orderid, sku)`` identifies a line, and it was taken with another quantity."""

    cure = "Repeat the line as it was taken, or use another order id."

    def __init__(self, taken: OrderLine, asked: OrderLine) -> None:
        super().__init__(
            f"Order {asked.orderid} already has a line of {asked.sku} with quantity {taken.qty}, not {asked.qty}"
        )


class BatchConflict(Refusal):
    """A batch reference is unique over all SKUs, and this one names a different batch."""

    cure = "Repeat the batch as it was created, or use another reference."

    def __init__(self, known: Batch) -> None:
        eta = f"due {known.initial_eta}" if known.initial_eta else "in the warehouse"
        super().__init__(f"Batch {known.reference} already exists: {known.initial_quantity} of {known.sku}, {eta}")


class IdempotencyKeyReused(Refusal):
    """A message id was used for a different message before."""

    cure = "Use a new key for a new request; repeat a request unchanged to get its first answer."

    def __init__(self, message_id: str) -> None:
        super().__init__(f"Idempotency key {message_id} belongs to a different request")


class InvalidWebhook(Refusal):
    """A webhook cannot be as it is described: its URL, an event type or another field."""


class UnknownWebhook(Refusal):
    """There is no webhook with this id."""

    cure = "Look the id up in the list of webhooks."

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"Unknown webhook {webhook_id}")


class WebhookConflict(Refusal):
    """The same event types are posted to the same URL already."""

    def __init__(self, known_id: str, url: str) -> None:
        super().__init__(
            f"Webhook {known_id} posts the same to {url} already",
            "If its secret is lost, rotate it; if it is disabled, remove it first.",
        )


class TooManyWebhooks(Refusal):
    """There are as many webhooks as there may be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"There are {most} webhooks, and no more are kept", "Remove one that nobody needs.")

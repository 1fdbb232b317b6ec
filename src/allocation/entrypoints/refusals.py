"""Maps every refusal and failure to its slug, status, exit code and text: one table for HTTP, /bulk and commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from allocation.domain.errors import (
    BatchArrived,
    BatchClosed,
    BatchConflict,
    CountBelowShipped,
    CountImpossible,
    CountOutdated,
    DeliveryArrived,
    FarDay,
    HoldConflict,
    HoldEndedAlready,
    HoldStillRuns,
    IdempotencyKeyReused,
    InvalidMessage,
    InvalidMoment,
    InvalidSku,
    InvalidWebhook,
    LedgerBeginsLater,
    LineClosed,
    LineConflict,
    LineWasSplit,
    NotArrived,
    NotEnoughStock,
    NothingDue,
    NotOnHand,
    NotPast,
    NotPinnable,
    NotReturnable,
    NotShippable,
    ProductChanged,
    Refusal,
    RetiredProduct,
    ShippedAlready,
    SolverMissing,
    TooManyWaiting,
    TooManyWebhooks,
    UnknownBatch,
    UnknownDeadLetter,
    UnknownDelivery,
    UnknownHold,
    UnknownLine,
    UnknownMessage,
    UnknownOrder,
    UnknownSku,
    UnknownWebhook,
    WebhookConflict,
)
from allocation.service_layer.writing.store import StoreUnavailable
from allocation.service_layer.writing.writer import RETRY_AFTER_S, Unavailable

EXIT_INVALID = 2
EXIT_UNKNOWN = 3
EXIT_CONFLICT = 4
EXIT_FAILURE = 70  # as in sysexits.h
EXIT_UNAVAILABLE = 75


class UnknownPath(Refusal):
    """The service has nothing at this path."""

    cure = "See /docs or /openapi.json for all paths."


class MethodNotAllowed(Refusal):
    """The path is served, but not with this method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not allowed here", f"Use {allowed}.")
        self.allowed = allowed


class TooLarge(Refusal):
    """The input is longer than the limit."""


class WrongContentType(Refusal):
    """The Content-Type of the body is not accepted here."""


class Forged(Refusal):
    """A form of the console was sent without the token that proves its origin."""

    cure = "Open the page again and send the form from there; cookies must be allowed."


class TooManyStreams(Refusal):
    """The maximum number of live console pages is reached."""

    cure = "Close console pages that you do not need. This page still works; reload it to update it."

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} pages are live already")


class ProofUnderWay(Refusal):
    """The books are being verified already, and only one verification runs at a time."""

    cure = "Wait for its result."


class UnknownImport(Refusal):
    """The import does not exist, was discarded, or was replaced by another one."""

    cure = "Choose the file again."

    def __init__(self) -> None:
        super().__init__("There is no such import")


class ImportUnderWay(Refusal):
    """Another file is being imported, and only one is imported at a time."""


class Kind(NamedTuple):
    """How one kind of refusal is reported. ``slug`` never changes: clients may distinguish kinds by it."""

    slug: str
    status: int
    exit_code: int
    title: str


REFUSALS: Mapping[type[Refusal], Kind] = {
    InvalidMessage: Kind("invalid-message", 400, EXIT_INVALID, "The input cannot be used"),
    InvalidSku: Kind("invalid-sku", 400, EXIT_INVALID, "No batch of this SKU was ever bought"),
    UnknownSku: Kind("unknown-sku", 404, EXIT_UNKNOWN, "There is no such product"),
    UnknownBatch: Kind("unknown-batch", 404, EXIT_UNKNOWN, "There is no such batch"),
    UnknownDelivery: Kind("unknown-delivery", 404, EXIT_UNKNOWN, "There is no such delivery"),
    UnknownOrder: Kind("unknown-order", 404, EXIT_UNKNOWN, "There is no such order"),
    UnknownMessage: Kind("unknown-message", 404, EXIT_UNKNOWN, "There is no such message"),
    UnknownDeadLetter: Kind("unknown-dead-letter", 404, EXIT_UNKNOWN, "There is no such dead letter"),
    UnknownLine: Kind("unknown-line", 404, EXIT_UNKNOWN, "There is no such order line"),
    UnknownHold: Kind("unknown-hold", 404, EXIT_UNKNOWN, "There is no such hold"),
    LedgerBeginsLater: Kind("ledger-begins-later", 404, EXIT_UNKNOWN, "The ledger does not go back so far"),
    InvalidMoment: Kind("invalid-moment", 400, EXIT_INVALID, "The moment is past, or too far away"),
    ProductChanged: Kind("product-changed", 409, EXIT_CONFLICT, "The product has changed meanwhile"),
    LineConflict: Kind("line-conflict", 409, EXIT_CONFLICT, "The order line was taken otherwise"),
    LineWasSplit: Kind("line-was-split", 409, EXIT_CONFLICT, "Only the last part of a line that was split is edited"),
    LineClosed: Kind("line-closed", 409, EXIT_CONFLICT, "The order line does not change any more"),
    NotShippable: Kind("not-shippable", 409, EXIT_CONFLICT, "The order line has no stock that could leave"),
    NotReturnable: Kind("not-returnable", 409, EXIT_CONFLICT, "So much was not shipped"),
    NotPinnable: Kind("not-pinnable", 409, EXIT_CONFLICT, "The order line cannot be pinned to that batch"),
    BatchArrived: Kind("batch-arrived", 409, EXIT_CONFLICT, "The batch is in the warehouse"),
    BatchClosed: Kind("batch-closed", 409, EXIT_CONFLICT, "The batch was cut to nothing"),
    NothingDue: Kind("nothing-due", 409, EXIT_CONFLICT, "Nothing of the batch is due"),
    NotArrived: Kind("not-arrived", 409, EXIT_CONFLICT, "Nothing of the batch is in the warehouse"),
    NotOnHand: Kind("not-on-hand", 409, EXIT_CONFLICT, "The warehouse does not have so much of the batch"),
    CountOutdated: Kind("count-outdated", 409, EXIT_CONFLICT, "The batch was counted later"),
    CountImpossible: Kind("count-impossible", 409, EXIT_CONFLICT, "More has left than was counted"),
    ShippedAlready: Kind("shipped-already", 409, EXIT_CONFLICT, "Goods of the batch were shipped"),
    DeliveryArrived: Kind("delivery-arrived", 409, EXIT_CONFLICT, "Nothing of the delivery is due"),
    RetiredProduct: Kind("retired-product", 409, EXIT_CONFLICT, "The product is not sold any more"),
    FarDay: Kind("far-day", 400, EXIT_INVALID, "The day is too far away"),
    NotPast: Kind("not-past", 409, EXIT_CONFLICT, "The day is not over"),
    CountBelowShipped: Kind("count-below-shipped", 409, EXIT_CONFLICT, "More of the batch was shipped"),
    HoldConflict: Kind("hold-conflict", 409, EXIT_CONFLICT, "The id belongs to something else"),
    HoldEndedAlready: Kind("hold-ended", 409, EXIT_CONFLICT, "The hold is over"),
    HoldStillRuns: Kind("hold-still-runs", 409, EXIT_CONFLICT, "The hold has not expired"),
    NotEnoughStock: Kind("not-enough-stock", 409, EXIT_CONFLICT, "No batch has room for it"),
    TooManyWaiting: Kind("too-many-waiting", 409, EXIT_CONFLICT, "No more lines may wait for this product"),
    SolverMissing: Kind("solver-missing", 409, EXIT_CONFLICT, "The rule needs a solver that is not installed"),
    BatchConflict: Kind("batch-conflict", 409, EXIT_CONFLICT, "The reference belongs to a different batch"),
    IdempotencyKeyReused: Kind("idempotency-key-reused", 422, EXIT_CONFLICT, "The key belongs to a different request"),
    InvalidWebhook: Kind("invalid-webhook", 400, EXIT_INVALID, "The webhook cannot be as it is described"),
    UnknownWebhook: Kind("unknown-webhook", 404, EXIT_UNKNOWN, "There is no such webhook"),
    WebhookConflict: Kind("webhook-conflict", 409, EXIT_CONFLICT, "The same is posted there already"),
    TooManyWebhooks: Kind("too-many-webhooks", 409, EXIT_CONFLICT, "No more webhooks are kept"),
    UnknownPath: Kind("unknown-path", 404, EXIT_UNKNOWN, "Nothing is served under this path"),
    MethodNotAllowed: Kind("method-not-allowed", 405, EXIT_INVALID, "The path does not take this method"),
    TooLarge: Kind("too-large", 413, EXIT_INVALID, "The input is too large"),
    WrongContentType: Kind("wrong-content-type", 415, EXIT_INVALID, "The body has a type that is not read"),
    Forged: Kind("forged", 403, EXIT_INVALID, "The form is not known to be ours"),
    TooManyStreams: Kind("too-many-streams", 503, EXIT_UNAVAILABLE, "No more pages are kept live"),
    UnknownImport: Kind("unknown-import", 404, EXIT_UNKNOWN, "There is no such import"),
    ImportUnderWay: Kind("import-under-way", 409, EXIT_CONFLICT, "Another file is imported"),
    ProofUnderWay: Kind("proof-under-way", 409, EXIT_CONFLICT, "The books are being proved already"),
}
UNAVAILABLE = Kind("unavailable", 503, EXIT_UNAVAILABLE, "The service cannot take this now")
FAILURE = Kind("failure", 500, EXIT_FAILURE, "The service failed")

KINDS = (*REFUSALS.values(), UNAVAILABLE, FAILURE)


class Told(NamedTuple):
    """A refusal or failure in words: ``message`` is the refusal's own text, ``detail`` adds the cure."""

    kind: Kind
    message: str
    detail: str


def tell(error: Exception) -> Told:
    """Return the answer for an error. The text of a failure is not shown, because it belongs in the log."""
    match error:
        case Refusal():
            message = str(error)
            return Told(REFUSALS[type(error)], message, f"{message}. {error.cure}" if error.cure else f"{message}.")
        case Unavailable():
            return Told(UNAVAILABLE, str(error), f"{error}. Try again in {RETRY_AFTER_S} s; repeating is safe.")
        case StoreUnavailable():
            message = "The database is unavailable"
            return Told(UNAVAILABLE, message, f"{message}. Try again in {RETRY_AFTER_S} s.")
        case _:
            message = "The service failed, and nothing was changed"
            return Told(FAILURE, message, f"{message}. The reason is in its log.")

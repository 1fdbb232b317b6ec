"""The answer to each event from outside: the same over HTTP, in bulk lines and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Literal, TypedDict

from allocation.domain.events import (
    AllocatedQuantityRepaired,
    AllocationCancelled,
    AllocationRequired,
    BatchCorrected,
    BatchCounted,
    BatchCreated,
    BatchEtaChanged,
    BatchExpired,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    DeliveryEtaChanged,
    DeliveryOverdue,
    DeliveryReceived,
    Event,
    HoldConfirmed,
    HoldExpired,
    HoldReleased,
    LineBecameLate,
    LinePinned,
    LineQuantityChanged,
    LineReturned,
    LineShipped,
    MoveUpRequired,
    ProductReinstated,
    ProductRetired,
    PromiseChanged,
    ReceiptUndone,
    RepairRequired,
    RulesChanged,
    ShippedQuantityRepaired,
    StockAdjusted,
    StockHeld,
    StockTransferred,
    WaitingLinesRepaired,
)
from allocation.service_layer.messages import Outcome
from allocation.service_layer.previewing.line_changes import ways


class BatchAnswer(TypedDict):
    """The batch is known."""

    batchref: str


class LineAnswer(TypedDict):
    """The batch of the line; null: it waits."""

    batchref: str | None


class Part(TypedDict):
    """A part of a split line: its quantity and its batch; null: it waits."""

    orderid: str
    qty: int
    batchref: str | None


class AllocationAnswer(LineAnswer, total=False):
    """The batch of the line, or of its first part; null: it waits. ``parts`` is present if the line was split."""

    parts: list[Part]


# `from` is no name in Python.
Move = TypedDict("Move", {"orderid": str, "sku": str, "qty": int, "from": str | None, "to": str | None})
Move.__doc__ = "A move of a line or hold from batch to batch; `to` is null if the line waits, or the hold is lost."


class CountAnswer(TypedDict):
    """The batch was changed; ``moved`` has the lines and holds that moved."""

    batchref: str
    moved: list[Move]


class Promised(TypedDict):
    """The day a line was promised for and the day it is now (null: it waits), and by how many days that is late."""

    orderid: str
    sku: str
    qty: int
    before: date | None
    after: date | None
    late_days: int


class ProductAnswer(TypedDict):
    """The product is as was asked for."""

    sku: str


class DeliveryAnswer(TypedDict):
    """``moved`` has the lines and holds that moved, ``promises`` the lines promised for another day than before."""

    delivery: str
    moved: list[Move]
    promises: list[Promised]


class DayAnswer(CountAnswer):
    """``promises`` are the lines promised for another day than before."""

    promises: list[Promised]


class PlaceAnswer(TypedDict):
    """The batch of the line; null: it waits. ``moved`` has other lines that moved."""

    batchref: str | None
    moved: list[Move]


class EndAnswer(TypedDict):
    """The line or hold is no promise any more; ``moved`` are the lines that its stock was given to."""

    moved: list[Move]


class RulesAnswer(TypedDict):
    """The product has the new rules; ``moved`` are the waiting lines that are served by them."""

    sku: str
    moved: list[Move]


class MoveUpAnswer(TypedDict):
    """``moved`` has the lines that are now in time, and the waiting lines that got their stock."""

    sku: str
    moved: list[Move]


class LateAnswer(TypedDict):
    """The line waits; ``late_days`` is the number of days since it was needed."""

    late_days: int


class Repair(TypedDict):
    """A counter that was off: of a batch, or the number of waiting lines (of none: null)."""

    counter: Literal["allocated_quantity", "shipped_quantity", "waiting_lines"]
    batchref: str | None
    stored: int
    counted: int


class RepairAnswer(TypedDict):
    """The product's counters now agree with its lines; ``repaired`` has the counters that were wrong."""

    sku: str
    repaired: list[Repair]


def batch_answer(outcome: Outcome) -> BatchAnswer:
    return {"batchref": outcome.result}


def line_answer(outcome: Outcome) -> LineAnswer:
    return {"batchref": outcome.result}


def allocation_answer(outcome: Outcome) -> AllocationAnswer:
    if isinstance(outcome.result, list):
        return {"batchref": outcome.result[0]["batchref"], "parts": outcome.result}
    return {"batchref": outcome.result}


def count_answer(outcome: Outcome) -> CountAnswer:
    return {"batchref": outcome.result, "moved": moves(outcome.raised)}


def day_answer(outcome: Outcome) -> DayAnswer:
    return {"batchref": outcome.result, "moved": moves(outcome.raised), "promises": promises(outcome.raised)}


def delivery_answer(outcome: Outcome) -> DeliveryAnswer:
    return {"delivery": outcome.result, "moved": moves(outcome.raised), "promises": promises(outcome.raised)}


def product_answer(outcome: Outcome) -> ProductAnswer:
    return {"sku": outcome.result}


def promises(raised: Iterable[Event]) -> list[Promised]:
    """The lines that are promised for another day, in the order told."""
    return [
        {
            "orderid": event.orderid,
            "sku": event.sku,
            "qty": event.qty,
            "before": event.before,
            "after": event.after,
            "late_days": event.late_days,
        }
        for event in raised
        if isinstance(event, PromiseChanged)
    ]


def place_answer(outcome: Outcome) -> PlaceAnswer:
    orderid = getattr(outcome.message.event, "orderid", None)
    moved = moves(outcome.raised)
    own = [move["to"] for move in moved if move["orderid"] == orderid]
    others = [move for move in moved if move["orderid"] != orderid]
    return {"batchref": own[0] if own else outcome.result, "moved": others}


def end_answer(outcome: Outcome) -> EndAnswer:
    return {"moved": moves(outcome.raised)}


def rules_answer(outcome: Outcome) -> RulesAnswer:
    return {"sku": outcome.result, "moved": moves(outcome.raised)}


def move_up_answer(outcome: Outcome) -> MoveUpAnswer:
    return {"sku": outcome.result, "moved": moves(outcome.raised)}


def late_answer(outcome: Outcome) -> LateAnswer:
    return {"late_days": outcome.result}


def repair_answer(outcome: Outcome) -> RepairAnswer:
    return {"sku": outcome.result, "repaired": list(_repairs(outcome.raised))}


ANSWERS: Mapping[type[Event], Callable[[Outcome], Mapping[str, Any]]] = {
    BatchCreated: batch_answer,
    AllocationRequired: allocation_answer,
    BatchQuantityChanged: count_answer,
    BatchEtaChanged: day_answer,
    BatchReceived: day_answer,
    ReceiptUndone: day_answer,
    DeliveryEtaChanged: delivery_answer,
    DeliveryReceived: delivery_answer,
    BatchCounted: day_answer,
    StockAdjusted: day_answer,
    BatchCorrected: day_answer,
    StockTransferred: day_answer,
    ProductRetired: product_answer,
    ProductReinstated: product_answer,
    BatchQuarantined: count_answer,
    BatchReleased: count_answer,
    BatchExpired: count_answer,
    DeliveryOverdue: day_answer,
    LineBecameLate: late_answer,
    AllocationCancelled: end_answer,
    LineQuantityChanged: place_answer,
    LineShipped: line_answer,
    LineReturned: end_answer,
    LinePinned: place_answer,
    StockHeld: line_answer,
    HoldConfirmed: line_answer,
    HoldReleased: end_answer,
    HoldExpired: end_answer,
    RulesChanged: rules_answer,
    MoveUpRequired: move_up_answer,
    RepairRequired: repair_answer,
}


def answer(outcome: Outcome) -> Mapping[str, Any]:
    """The members of the answer, ready for JSON."""
    return ANSWERS[type(outcome.message.event)](outcome)


def moves(raised: Iterable[Event]) -> list[Move]:
    """The lines and holds that are elsewhere now, in the order first touched.

    The part that was cut off a line comes from the batch of the line.
    """
    return [
        {
            "orderid": orderid,
            "sku": sku,
            "qty": way.end.line.qty,
            "from": None if way.start is None else way.start.batchref,
            "to": way.end.batchref,
        }
        for (orderid, sku), way in ways(raised).items()
        if way.is_move
    ]


def _repairs(raised: Iterable[Event]) -> Iterator[Repair]:
    for event in raised:
        match event:
            case AllocatedQuantityRepaired(_, batchref, stored, counted):
                yield {"counter": "allocated_quantity", "batchref": batchref, "stored": stored, "counted": counted}
            case ShippedQuantityRepaired(_, batchref, stored, counted):
                yield {"counter": "shipped_quantity", "batchref": batchref, "stored": stored, "counted": counted}
            case WaitingLinesRepaired(_, stored, counted):
                yield {"counter": "waiting_lines", "batchref": None, "stored": stored, "counted": counted}

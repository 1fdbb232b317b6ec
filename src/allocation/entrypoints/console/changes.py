"""The changes that the console offers: for each change its event and its form fields.

Every change is previewed first, then made: see `steering`. The limits of a field are declared with its event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from allocation.domain.events import (
    AllocationCancelled,
    BatchCorrected,
    BatchCounted,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    DeliveryEtaChanged,
    DeliveryReceived,
    Event,
    LinePinned,
    LineQuantityChanged,
    LineReturned,
    LineShipped,
    MoveUpRequired,
    ProductReinstated,
    ProductRetired,
    ReceiptUndone,
    RulesChanged,
    StockAdjusted,
    StockTransferred,
)
from allocation.domain.fields import CLOSED, EXPECTED, INSPECT, SCRAP, STOCK, OneOf
from allocation.service_layer.handlers import HANDLERS
from allocation.service_layer.messages import FieldRule, field_rules

INPUT_TYPES = {"bool": "checkbox", "date": "date", "datetime": "datetime-local", "int": "number", "str": "text"}
SUBJECTS: Mapping[str, Sequence[str]] = {
    "batches": ("ref",),
    "deliveries": ("delivery",),
    "orders": ("orderid", "sku"),
    "products": ("sku",),
}
WORDS: Mapping[str, str] = {
    EXPECTED: "still expected",
    CLOSED: "closed: it will not come",
    STOCK: "sell them again",
    INSPECT: "inspect them before they are sold again",
    SCRAP: "scrap them",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a batch, a delivery, an order line or a product. ``place`` is the kind of that subject.

    ``asked`` has the fields of the form, with their labels; the fields that identify the subject are in `SUBJECTS`.
    """

    kind: type[Event]
    place: str
    verb: str
    about: str
    asked: Mapping[str, str] = field(default_factory=dict)
    is_grave: bool = False

    @property
    def name(self) -> str:
        return HANDLERS[self.kind][0].__name__

    @property
    def subject(self) -> Sequence[str]:
        """The fields that identify the subject of the change."""
        return SUBJECTS[self.place]

    @property
    def moments(self) -> Sequence[str]:
        """The fields of the form that have a day and a time."""
        return [each.name for each in self.inputs() if each.type == "datetime-local"]

    def inputs(self) -> Sequence[Input]:
        rules = {rule.name: rule for rule in field_rules(self.kind)}
        return [_input(rules[name], label) for name, label in self.asked.items()]


class Input(NamedTuple):
    """A field of a form; ``choices`` are its allowed words, with their labels; empty means any text.

    ``usual`` is the default as a text, empty for a field that can be left out.
    """

    name: str
    label: str
    type: str
    required: bool
    takes: str
    meaning: str
    choices: Mapping[str, str]
    usual: str


CHANGES: Mapping[str, Change] = {
    each.name: each
    for each in (
        Change(
            BatchReceived,
            "batches",
            "Receive",
            "Stock of the batch arrived. It serves the lines of the batch in their order; the rest stays due.",
            {
                "qty": "Quantity that arrived",
                "rest": "The rest is",
                "rest_eta": "The rest is due on",
                "quarantine": "Put it in quarantine because of",
            },
        ),
        Change(
            ReceiptUndone,
            "batches",
            "Undo the receipt",
            "The stock had not arrived. It is due again on its last ETA.",
            {"qty": "Quantity that had not arrived"},
            is_grave=True,
        ),
        Change(
            BatchEtaChanged,
            "batches",
            "Change the ETA",
            "The batch is due on another day. Lines that would be late move to batches that are in time.",
            {"eta": "Due on"},
        ),
        Change(
            DeliveryEtaChanged,
            "deliveries",
            "Change the ETA of the delivery",
            "All batches that are due with the delivery have another ETA. Lines that would be late move.",
            {"eta": "Due on"},
        ),
        Change(
            DeliveryReceived,
            "deliveries",
            "Receive the delivery",
            "The delivery arrived complete. If some of it is missing, receive its batches one by one.",
        ),
        Change(
            BatchCounted,
            "batches",
            "Count",
            "The stock in the warehouse was counted. If some is missing, the newest lines lose their stock first.",
            {"on_hand": "Quantity counted", "reason": "Reason for a difference", "counted_at": "Counted at"},
        ),
        Change(
            StockAdjusted,
            "batches",
            "Adjust",
            "The warehouse has more or less of the batch than was known.",
            {"by": "More, or less with a minus sign", "reason": "Reason", "note": "Note"},
        ),
        Change(
            StockTransferred,
            "batches",
            "Transfer",
            "Stock moves to another warehouse. A part of the stock becomes a batch of its own.",
            {
                "to_location": "To the warehouse",
                "qty": "Quantity, if it is a part",
                "new_ref": "Reference of the new batch",
                "eta": "There on",
                "keep_lines": "Lines move with the stock",
            },
        ),
        Change(
            BatchCorrected,
            "batches",
            "Correct",
            "A value of the batch was wrong. Empty fields stay as they are.",
            {
                "eta": "Right ETA",
                "expires_on": "Right last day",
                "location": "Right warehouse",
                "delivery": "Right delivery",
                "clear": "None of it is right",
            },
        ),
        Change(
            BatchQuantityChanged,
            "batches",
            "Change the purchased quantity",
            "The purchase was changed. If less stock comes than is allocated, the newest lines lose their stock first.",
            {"qty": "Quantity purchased"},
        ),
        Change(
            BatchQuarantined,
            "batches",
            "Quarantine",
            "The batch is not sold until it is released.",
            {"reason": "Reason", "keep_lines": "Lines keep the batch, and wait for its release"},
            is_grave=True,
        ),
        Change(BatchReleased, "batches", "Release", "The batch can be sold again, first to waiting lines."),
        Change(
            LineQuantityChanged,
            "orders",
            "Change the quantity",
            "The customer wants more or less. The line stays on its batch if there is enough stock.",
            {"qty": "Quantity wanted"},
        ),
        Change(
            LinePinned,
            "orders",
            "Pin to a batch",
            "The line moves to this batch and stays there; the newest lines make room for it.",
            {"batchref": "Batch", "reason": "Reason"},
        ),
        Change(LineShipped, "orders", "Ship", "The line leaves the warehouse, and never moves again."),
        Change(
            LineReturned,
            "orders",
            "Return",
            "The customer sent shipped items back. Leave the quantity empty if all of them came back.",
            {"qty": "Quantity returned", "disposition": "With the returned items"},
        ),
        Change(
            AllocationCancelled,
            "orders",
            "Cancel",
            "The customer does not want the line any more. Its stock is allocated to waiting lines.",
            is_grave=True,
        ),
        Change(
            ProductRetired,
            "products",
            "Retire",
            "The product is not sold any more: it takes no new lines, and lists do not show it. Promises are kept.",
            is_grave=True,
        ),
        Change(ProductReinstated, "products", "Reinstate", "The product is sold again."),
        Change(
            MoveUpRequired,
            "products",
            "Move late lines up",
            "Late lines move to batches that arrive in time, as far as there is stock.",
        ),
        Change(
            RulesChanged,
            "products",
            "Change the rules",
            "Allocated lines stay where they are; waiting lines may be allocated. Empty fields use the defaults.",
            {
                "strategy": "Order of the batches",
                "location": "Preferred location",
                "safety_stock": "Kept in the warehouse",
                "shelf_life_days": "Days that stock must last",
                "most_waiting": "Maximum number of backorders",
                "ages_after": "Changes after which a waiting line gains one priority",
                "frozen_days": "Days before the need-by day in which a line is not moved",
                "most_moved": "Maximum number of lines moved by one change",
                "move_up": "Late lines move to stock that arrives in time",
                "least_harm": "Choose the lines to move by least harm",
            },
        ),
    )
}


def _input(rule: FieldRule, label: str) -> Input:
    words = rule.limit.words if isinstance(rule.limit, OneOf) else ()
    choices = {word: WORDS.get(word, word) for word in words}
    type_ = INPUT_TYPES[rule.base.__name__]
    usual = "true" if rule.default is True else rule.default if isinstance(rule.default, str) else ""
    return Input(rule.name, label, type_, rule.required, str(rule), rule.meaning, choices, usual)

"""The changes that the console offers: for each change its event and its form fields.

Every change is previewed first, then made: see `steering`. The limits of a field are declared with its event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from allocation.domain.events import (
    AllocationCancelled,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    Event,
    LinePinned,
    LineQuantityChanged,
    LineReturned,
    LineShipped,
    MoveUpRequired,
    RulesChanged,
)
from allocation.domain.fields import OneOf
from allocation.service_layer.handlers import HANDLERS
from allocation.service_layer.messages import FieldRule, field_rules

INPUT_TYPES = {"bool": "checkbox", "date": "date", "int": "number", "str": "text"}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a batch, an order line or a product's rules. ``place`` is the console page of that subject.

    ``asked`` has the fields of the form, with their labels; all other fields of the event identify the subject.
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
        return [rule.name for rule in field_rules(self.kind) if rule.name not in self.asked]

    def inputs(self) -> Sequence[Input]:
        rules = {rule.name: rule for rule in field_rules(self.kind)}
        return [_input(rules[name], label) for name, label in self.asked.items()]


class Input(NamedTuple):
    """A field of a form; ``choices`` are its allowed words; empty means any text."""

    name: str
    label: str
    type: str
    required: bool
    takes: str
    meaning: str
    choices: Sequence[str]


CHANGES: Mapping[str, Change] = {
    each.name: each
    for each in (
        Change(
            BatchQuantityChanged,
            "batches",
            "Change the quantity",
            "The batch was recounted. If it has less stock than allocated, the newest lines lose their stock first.",
            {"qty": "Quantity counted"},
        ),
        Change(
            BatchEtaChanged,
            "batches",
            "Change the ETA",
            "The delivery is due on another day. Lines that would be late move to batches that are in time.",
            {"eta": "Due on"},
        ),
        Change(
            BatchReceived,
            "batches",
            "Receive",
            "The delivery is in the warehouse. Enter the counted quantity, or leave it empty if all of it arrived.",
            {"qty": "Quantity counted"},
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
            "Shipped items return to their batch, or are scrapped. Leave the quantity empty if all of them came back.",
            {"qty": "Quantity returned", "scrapped": "Scrap the returned items"},
        ),
        Change(
            AllocationCancelled,
            "orders",
            "Cancel",
            "The customer does not want the line any more. Its stock is allocated to waiting lines.",
            is_grave=True,
        ),
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
    choices = rule.limit.words if isinstance(rule.limit, OneOf) else ()
    type_ = INPUT_TYPES[rule.base.__name__]
    return Input(rule.name, label, type_, rule.required, str(rule), rule.meaning, choices)

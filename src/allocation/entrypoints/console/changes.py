"""What can be changed from the console: for each change the event it sends, and what it asks for.

Every change is looked at first, then made: see `steering`. What a field takes is declared with its event.
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
    """A change of a batch, an order line or a product's rules, which is where ``place`` leads to.

    ``asked`` are the fields to fill in, with their labels; all others of the event say what is to be changed.
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
        """The fields that say what is to be changed."""
        return [rule.name for rule in field_rules(self.kind) if rule.name not in self.asked]

    def inputs(self) -> Sequence[Input]:
        rules = {rule.name: rule for rule in field_rules(self.kind)}
        return [_input(rules[name], label) for name, label in self.asked.items()]


class Input(NamedTuple):
    """A field of a form; ``choices`` are the words that it takes, empty: it takes any."""

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
            "The batch was counted anew. If it has less than is promised of it, the lines that came last leave first.",
            {"qty": "Quantity counted"},
        ),
        Change(
            BatchEtaChanged,
            "batches",
            "Change the ETA",
            "The delivery is due on another day. Lines that would come too late move where they come in time.",
            {"eta": "Due on"},
        ),
        Change(
            BatchReceived,
            "batches",
            "Receive",
            "The delivery is in the warehouse. Say how much was counted, or leave it empty if all of it came.",
            {"qty": "Quantity counted"},
        ),
        Change(
            BatchQuarantined,
            "batches",
            "Quarantine",
            "Nothing of the batch is sold until it is released.",
            {"reason": "Reason", "keep_lines": "Lines keep the batch, and wait for its release"},
            is_grave=True,
        ),
        Change(BatchReleased, "batches", "Release", "The batch may be sold again, first to the lines that wait."),
        Change(
            LineQuantityChanged,
            "orders",
            "Change the quantity",
            "The customer wants more or less. The line stays on its batch if that has room.",
            {"qty": "Quantity wanted"},
        ),
        Change(
            LinePinned,
            "orders",
            "Pin to a batch",
            "The line is put on this batch and stays there; the lines that came last make room for it.",
            {"batchref": "Batch", "reason": "Reason"},
        ),
        Change(LineShipped, "orders", "Ship", "The line leaves the warehouse, and never moves again."),
        Change(
            LineReturned,
            "orders",
            "Return",
            "What was shipped comes back into its batch, or is scrapped. Leave the quantity empty if all of it came.",
            {"qty": "Quantity that came back", "scrapped": "Nobody can use it: it is scrapped"},
        ),
        Change(
            AllocationCancelled,
            "orders",
            "Cancel",
            "The customer does not want the line any more. Its stock is given to the lines that wait.",
            is_grave=True,
        ),
        Change(
            MoveUpRequired,
            "products",
            "Move late lines up",
            "Lines promised too late move to batches that are there in time, as far as there is room.",
        ),
        Change(
            RulesChanged,
            "products",
            "Change the rules",
            "Promises stay as they are; lines that wait may be served. What is left empty is as usual.",
            {
                "strategy": "Order of the batches",
                "location": "Location preferred",
                "safety_stock": "Kept in the warehouse",
                "shelf_life_days": "Days that stock has to last",
                "most_waiting": "Lines that may wait",
                "ages_after": "Changes after which a waiting line gains a priority",
                "frozen_days": "Days before need in which a line makes no room",
                "most_moved": "Lines that one change may move by choice",
                "move_up": "Late lines move to stock that is there in time",
                "least_harm": "Choose the lines to move by the least harm",
            },
        ),
    )
}


def _input(rule: FieldRule, label: str) -> Input:
    choices = rule.limit.words if isinstance(rule.limit, OneOf) else ()
    type_ = INPUT_TYPES[rule.base.__name__]
    return Input(rule.name, label, type_, rule.required, str(rule), rule.meaning, choices)

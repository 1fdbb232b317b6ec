"""The ledger rows of a message.

Each message has a row of its own, except some facts: a fact that sets nothing off, and is about the same line as its
cause or about the product alone, is kept in the row of its cause. So an allocated order is one row and not two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from allocation.domain.events import Event
from allocation.domain.standing import NAME_OF
from allocation.service_layer.handlers import EFFECTS, HANDLERS
from allocation.service_layer.messages import Message, encode, field_rules, recall
from allocation.service_layer.writing.store import DeliveryRow, MessageRow

Trail = Sequence[tuple[Event, int | None]]  # by step: the handled event, and the step of its cause

EffectsOf = Callable[[type[Event]], Sequence[str]]

_FACTS: Final = frozenset(kind for kind, handlers in HANDLERS.items() if not handlers)
_OF_THE_PRODUCT: Final = frozenset(kind for kind in _FACTS if [rule.name for rule in field_rules(kind)] == ["sku"])
_DECLARED: Final = {kind: [effect.__name__ for effect in effects] for kind, effects in EFFECTS.items()}
_ONCE: Final = frozenset(effect for effects in _DECLARED.values() for effect in effects)


def declared_effects(kind: type[Event]) -> Sequence[str]:
    """The names of the effects that every event of a kind has."""
    return _DECLARED.get(kind, ())


def fold(
    message: Message,
    result: Any,
    trail: Trail,
    sku_of: Callable[[Event], str],
    effects_of: EffectsOf = declared_effects,
) -> tuple[Sequence[MessageRow], Sequence[DeliveryRow]]:
    """The rows of a message and all it set off, in the order handled, and the effects that they still have to have.

    A declared effect has one delivery for equal events of a cascade, however often one is raised: five lines that wait
    for a product are one mail. A webhook gets each event, since each has an id of its own.
    """
    id_, actor = message.id, message.actor
    bodies: list[tuple[int, str]] = []
    facts: defaultdict[int, list[str]] = defaultdict(list)  # by the step of the row they are kept in
    deliveries = []
    told: dict[tuple[str, str, str, str], int] = {}  # the step of each effect and event that is delivered
    orderids = [NAME_OF[type(event)](event) for event, _ in trail]
    for step, (event, cause) in enumerate(trail):
        kind = type(event)
        body = encode(event)
        if cause is not None and kind in _FACTS and (orderids[step] == orderids[cause] or kind in _OF_THE_PRODUCT):
            facts[cause].append(f'[{step},"{kind.__name__}",{body}]')
        else:
            bodies.append((step, body))
        if effects := effects_of(kind):
            about = (sku_of(event), kind.__name__, body)
            deliveries += [
                DeliveryRow(id_, step, effect, *about)
                for effect in effects
                if effect not in _ONCE or told.setdefault((effect, *about), step) == step
            ]
    rows = []
    for step, body in bodies:
        event, cause = trail[step]
        kept = f"[{','.join(facts[step])}]" if step in facts else None
        answer = None if step else msgspec.json.encode(result).decode()
        name = type(event).__name__
        rows.append(MessageRow(id_, step, cause, name, sku_of(event), orderids[step], body, kept, answer, actor))
    return rows, deliveries


def unfold(row: MessageRow) -> Iterator[tuple[int, Event]]:
    """The messages kept in a row by their steps, its own first."""
    yield row.step, recall(row.type, row.body)
    for step, type_, body in msgspec.json.decode(row.facts or "[]", type=list[tuple[int, str, msgspec.Raw]]):
        yield step, recall(type_, bytes(body))

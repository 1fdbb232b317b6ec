"""Every message is declared once, whole: nothing is forgotten in a table, every field says what it takes."""

from __future__ import annotations

import inspect
import json
import random
import re
from datetime import date, datetime
from typing import Any

import pytest

from allocation.domain import events
from allocation.domain.errors import InvalidMessage
from allocation.service_layer.handlers import EFFECTS, HANDLERS, NEEDS, RAISES
from allocation.service_layer.messages import decode, field_rules, incoming_types
from tests.lives import random_event

DECLARED = [
    kind
    for _, kind in inspect.getmembers(events, inspect.isclass)
    if issubclass(kind, events.Event) and kind not in {events.Event, events.Request, events.Notice}
]
HARD_TO_READ = re.compile(r"\b(what|who|whoever|those|anew|for ever|of which|stands?|goes|is told)\b", re.IGNORECASE)
RIGHT = {str: "x", int: 1, bool: True, date: "2026-01-31", datetime: "2026-01-31T12:00:00Z"}


def test_every_event_has_a_row() -> None:
    assert set(HANDLERS) == set(DECLARED)
    assert set(EFFECTS) <= set(HANDLERS)


def test_every_event_that_is_handled_says_which_rows_it_needs() -> None:
    assert set(NEEDS) <= {event for event, handlers in HANDLERS.items() if handlers}


def test_every_handler_declares_what_it_may_raise() -> None:
    assert {handler for handlers in HANDLERS.values() for handler in handlers} == set(RAISES)
    assert {event for raised in RAISES.values() for event in raised} <= set(HANDLERS)


def test_the_random_lives_have_events_of_every_kind_that_comes_from_outside() -> None:
    dice = random.Random(1)
    played = {type(random_event(dice)).__name__ for _ in range(4_000)}
    assert played == set(incoming_types())


@pytest.mark.parametrize("kind", DECLARED)
def test_every_event_says_what_it_means(kind: type[events.Event]) -> None:
    written = inspect.getdoc(kind) or ""
    assert not written.startswith(f"{kind.__name__}("), "that is what dataclass writes where nobody did"
    assert written.endswith(".")


@pytest.mark.parametrize("kind", DECLARED)
def test_every_field_has_a_rule_that_its_refusal_tells(kind: Any) -> None:
    right: dict[str, Any] = {}
    for rule in field_rules(kind):
        assert rule.base in {str, int, bool, date, datetime}, rule
        assert (rule.limit is None) == (rule.base in {bool, date, datetime}), rule
        with pytest.raises(InvalidMessage) as refused:
            decode(kind, json.dumps({**right, rule.name: []}))
        assert refused.value.message == f"{rule.name} is []"
        assert refused.value.cure == f"{rule.name} takes {rule}."
        right |= {rule.name: RIGHT[rule.base]} if rule.required else {}


@pytest.mark.parametrize("kind", DECLARED)
def test_every_field_says_in_one_sentence_what_it_means(kind: Any) -> None:
    for rule in field_rules(kind):
        assert re.fullmatch(r"[A-Z][^.!?]{8,}[^.!?:;, ]", rule.meaning), rule
        assert not HARD_TO_READ.search(rule.meaning), rule


@pytest.mark.parametrize("doing", [*RAISES, *(effect for effects in EFFECTS.values() for effect in effects)])
def test_every_use_case_says_what_it_does_in_a_sentence(doing: Any) -> None:
    assert inspect.getdoc(doing)
    assert len(inspect.getdoc(doing).splitlines()) == 1  # type: ignore[union-attr]

"""Any text as a name, and any values as an event: every way in takes the same, and no two names look alike."""

from __future__ import annotations

import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import Event, LineShipped
from allocation.domain.fields import MAX_TEXT_LENGTH, cleaned
from allocation.entrypoints.intake.texts import event_from_texts
from allocation.service_layer.messages import (
    EVENTS,
    decode,
    encode,
    field_rules,
    from_fields,
    incoming_types,
    new_message,
)
from allocation.service_layer.writing.stream import parse_line

# Letters with marks, in both forms; spaces of all kinds; and whatever else there is.
LIKELY = st.text("ABe\u00c9\u0301\u212b\u0958 \t\n\u00a0\u3000\u200b-7", max_size=8)
TEXTS = st.one_of(LIKELY, st.text(max_size=12), st.text(st.characters(), min_size=250, max_size=260))


def accepted(way: Any, *arguments: Any) -> Event | None:
    """The event; None if it is refused."""
    try:
        event: Event = way(*arguments)
    except InvalidMessage:
        return None
    return event


def typed(**fields: Any) -> bytes:
    return msgspec.json.encode({"type": "LineShipped", **fields})


@given(TEXTS)
@example(" ")
@example("\u0301")
@example("A" * MAX_TEXT_LENGTH + " ")
@example("\u0958" * 200)  # of which each becomes two characters
def test_every_way_in_takes_the_same_names(text: str) -> None:
    event = LineShipped("o1", text)
    told = accepted(lambda: new_message(event, "test").event)
    is_name = 0 < len(text) <= MAX_TEXT_LENGTH and text.isprintable() and cleaned(text) == text
    assert told == (event if is_name else None)
    assert accepted(from_fields, LineShipped, {"orderid": "o1", "sku": text}) == told
    assert accepted(event_from_texts, LineShipped, {"orderid": "o1", "sku": text}) == told
    try:
        body = encode(event)
    except UnicodeEncodeError:  # half a character, which JSON cannot carry
        return
    assert accepted(decode, LineShipped, body) == told
    assert accepted(lambda: parse_line(typed(orderid="o1", sku=text), "test").event) == told


@given(TEXTS.filter(lambda text: not any("\ud800" <= each <= "\udfff" for each in text)))
def test_files_take_a_text_as_the_name_that_it_looks_like(text: str) -> None:
    name = cleaned(text)
    told = accepted(lambda: parse_line(typed(orderid="o1", sku=text), "test", clean=True).event)
    assert told == accepted(from_fields, LineShipped, {"orderid": "o1", "sku": name})


@given(TEXTS)
def test_a_name_is_in_normal_form_and_trimmed_after_one_cleaning(text: str) -> None:
    name = cleaned(text)
    assert cleaned(name) == name == name.strip()
    assert unicodedata.is_normalized("NFC", name)
    assert cleaned(unicodedata.normalize("NFD", text)) == name
    assert cleaned(f" {text}\u3000") == name


VALUES = st.one_of(
    st.sampled_from(["b1", "BED ", "", "2026-01-31", "2026-01-31T12:00:00Z", "first-expired", "x" * 256]),
    st.sampled_from([0, 1, 9, 10, -1, 10**9, 10**9 + 1, 3_651, True, False, None, 1.5]),
)


@pytest.mark.parametrize("name", incoming_types())
@given(st.data())
def test_an_event_made_in_python_has_the_limits_of_its_json(name: str, data: st.DataObject) -> None:
    kind = EVENTS[name]
    values = {
        rule.name: data.draw(VALUES, rule.name)
        for rule in field_rules(kind)
        if rule.required or data.draw(st.booleans())
    }
    told = accepted(from_fields, kind, values)
    if told is None:
        has_dates = any(isinstance(value, str) and value.startswith("2026") for value in values.values())
        assert has_dates or accepted(lambda: new_message(kind(**values), "test").event) is None
    else:
        assert new_message(told, "test").event is told

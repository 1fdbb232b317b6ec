"""Events from texts, as options of a command and cells of a CSV file carry them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from allocation.domain.events import Event
from allocation.service_layer.messages import FieldRule, field_rules, from_fields

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
MAX_DIGITS = 20  # longer numbers are out of every limit, and shown as they were given


def event_from_texts(kind: type[Event], texts: Mapping[str, str], stored: Collection[str] = ()) -> Event:
    """The event; an empty text of an optional field means that it is absent. Raises `InvalidMessage`.

    The ``stored`` fields name things that are stored, with the text that they are stored by.
    """
    rules = {rule.name: rule for rule in field_rules(kind)}
    return from_fields(
        kind,
        {
            name: _value(rules.get(name), text)
            for name, text in texts.items()
            if text or name not in rules or rules[name].required
        },
        stored,
    )


def _value(rule: FieldRule | None, text: str) -> str | int | bool:
    if rule is not None and rule.base is bool:
        return TRUTHS.get(text.lower(), text)
    if rule is None or rule.base is not int or len(text) > MAX_DIGITS:
        return text
    return int(text) if text.isascii() and text.removeprefix("-").isdecimal() else text

"""Messages, and everything derived from an event's declaration: checking, JSON in and out.

A message is an event with its envelope. Adding a field to an event changes nothing here.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from datetime import date, datetime
from types import NoneType
from typing import Any, Final, NamedTuple
from unicodedata import is_normalized

import msgspec
import uuid_utils

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import Event
from allocation.domain.fields import CLOSED, MAX_TEXT_LENGTH, Between, Meaning, OneOf, Text, cleaned
from allocation.service_layer.handlers import HANDLERS

EVENTS: Final[Mapping[str, type[Event]]] = {kind.__name__: kind for kind in HANDLERS}
UNREADABLE = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
)  # the errors for text that is not JSON, or nested too deeply
MAX_ACTOR_LENGTH = 100
_OWN_TYPES = (date, datetime)  # of the fields of an event, which JSON has as texts
_MOST_SHOWN = 60  # characters of a value in a refusal
STEP_MARK = "~"  # between a correlation id and a step, in the id of a message that another one set off

# The meaning of a row without the field, where that is not the field's default. A row with required fields alone has
# all defaults, as it is written today.
MEANT_BEFORE: Final[Mapping[str, dict[str, Any]]] = {"BatchReceived": {"rest": CLOSED}}

_encode = msgspec.json.Encoder().encode
_USUAL_ENDS: dict[type[Event], tuple[str, int]] = {}  # by event, as they are asked for


class Message(NamedTuple):
    """An event from outside with its envelope. ``keyed``: the id was chosen by the sender, so it may be a repeat.

    ``at_versions``: it is meant for its products as they are at these versions, by SKU, and refused at any others;
    None: at whichever.
    """

    event: Event
    id: str
    actor: str
    keyed: bool = False
    at_versions: Mapping[str, int] | None = None


class Outcome(NamedTuple):
    """The outcome of a message: its handler's result, and the events it set off, in the order they were handled."""

    message: Message
    result: Any
    raised: Sequence[Event]


def new_message(event: Event, actor: str, key: str | None = None) -> Message:
    """Put an event that was made in Python in an envelope; raises `InvalidMessage` for a field out of its limits.

    The sender's key becomes the message's id, otherwise it gets a new UUID (version 7).
    """
    _check(event)
    return checked_message(event, actor, key)


def checked_message(event: Event, actor: str, key: str | None = None) -> Message:
    """The same for an event that is known to be good: it came from JSON or texts here, or names stored things.

    Names stored by earlier versions may have white space at an end. They are good here.
    """
    if key is None:
        return Message(event, str(uuid_utils.uuid7()), actor)
    return Message(event, check_key(key), actor, keyed=True)


def check_key(key: str) -> str:
    """Return a sender's message id unchanged, or raise `InvalidMessage`."""
    if not 1 <= len(key) <= MAX_TEXT_LENGTH or not key.isprintable() or STEP_MARK in key:
        raise InvalidMessage(
            f"Idempotency key {_shown(key)} is not usable",
            f"Use 1 to {MAX_TEXT_LENGTH} printable characters without '{STEP_MARK}', a UUID for example.",
        )
    return key


def actor_of(channel: str, name: str) -> str:
    """The actor of a message, such as ``http:anna``: the channel, and the name given there.

    Raises `InvalidMessage`.
    """
    if not name.strip() or len(name) > MAX_ACTOR_LENGTH or not name.isprintable():
        raise InvalidMessage(
            f"Actor {_shown(name)} is not usable", f"Use 1 to {MAX_ACTOR_LENGTH} printable characters."
        )
    return f"{channel}:{name}"


def message_id(correlation_id: str, step: int) -> str:
    """The id of a ledger row."""
    return f"{correlation_id}{STEP_MARK}{step}" if step else correlation_id


def split_id(id_: str) -> tuple[str, int]:
    """The correlation id and step of a message id."""
    correlation_id, mark, step = id_.rpartition(STEP_MARK)
    return (correlation_id, int(step)) if mark and step.isascii() and step.isdecimal() else (id_, 0)


def encode(event: Event) -> str:
    """The event's fields as JSON, as the ledger keeps them: without the optional ones if all have their defaults."""
    body = _encode(event).decode()
    usual, place = _USUAL_ENDS.get(type(event)) or _usual_end(type(event))
    return body[:place] + "}" if place and body.endswith(usual) else body


def _usual_end(kind: type[Event]) -> tuple[str, int]:
    """How the JSON of an event ends whose optional fields, which are its last, all have their defaults; and where."""
    defaults = {rule.name: rule.default for rule in field_rules(kind) if not rule.required}
    end = "," + msgspec.json.encode(defaults).decode()[1:] if defaults else ""
    _USUAL_ENDS[kind] = end, -len(end)
    return _USUAL_ENDS[kind]


def decode(kind: type[Event], body: bytes | str) -> Event:
    """An event from the JSON object of its fields; raises `InvalidMessage`, which names field, value and cure."""
    codec = _codec(kind)
    try:
        parsed = codec.decoder.decode(body)
    except UNREADABLE as error:
        raise _complaint(kind, body, error) from None
    return codec.build(parsed)


def recall(type_: str, body: str | bytes) -> Event:
    """The event of a ledger row; fields added since have their defaults, or the value that older rows mean."""
    if type_ not in MEANT_BEFORE:
        return msgspec.json.decode(body, type=EVENTS[type_])
    values = msgspec.json.decode(body)
    if not all(rule.required for rule in field_rules(EVENTS[type_]) if rule.name in values):
        values = MEANT_BEFORE[type_] | values
    return msgspec.convert(values, EVENTS[type_])


def decode_typed(line: bytes | str) -> Event:
    """An event from a JSON object that names its ``type`` beside its fields, as files and streams carry it."""
    decoder, builders = _typed_codec()
    try:
        parsed = decoder.decode(line)
    except UNREADABLE:
        return from_typed(decode_object(line))  # raises the exact error
    return builders[type(parsed)](parsed)


def decode_object(line: bytes | str) -> dict[str, Any]:
    """The JSON object of a line; raises `InvalidMessage`."""
    try:
        parsed = msgspec.json.decode(line)
    except UNREADABLE as error:
        raise InvalidMessage(f"Not valid JSON: {error}", "Send one JSON object per line.") from None
    if not isinstance(parsed, dict):
        raise InvalidMessage(f"Not a JSON object: {_shown(parsed)}", "Send one JSON object per line.")
    return parsed


def cleaned_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their texts trimmed and normalised, except the sender's own ``id``."""
    return {name: cleaned(each) if isinstance(each, str) and name != "id" else each for name, each in values.items()}


def from_typed(values: Mapping[str, Any]) -> Event:
    """An event from its fields' JSON values and its ``type``; raises `InvalidMessage`."""
    fields_given = dict(values)
    return from_fields(incoming(fields_given.pop("type", None)), fields_given)


def from_fields(kind: type[Event], values: Mapping[str, Any], stored: Collection[str] = ()) -> Event:
    """An event from its fields' JSON values; raises `InvalidMessage`.

    The ``stored`` fields name things that are stored: earlier versions took white space at an end of a name.
    """
    codec = _codec(kind)
    try:
        parsed = msgspec.convert(values, codec.struct)
    except msgspec.ValidationError as error:
        raise _field_complaint(kind, values) or InvalidMessage(str(error)) from None
    return codec.build(parsed, stored)


def _check(event: Event) -> None:
    """Raise `InvalidMessage` for a field out of its limits, or of another type than declared."""
    kind = type(event)
    codec = _codec(kind)
    try:
        parsed = msgspec.convert(event, codec.struct, from_attributes=True, builtin_types=_OWN_TYPES)
    except msgspec.ValidationError as error:
        values = {rule.name: getattr(event, rule.name) for rule in field_rules(kind)}
        raise _field_complaint(kind, values, _OWN_TYPES) or InvalidMessage(str(error)) from None
    codec.build(parsed)


def incoming(type_: object) -> type[Event]:
    """The class of an event that senders can send: one with a handler."""
    kind = EVENTS.get(type_) if isinstance(type_, str) else None
    if kind is None or not HANDLERS[kind]:
        raise InvalidMessage(f"Unknown event type {_shown(type_)}", f"Use one of {', '.join(incoming_types())}.")
    return kind


def incoming_types() -> list[str]:
    """The names of the events that may come from outside."""
    return [name for name, kind in EVENTS.items() if HANDLERS[kind]]


SHAPES: Final[Mapping[type, str]] = {
    bool: "true or false",
    date: "a date such as 2026-01-31",
    datetime: "a moment with its time zone, such as 2026-01-31T12:00:00Z",
}


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One field of an event, as the places that are derived from it need to know it."""

    name: str
    base: type  # str, int, bool, date or datetime
    limit: Text | Between | OneOf | None
    required: bool
    default: Any
    meaning: str = ""

    def __str__(self) -> str:
        return self.shape if self.required or self.default is not None else f"{self.shape}, or null"

    @property
    def shape(self) -> str:
        """The values it takes besides null."""
        return SHAPES.get(self.base) or str(self.limit)


_RULES: dict[type[Event], Sequence[FieldRule]] = {}  # by event, as they are asked for
_CODECS: dict[type[Event], _Codec] = {}


def field_rules(kind: type[Event]) -> Sequence[FieldRule]:
    """The fields of an event, in the order declared."""
    if kind not in _RULES:
        _RULES[kind] = _read_rules(kind)
    return _RULES[kind]


def _read_rules(kind: type[Event]) -> Sequence[FieldRule]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(_rule(each, hints[each.name]) for each in fields(kind))  # type: ignore[arg-type]


def _rule(declared: Field[Any], hint: Any) -> FieldRule:
    base, notes = _taken_apart(hint)
    limit = next((note for note in notes if not isinstance(note, Meaning)), None)
    meaning = next((note.sentence for note in notes if isinstance(note, Meaning)), "")
    required = declared.default is MISSING
    return FieldRule(declared.name, base, limit, required, None if required else declared.default, meaning)


def _taken_apart(hint: Any) -> tuple[type, Sequence[Any]]:
    """The type of a field and the notes on it, which may be on ``T``, on ``T | None`` or on both."""
    if typing.get_origin(hint) is typing.Annotated:
        base, notes = _taken_apart(hint.__origin__)
        return base, (*notes, *hint.__metadata__)
    options = [option for option in typing.get_args(hint) if option is not NoneType]
    return _taken_apart(options[0]) if options else (hint, ())


class _Codec(NamedTuple):
    struct: type[msgspec.Struct]
    decoder: msgspec.json.Decoder[Any]
    build: Callable[..., Event]


def _codec(kind: type[Event]) -> _Codec:
    if kind not in _CODECS:
        _CODECS[kind] = _make_codec(kind)
    return _CODECS[kind]


def _make_codec(kind: type[Event]) -> _Codec:
    struct = msgspec.defstruct(
        kind.__name__,
        [_struct_field(rule) for rule in field_rules(kind)],
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
    )
    texts = [rule.name for rule in field_rules(kind) if isinstance(rule.limit, Text)]

    def build(parsed: Any, stored: Collection[str] = ()) -> Event:
        for name in texts:
            text = getattr(parsed, name)
            # Printable ASCII without a space, which nearly every name is, needs no closer look.
            if text is not None and (" " in text or not text.isascii() or not text.isprintable()):
                _check_text(kind, name, text, is_stored=name in stored)
        return kind(*msgspec.structs.astuple(parsed))

    return _Codec(struct, msgspec.json.Decoder(struct), build)


@functools.cache
def _typed_codec() -> tuple[msgspec.json.Decoder[Any], Mapping[type[msgspec.Struct], Callable[[Any], Event]]]:
    """Decodes an object of any type in one go: more than twice as fast as by way of a dict."""
    builders: dict[type[msgspec.Struct], Callable[[Any], Event]] = {}
    for name in incoming_types():
        codec = _codec(EVENTS[name])
        tagged = msgspec.defstruct(name, (), bases=(codec.struct,), tag_field="type", tag=name, frozen=True, gc=False)
        builders[tagged] = codec.build
    either: Any = typing.Union[tuple(builders)]  # noqa: UP007 - of however many there are
    return msgspec.json.Decoder(either), builders


def _struct_field(rule: FieldRule) -> Any:
    match rule.limit:
        case Text(max_length):
            hint: Any = typing.Annotated[str, msgspec.Meta(min_length=1, max_length=max_length)]
        case Between(least, most):
            hint = typing.Annotated[int, msgspec.Meta(ge=least, le=most)]
        case OneOf(words):
            hint = typing.Literal[words]
        case None:
            hint = typing.Annotated[datetime, msgspec.Meta(tz=True)] if rule.base is datetime else rule.base
    if rule.required:
        return (rule.name, hint)
    return (rule.name, hint | None if rule.default is None else hint, rule.default)


def _complaint(kind: type[Event], body: bytes | str, error: Exception) -> InvalidMessage:
    try:
        values = msgspec.json.decode(body)
    except UNREADABLE:
        return InvalidMessage(f"Not valid JSON: {error}", f"Send a JSON object with {_names(kind)}.")
    if not isinstance(values, dict):
        return InvalidMessage(f"Not a JSON object: {_shown(values)}", f"Send a JSON object with {_names(kind)}.")
    return _field_complaint(kind, values) or InvalidMessage(str(error))


def _field_complaint(
    kind: type[Event], values: Mapping[str, Any], own_types: Collection[type] = ()
) -> InvalidMessage | None:
    """The refusal for the first wrong field, with its name, its value and its limits.

    ``own_types``: a value of such a type is given as such; a date in JSON is a text.
    """
    rules = {rule.name: rule for rule in field_rules(kind)}
    for name in values:
        if name not in rules:
            return InvalidMessage(f"Unknown field {_shown(name)}", f"{kind.__name__} has {_names(kind)}.")
    for name, rule in rules.items():
        if name not in values:
            if rule.required:
                return InvalidMessage(f"Missing field {name}", f"Send {name}: {rule}.")
            continue
        try:
            one = msgspec.defstruct("One", [_struct_field(rule)])
            msgspec.convert({name: values[name]}, one, builtin_types=own_types)
        except msgspec.ValidationError:
            return _not_allowed(name, values[name], kind)
    return None


def _check_text(kind: type[Event], name: str, text: str, *, is_stored: bool) -> None:
    if not text.isprintable():
        raise _not_allowed(name, text, kind)
    if is_stored or (clean := cleaned(text)) == text:
        return
    if not clean:
        cure = f"{name} takes more than white space."
    elif text != text.strip():
        cure = f"{name} takes no white space at its ends: send {_shown(clean)}."
    else:
        cure = f"{name} takes composed characters (Unicode NFC): send {ascii(clean)[:_MOST_SHOWN]}."
    raise InvalidMessage(f"{name} is {_shown(text)}", cure)


def _not_allowed(name: str, value: object, kind: type[Event]) -> InvalidMessage:
    rule = next(rule for rule in field_rules(kind) if rule.name == name)
    return InvalidMessage(f"{name} is {_shown(value)}", f"{name} takes {rule}.")


def _names(kind: type[Event]) -> str:
    return ", ".join(rule.name if rule.required else f"{rule.name} (optional)" for rule in field_rules(kind))


def _shown(value: object) -> str:
    """A value as JSON would write it, cut to a length that a message can carry."""
    looks_like_another = isinstance(value, str) and not (value.isprintable() and is_normalized("NFC", value))
    text = ascii(value) if looks_like_another else _as_json(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _as_json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError):
        return repr(value)
    except RecursionError:
        return "too deeply nested"

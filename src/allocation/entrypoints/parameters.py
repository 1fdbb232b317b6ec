"""The kinds of parameters of the HTTP API and the console: how each is parsed, refused and described."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from allocation import views
from allocation.domain.errors import InvalidMessage, Refusal
from allocation.domain.fields import MAX_TEXT_LENGTH
from allocation.service_layer.delivering.dead_letters import AGE_PATTERN, AGE_RULE, seconds
from allocation.service_layer.messages import STEP_MARK

DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
MAX_ID_LENGTH = MAX_TEXT_LENGTH + len(f"{STEP_MARK}{views.MAX_STEP}")
FIRST = 0  # of the positions that a page can begin at
LAST = views.MAX_POSITION


@dataclass(frozen=True, slots=True)
class Text:
    """A parameter that is compared with texts. ``is_typed``: people type it, so it is trimmed and normalised."""

    name: str
    about: str
    max_length: int = MAX_TEXT_LENGTH
    is_typed: bool = False

    def parse(self, value: str) -> str:
        if not 1 <= len(value) <= self.max_length or not value.isprintable():
            raise InvalidMessage(f"{self.name} is {ascii(value)[:60]}", f"{self.name} takes {self.rule}.")
        return value

    def parse_or(self, unknown: Callable[[str], Refusal], value: str) -> str:
        """The value; a value that cannot exist counts as unknown."""
        try:
            return self.parse(value)
        except InvalidMessage:
            raise unknown(value) from None

    @property
    def rule(self) -> str:
        return f"1 to {self.max_length} printable characters"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": self.max_length}


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter that is a whole number."""

    name: str
    about: str
    least: int
    most: int
    default: int | None = None

    def parse(self, value: str) -> int:
        digits = value.isascii() and value.isdecimal() and len(value) <= len(str(self.most))
        if not digits or not self.least <= int(value) <= self.most:
            raise InvalidMessage(f"{self.name} is {ascii(value)[:60]}", f"{self.name} takes {self.rule}.")
        return int(value)

    @property
    def rule(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    @property
    def schema(self) -> Mapping[str, Any]:
        limits = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return limits if self.default is None else {**limits, "default": self.default}


@dataclass(frozen=True, slots=True)
class Age:
    """A parameter that is a length of time."""

    name: str
    about: str

    def parse(self, value: str) -> str:
        seconds(value)
        return value

    @property
    def rule(self) -> str:
        return AGE_RULE

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "pattern": AGE_PATTERN}


@dataclass(frozen=True, slots=True)
class Day:
    """A parameter that is a date."""

    name: str
    about: str

    def parse(self, value: str) -> date:
        try:
            if DATE.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        raise InvalidMessage(f"{self.name} is {ascii(value)[:60]}", f"{self.name} takes {self.rule}.")

    @property
    def rule(self) -> str:
        return "a date such as 2026-01-31"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "format": "date"}


@dataclass(frozen=True, slots=True)
class Texts:
    """A parameter that has to be given, once or more often, and is compared with texts."""

    name: str
    about: str
    most: int

    def parse(self, value: str) -> str:
        return Text(self.name, self.about).parse(value)

    @property
    def rule(self) -> str:
        return f"1 to {self.most} times 1 to {MAX_TEXT_LENGTH} printable characters"

    @property
    def schema(self) -> Mapping[str, Any]:
        item = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH}
        return {"type": "array", "minItems": 1, "maxItems": self.most, "items": item}


@dataclass(frozen=True, slots=True)
class OneOf:
    """A parameter with a few values."""

    name: str
    values: Sequence[str]

    def parse(self, value: str) -> str:
        if value not in self.values:
            raise InvalidMessage(f"{self.name} is {ascii(value)[:60]}", f"{self.name} takes {', '.join(self.values)}.")
        return value


@dataclass(frozen=True, slots=True)
class Switch:
    """A parameter that is true or false."""

    name: str
    about: str

    def parse(self, value: str) -> bool:
        if value not in {"true", "false"}:
            raise InvalidMessage(f"{self.name} is {ascii(value)[:60]}", f"{self.name} takes {self.rule}.")
        return value == "true"

    @property
    def rule(self) -> str:
        return "true or false"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "boolean", "default": False}

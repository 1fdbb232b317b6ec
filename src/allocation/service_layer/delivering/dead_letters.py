"""Dead letters: deliveries that failed for good. They are kept and shown, and retried or dropped on request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from allocation.domain.errors import InvalidMessage
from allocation.domain.fields import MAX_TEXT_LENGTH

AGE_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
AGE_PATTERN: Final = "^[0-9]{1,5}[smhd]$"
AGE_RULE: Final = "a number and s, m, h or d, such as 90m or 7d"
MAX_NUMBER: Final = 2**63 - 1


class Which(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A selection of dead letters: they must match all given values; without a value, all are selected."""

    effect: str | None = None
    sku: str | None = None
    older_than: str | None = None
    number: int | None = None


class Chosen(msgspec.Struct, frozen=True):
    """The number of selected dead letters, also by effect; with ``dry_run`` nothing was changed."""

    count: int
    effects: dict[str, int]
    dry_run: bool


class DeadLetters(Protocol):
    """The store of dead letters. Each method is one transaction, and raises `StoreUnavailable`."""

    async def retry(self, which: Which, *, dry_run: bool = False) -> Chosen:
        """Make them pending again with their old numbers: each runs before all newer deliveries of its lane."""

    async def drop(self, which: Which, *, dry_run: bool = False) -> Chosen:
        """Give them up for good."""

    async def close(self) -> None:
        """Release the connection."""


def seconds(age: str) -> int:
    """An age in seconds; raises `InvalidMessage`."""
    if not re.fullmatch(AGE_PATTERN, age, re.ASCII):
        raise InvalidMessage(f"older_than is {ascii(age)[:60]}", f"older_than takes {AGE_RULE}.")
    return int(age[:-1]) * AGE_UNITS_S[age[-1]]


def values_of(which: Which) -> Mapping[str, str | int]:
    """The given values by name; raises `InvalidMessage` for a value that is not allowed."""
    given = {name: getattr(which, name) for name in Which.__struct_fields__}
    if which.older_than is not None:
        seconds(which.older_than)
    if which.number is not None and not 0 <= which.number <= MAX_NUMBER:
        raise InvalidMessage(f"number is {which.number}", f"number takes a whole number from 0 to {MAX_NUMBER}.")
    for name in ("effect", "sku"):
        value = given[name]
        if value is not None and not (1 <= len(value) <= MAX_TEXT_LENGTH and value.isprintable()):
            rule = f"{name} takes 1 to {MAX_TEXT_LENGTH} printable characters."
            raise InvalidMessage(f"{name} is {ascii(value)[:60]}", rule)
    return {name: value for name, value in given.items() if value is not None}

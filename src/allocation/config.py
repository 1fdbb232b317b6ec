"""The settings: one frozen object, made once from the environment or the command line, and passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Self

PREFIX = "ALLOCATION_"
CHOICES: dict[str, tuple[str, ...]] = {"strategy": ("warehouse-first", "first-expired", "just-in-time")}
LEAST_KEPT_DAYS = 30  # of closed lines: for longer than anybody repeats a message about them
LEAST = {"lease_s": 1, "max_attempts": 1, "max_previews": 1, "keep_closed_days": LEAST_KEPT_DAYS}  # 0 of all others


class InvalidSetting(ValueError):
    """A setting has a value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field is read from ``ALLOCATION_`` and its name in capitals, such as ``ALLOCATION_DATABASE_URL``."""

    database_url: str = "sqlite:///allocation.db"
    host: str = "127.0.0.1"
    port: int = 8000
    actor: str = ""  # who gives commands, as the ledger tells it behind the channel
    max_queued: int = 20_000  # messages that may wait for the writer before 503 is answered
    strategy: str = "warehouse-first"  # by which products without rules of their own are allocated
    max_previews: int = 4  # that may be under way before 503 is answered
    smtp_host: str = ""  # empty: mails are logged instead of sent
    smtp_port: int = 25
    smtp_user: str = ""
    smtp_password: str = field(default="", repr=False)
    smtp_tls: bool = False  # STARTTLS before anything else is said
    mail_from: str = "allocation@localhost"
    webhooks_allow_private: bool = False  # targets of webhooks in our own network, and without TLS
    lease_s: int = 5  # after so long without a sign of life, the deliveries of a process are taken over
    max_attempts: int = 10  # of a delivery, before it becomes a dead letter
    dead_letters_hold: bool = False  # whether later deliveries of the same effect and SKU wait for a dead letter
    keep_done_days: int = 0  # how long done and dropped deliveries can be looked up
    keep_dead_days: int = 365  # how long a dead letter waits for somebody to retry it
    keep_closed_days: int | None = None  # how long a line stays that is closed, and all messages about it; for ever

    @property
    def keep_closed(self) -> timedelta | None:
        return None if self.keep_closed_days is None else timedelta(days=self.keep_closed_days)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The settings that the environment names, defaults for the rest. Raises `InvalidSetting`."""
        named = {each.name: environment.get(PREFIX + each.name.upper()) for each in fields(cls)}
        defaults = cls()
        given: dict[str, Any] = {
            name: _parsed(name, text, getattr(defaults, name)) for name, text in named.items() if text is not None
        }
        return cls(**given)


def _parsed(name: str, text: str, default: object) -> object:
    variable = PREFIX + name.upper()
    if isinstance(default, bool):
        return _switch(variable, text)
    if default is None and not text:
        return None
    if default is None or isinstance(default, int):
        return _number(variable, text, LEAST.get(name, 0))
    if text not in CHOICES.get(name, (text,)):
        raise InvalidSetting(f"{variable} is {text!r}: use {', '.join(CHOICES[name])}")
    return text


def _switch(variable: str, text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off", ""}:
        return False
    raise InvalidSetting(f"{variable} is {text!r}: use true or false")


def _number(variable: str, text: str, least: int) -> int:
    if not text.isascii() or not text.isdecimal():
        raise InvalidSetting(f"{variable} is {text!r}: use a whole number")
    if int(text) < least:
        raise InvalidSetting(f"{variable} is {text!r}: use {least} or more")
    return int(text)

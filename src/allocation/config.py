"""The settings: one frozen object, made once from the environment or the command line, and passed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, timedelta, tzinfo
from typing import Any, Self
from zoneinfo import ZoneInfo

PREFIX = "ALLOCATION_"
CHOICES: dict[str, tuple[str, ...]] = {"strategy": ("warehouse-first", "first-expired", "just-in-time")}
LEAST_KEPT_DAYS = 30  # of closed lines, so that repeated messages about them are still recognised
MOST_OVERDUE_DAYS = 365
LEAST = {"lease_s": 1, "max_attempts": 1, "max_previews": 1, "keep_closed_days": LEAST_KEPT_DAYS}  # all others: 0
MOST = {"overdue_days": MOST_OVERDUE_DAYS}  # all others: no limit


class InvalidSetting(ValueError):
    """The value of a setting is not allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field is read from ``ALLOCATION_`` and its name in capitals, such as ``ALLOCATION_DATABASE_URL``."""

    database_url: str = "sqlite:///allocation.db"
    host: str = "127.0.0.1"
    port: int = 8000
    actor: str = ""  # the user's name, which the ledger adds to the channel of a command
    max_queued: int = 20_000  # pending messages; further ones are answered with 503
    adjustment_reasons: str = "damaged, lost, found, stolen, expired, sample"  # offered for adjustments and counts
    strategy: str = "warehouse-first"  # default for products without rules of their own
    time_zone: str = "UTC"  # of the business, whose day ends at midnight there
    overdue_days: int = 1  # after today that stock of an overdue delivery is promised for; 0: today
    max_previews: int = 4  # previews at the same time; further ones are answered with 503
    smtp_host: str = ""  # empty: mails are logged instead of sent
    smtp_port: int = 25
    smtp_user: str = ""
    smtp_password: str = field(default="", repr=False)
    smtp_tls: bool = False  # STARTTLS before login and mail
    mail_from: str = "allocation@localhost"
    webhooks_allow_private: bool = False  # allow webhook targets in our own network, and without TLS
    lease_s: int = 5  # after this time without a sign of life, other processes take over its deliveries
    max_attempts: int = 10  # of a delivery, before it becomes a dead letter
    dead_letters_hold: bool = False  # later deliveries of the same effect and SKU wait for a dead letter
    keep_done_days: int = 0  # done and dropped deliveries are kept this long
    keep_dead_days: int = 365  # dead letters are kept this long
    keep_closed_days: int | None = None  # closed lines and their messages are kept this long; None: always

    @property
    def keep_closed(self) -> timedelta | None:
        return None if self.keep_closed_days is None else timedelta(days=self.keep_closed_days)

    @property
    def reasons(self) -> Sequence[str]:
        """The reasons that are offered, in their order."""
        return [reason.strip() for reason in self.adjustment_reasons.split(",") if reason.strip()]

    @property
    def zone(self) -> tzinfo:
        """The time zone. Raises `InvalidSetting`."""
        return _zone(PREFIX + "TIME_ZONE", self.time_zone)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The settings from the environment, and defaults for the others. Raises `InvalidSetting`."""
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
        return _number(variable, text, LEAST.get(name, 0), MOST.get(name))
    if name == "time_zone":
        _zone(variable, text)
    if text not in CHOICES.get(name, (text,)):
        raise InvalidSetting(f"{variable} is {text!r}: use {', '.join(CHOICES[name])}")
    return text


def _switch(variable: str, text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off", ""}:
        return False
    raise InvalidSetting(f"{variable} is {text!r}: use true or false")


def _zone(variable: str, text: str) -> tzinfo:
    if text == "UTC":
        return UTC  # which needs no list of zones
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # unknown, not a name at all, or a folder of names
        raise InvalidSetting(f"{variable} is {text!r}: use a name such as Europe/Berlin, or UTC") from None


def _number(variable: str, text: str, least: int, most: int | None) -> int:
    if not text.isascii() or not text.isdecimal():
        raise InvalidSetting(f"{variable} is {text!r}: use a whole number")
    if int(text) < least:
        raise InvalidSetting(f"{variable} is {text!r}: use {least} or more")
    if most is not None and int(text) > most:
        raise InvalidSetting(f"{variable} is {text!r}: use {most} or less")
    return int(text)

"""The settings: one frozen object, made once from the environment or the command line, and passed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, timedelta, tzinfo
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

PREFIX = "ALLOCATION_"
CHOICES: dict[str, tuple[str, ...]] = {"strategy": ("warehouse-first", "first-expired", "just-in-time")}
LEAST_KEPT_DAYS = 30  # of closed lines, so that repeated messages about them are still recognised
MOST_OVERDUE_DAYS = 365
LEAST = {"lease_s": 1, "max_attempts": 1, "max_previews": 1, "keep_closed_days": LEAST_KEPT_DAYS}  # all others: 0
MOST = {"overdue_days": MOST_OVERDUE_DAYS, "mail_digest_hour": 23}  # all others: no limit
MAX_ADDRESSES = 20  # of the stock team
MAX_ADDRESS_LENGTH = 254
MAX_URL_LENGTH = 200  # so that a link fits into a line of a mail
ADDRESS = re.compile(r'[^@\s,;:<>"()]+@[^@\s,;:<>"()]+', re.ASCII)
IMPLICIT: Final = "implicit"


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
    public_url: str = ""  # base of the links in mails; empty: made of host and port
    stock_team: tuple[str, ...] = ()  # the addresses that mails are sent to; empty: no mail is sent
    mail_digest_hour: int | None = None  # of the business's day, for one mail a day; None: mails are sent at once
    smtp_host: str = ""  # empty: mails are logged instead of sent
    smtp_port: int = 25
    smtp_user: str = ""
    smtp_password: str = field(default="", repr=False)
    smtp_tls: bool | Literal["implicit"] = False  # True: STARTTLS before login and mail; implicit: TLS from the start
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

    @property
    def base_url(self) -> str:
        """Where people reach the service with a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

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
    if name in PARSERS:
        return PARSERS[name](variable, text)
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


def _tls(variable: str, text: str) -> bool | str:
    if text.lower() in {"starttls", IMPLICIT}:
        return IMPLICIT if text.lower() == IMPLICIT else True
    try:
        return _switch(variable, text)
    except InvalidSetting:
        raise InvalidSetting(f"{variable} is {text!r}: use false, starttls (or true) or {IMPLICIT}") from None


def _addresses(variable: str, text: str) -> tuple[str, ...]:
    addresses = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
    if len(addresses) > MAX_ADDRESSES:
        raise InvalidSetting(f"{variable} has {len(addresses)} addresses: use {MAX_ADDRESSES} or fewer")
    for address in addresses:
        usable = address.isascii() and address.isprintable() and len(address) <= MAX_ADDRESS_LENGTH
        if not usable or not ADDRESS.fullmatch(address):
            cure = "use addresses such as ann@example.com, separated by commas"
            raise InvalidSetting(f"{variable} has {address!r}: {cure}")
    return addresses


def _url(variable: str, text: str) -> str:
    cure = f"use http:// or https:// and a host, in {MAX_URL_LENGTH} ASCII characters or fewer"
    usable = text.isascii() and text.isprintable() and " " not in text and len(text) <= MAX_URL_LENGTH
    try:
        parts = urlsplit(text)
        usable = usable and parts.scheme in {"http", "https"} and bool(parts.hostname)
        usable = usable and parts.port != 0 and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:  # a port or an address in brackets that is none
        usable = False
    if text and not usable:
        raise InvalidSetting(f"{variable} is {text!r}: {cure}")
    return text.rstrip("/")


def _number(variable: str, text: str, least: int, most: int | None) -> int:
    if not text.isascii() or not text.isdecimal():
        raise InvalidSetting(f"{variable} is {text!r}: use a whole number")
    if int(text) < least:
        raise InvalidSetting(f"{variable} is {text!r}: use {least} or more")
    if most is not None and int(text) > most:
        raise InvalidSetting(f"{variable} is {text!r}: use {most} or less")
    return int(text)


PARSERS: Final[Mapping[str, Callable[[str, str], object]]] = {
    "public_url": _url,
    "smtp_tls": _tls,
    "stock_team": _addresses,
}

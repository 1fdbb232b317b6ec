"""The limits of a hold's expiry, and whether a hold is still open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from allocation.domain.errors import HoldConflict, HoldEndedAlready, InvalidMoment, UnknownHold
from allocation.domain.fields import MAX_DAYS
from allocation.domain.lines import EXPIRED, Promise
from allocation.domain.rules import is_hold

MAX_HOLD: Final = timedelta(days=MAX_DAYS)


def checked_moment(expires_at: datetime | None, now: datetime) -> datetime:
    """The moment until which stock may be held: in UTC, and in whole seconds, as storage keeps and compares it."""
    if expires_at is None or expires_at <= now:
        raise InvalidMoment(expires_at, "past")
    if expires_at - now > MAX_HOLD:
        raise InvalidMoment(expires_at, f"more than {MAX_HOLD.days:,} days away")
    utc = expires_at.astimezone(UTC)
    return utc.replace(microsecond=0) + timedelta(seconds=bool(utc.microsecond))


def hold_of(known: Promise | None, holdid: str) -> Promise:
    """The hold with this id; raises `UnknownHold`, or `HoldConflict` if it is an order's line."""
    if known is None:
        raise UnknownHold(holdid)
    if not is_hold(known.line):
        raise HoldConflict(known.line)
    return known


def running_hold(known: Promise, now: datetime) -> Promise:
    """The hold, if it has not ended; raises `HoldEndedAlready`, also where its moment has come and nobody said so."""
    hold = hold_of(known, known.line.orderid)
    if hold.closed is not None:
        raise HoldEndedAlready(hold.line.orderid, hold.closed)
    if hold.line.expires_at is not None and hold.line.expires_at <= now:
        raise HoldEndedAlready(hold.line.orderid, EXPIRED)
    return hold

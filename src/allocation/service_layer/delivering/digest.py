"""The digest: one mail a day about all products that order lines began to wait for.

An effect notes each product for the next digest. At the hour the notes become one delivery, which a relay runs like any
other. Both are in the database, so nothing is lost while no process runs, and one of several processes does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, Protocol

import msgspec

from allocation.service_layer.delivering.effects import Delivery, FindEffect
from allocation.service_layer.delivering.stock_mail import Noted
from allocation.service_layer.handlers import Mail, Notifications
from allocation.service_layer.regularly import Regularly

EFFECT: Final = "send_out_of_stock_digest"
TYPE: Final = "Digest"
LOOK_INTERVAL_S = 5.0
GRACE: Final = timedelta(seconds=10)  # after the hour, so that processes whose clocks differ note for the same digest


class Digests(Protocol):
    """The notes for the next digest. Every method raises `StoreUnavailable`."""

    async def note(self, due_at: datetime, sku: str, cascade: str) -> None:
        """Note a product for the digest of a moment. The first note of it counts."""

    async def take(self, moment: datetime) -> bool:
        """Turn the notes of digests due by the moment into one delivery; return whether there were any."""

    async def close(self) -> None:
        """Release the connection."""


class WritesDigest(Protocol):
    """Writes the mail."""

    def digest(self, noted: Sequence[Noted], id_: str) -> Mail | None:
        """The mail about those of the products that new lines still wait for; None: there are none."""


def next_due(now: datetime, hour: int, zone: tzinfo) -> datetime:
    """The next moment at which the hour begins there. An hour that the clocks leave out or repeat comes once."""
    day = now.astimezone(zone).date()
    dues = (datetime.combine(day + timedelta(days=days), time(hour), zone).astimezone(UTC) for days in range(3))
    return next(due for due in dues if due > now)


def digest_effect(writer: WritesDigest, notifications: Notifications) -> FindEffect:
    """Finds the effect that sends a digest."""

    def send(delivery: Delivery) -> None:
        mail = writer.digest(msgspec.json.decode(delivery.body, type=_Body).products, delivery.id)
        if mail is not None:
            notifications.send_mail(*mail)

    return lambda name: send if name == EFFECT else None


def encode(noted: Sequence[Noted]) -> str:
    """The body of a digest's delivery."""
    return msgspec.json.encode(_Body(noted)).decode()


class DigestClock:
    """Looks for digests that are due, and makes each a delivery."""

    def __init__(
        self,
        digests: Digests,
        on_due: Callable[[], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``on_due`` wakes the relay."""
        self._digests = digests
        self._on_due = on_due
        self._clock = clock
        self._work = Regularly("digest", self._look, LOOK_INTERVAL_S)

    def start(self) -> None:
        """Begin to look, in the running event loop."""
        self._work.start()

    async def close(self) -> None:
        """Stop looking."""
        await self._work.close()
        await self._digests.close()

    async def look(self) -> bool:
        """Make due notes a delivery; return whether there were any. Raises `StoreUnavailable`."""
        taken = await self._digests.take(self._clock() - GRACE)
        if taken:
            self._on_due()
        return taken

    async def _look(self) -> float:
        await self.look()
        return LOOK_INTERVAL_S


class _Body(msgspec.Struct):
    products: Sequence[Noted]

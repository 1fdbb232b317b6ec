"""Expires holds: looks for holds whose expiry has passed, and sends `HoldExpired` for each.

Several processes may do this on one database. The second one is refused, as intended.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from allocation.domain.errors import Refusal
from allocation.domain.events import HoldExpired
from allocation.service_layer.messages import checked_message
from allocation.service_layer.regularly import Regularly
from allocation.service_layer.writing.writer import Writer

LOOK_INTERVAL_S = 1.0
PAGE_SIZE = 500
ACTOR = "clock"

FindExpired = Callable[[datetime, int], Awaitable[Sequence[tuple[str, datetime]]]]


class Expiry:
    """Ends expired holds, within a second if the service is not overloaded."""

    def __init__(
        self, writer: Writer, find_expired: FindExpired, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """``find_expired`` returns ids and expiry times of a limited number of open holds that have expired."""
        self._writer = writer
        self._find_expired = find_expired
        self._clock = clock
        self._work = Regularly("expiry of holds", self._look, LOOK_INTERVAL_S)

    def start(self) -> None:
        """Begin to look, in the running event loop."""
        self._work.start()

    async def close(self) -> None:
        """Stop looking. The writer still handles the messages sent before."""
        await self._work.close()

    async def look(self) -> bool:
        """End a page of holds that are over; return whether there may be more."""
        holds = await self._find_expired(self._clock(), PAGE_SIZE)
        ended = await asyncio.gather(*(self._expire(holdid, expires_at) for holdid, expires_at in holds))
        return len(holds) == PAGE_SIZE and any(ended)

    async def _look(self) -> float:
        return 0 if await self.look() else LOOK_INTERVAL_S

    async def _expire(self, holdid: str, expires_at: datetime) -> bool:
        """Whether it was ended now. A refusal means that somebody was faster."""
        try:
            await self._writer.handle(checked_message(HoldExpired(holdid), ACTOR, _key(holdid, expires_at)))
        except Refusal:
            return False
        return True


def _key(holdid: str, expires_at: datetime) -> str:
    """The same key in every process, so that a hold ends once; another key if the id of the hold is used again."""
    return f"expired-{uuid.uuid5(uuid.NAMESPACE_OID, f'{expires_at.isoformat()} {holdid}')}"

"""The webhooks of each event type, in memory. They are looked up for each event, so this must cost almost nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import structlog

from allocation.domain.events import Event
from allocation.service_layer.delivering.webhooks import EVENT_TYPES, Webhooks, effect_name
from allocation.service_layer.writing.ledger import declared_effects
from allocation.service_layer.writing.store import StoreUnavailable

REFRESH_INTERVAL_S = 1.0
START_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

log = structlog.get_logger(__name__)


class Subscriptions:
    """The event types of all webhooks, at most about a second old; older while the database cannot be read."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._wanted: Mapping[str, Sequence[str]] = {}
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def subscribed(self, event_type: str) -> Sequence[str]:
        """The ids of the webhooks to which events of this type are posted."""
        return self._wanted.get(event_type, ())

    def effects_of(self, kind: type[Event]) -> Sequence[str]:
        """The names of an event's present effects: the declared ones, and one for each webhook."""
        declared = declared_effects(kind)
        webhooks = self._wanted.get(kind.__name__)
        return [*declared, *map(effect_name, webhooks)] if webhooks else declared

    async def start(self) -> None:
        """Load the webhooks, and keep looking for changes by other processes.

        Waits a moment if the database is down. Raises `StoreUnavailable` if it stays down.
        """
        for pause_s in START_PAUSES_S:
            with contextlib.suppress(StoreUnavailable):
                await self.refresh()
                break
            await asyncio.sleep(pause_s)
        else:
            await self.refresh()
        self._task = asyncio.create_task(self._run(), name="subscriptions")

    async def refresh(self) -> None:
        """Look now. Raises `StoreUnavailable`."""
        webhooks = await self._webhooks.all()
        wanted = {type_: [each.id for each in webhooks if each.wants(type_)] for type_ in EVENT_TYPES}
        self._wanted = {type_: ids for type_, ids in wanted.items() if ids}

    async def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not await self._is_closed_within(REFRESH_INTERVAL_S):
            try:
                await self.refresh()
            except StoreUnavailable as error:
                log.warning("webhooks cannot be read", reason=str(error))
            except Exception:
                log.exception("webhooks cannot be read")

    async def _is_closed_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._closing.wait(), seconds)
        return False

"""Does a piece of work again and again in the background."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from allocation.service_layer.writing.store import StoreUnavailable
from allocation.service_layer.writing.writer import Unavailable

log = structlog.get_logger(__name__)


class Regularly:
    """A task that does one round of work after the other. An error is logged, and does not end it."""

    def __init__(self, name: str, round_: Callable[[], Awaitable[float]], retry_after_s: float) -> None:
        """``round_`` returns the seconds until the next round; after an error these are ``retry_after_s``."""
        self._name = name
        self._round = round_
        self._retry_after_s = retry_after_s
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """Stop, in the middle of a round, too. A round whose library loses the request to stop is the last one."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        pause_s = 0.0
        while not self._is_closing:
            await asyncio.sleep(pause_s)
            pause_s = self._retry_after_s
            try:
                pause_s = await self._round()
            except (StoreUnavailable, Unavailable) as error:
                log.info("work is done later", work=self._name, reason=str(error))
            except Exception:
                log.exception("work could not be done", work=self._name)

"""Work that may be asked for at every look, and is done so seldom that it takes no more than a small share of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

LEAST_PAUSE_S = 0.5
REST = 49  # times as long as the work took: it takes 2 % of the time at most
PATIENCE_S = 0.1  # with work under way, for one who could have the result before


class Kept(NamedTuple, Generic[T]):
    """A result, and when working it out began."""

    value: T
    at: datetime


class Paced(Generic[T]):
    """Keeps a result, and works it out anew when it is asked for and due."""

    def __init__(
        self, work: Callable[[], Awaitable[T]], *, least_pause_s: float = LEAST_PAUSE_S, rest: float = REST
    ) -> None:
        self._work = work
        self._least_pause_s = least_pause_s
        self._rest = rest
        self._kept: Kept[T] | None = None
        self._due = 0.0
        self._working: asyncio.Task[Kept[T]] | None = None

    async def get(self) -> Kept[T]:
        """The latest result, of work done in no time even a fresh one. Raises what the work raises."""
        if self._working is None and time.monotonic() >= self._due:
            self._working = asyncio.create_task(self._renew())
        if self._working is not None:
            task = self._working
            await asyncio.wait({task}, timeout=None if self._kept is None else PATIENCE_S)
            if task.done():
                return task.result()
        if self._kept is None:
            return await self.get()
        return self._kept

    async def _renew(self) -> Kept[T]:
        began, at = time.monotonic(), datetime.now(UTC)
        try:
            self._kept = Kept(await self._work(), at)
        finally:
            took = time.monotonic() - began
            self._due = time.monotonic() + max(self._least_pause_s, took * self._rest)
            self._working = None
        return self._kept

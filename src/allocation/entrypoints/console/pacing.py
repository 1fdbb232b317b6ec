"""Work in the background that takes no more than a small share of the time: it is measured, and done seldom."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

LEAST_PAUSE_S = 0.5
REST = 49  # times as long as the work took: it takes 2 % of the time at most
PATIENCE_S = 0.1  # with work under way, where there is an earlier result


class Result(NamedTuple, Generic[T]):
    """A value, and when the work on it began."""

    value: T
    at: datetime


class Paced(Generic[T]):
    """Keeps the result of work, and repeats the work when it is asked for and a pause has passed."""

    def __init__(
        self, work: Callable[[], Awaitable[T]], *, least_pause_s: float = LEAST_PAUSE_S, rest: float = REST
    ) -> None:
        self._work = work
        self._least_pause_s = least_pause_s
        self._rest = rest
        self._latest: Result[T] | None = None
        self._due = 0.0
        self._working: asyncio.Task[Result[T]] | None = None

    async def get(self) -> Result[T]:
        """The latest result; a fresh one if the work takes no time. Passes on errors of the work."""
        if self._working is None and time.monotonic() >= self._due:
            self._working = asyncio.create_task(self._renew())
        if self._working is not None:
            task = self._working
            await asyncio.wait({task}, timeout=None if self._latest is None else PATIENCE_S)
            if task.done():
                return task.result()
        if self._latest is None:
            return await self.get()
        return self._latest

    async def _renew(self) -> Result[T]:
        began, at = time.monotonic(), datetime.now(UTC)
        try:
            self._latest = Result(await self._work(), at)
        finally:
            took = time.monotonic() - began
            self._due = time.monotonic() + max(self._least_pause_s, took * self._rest)
            self._working = None
        return self._latest


@types.coroutine
def timed(work: Coroutine[Any, Any, T], spend: Callable[[float], None]) -> Generator[Any, Any, T]:
    """The result of the work; ``spend`` gets the seconds of each of its steps, without the waits between them.

    Passes on errors of the work.
    """
    step = partial(work.send, None)
    while True:
        began = time.perf_counter()
        try:
            waits_for = step()
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            spend(time.perf_counter() - began)
        try:
            step = partial(work.send, (yield waits_for))
        except BaseException as error:  # noqa: BLE001 - thrown in for the work: when its task is cancelled, for one
            step = partial(work.throw, error)

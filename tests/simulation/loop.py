"""An event loop whose time is made up: it never waits, and what is due next is due now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StoodStill(Exception):
    """Everybody waits, and nothing that anybody waits for will ever happen."""


class _Sleep:
    """What the loop asks to wait: time passes at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> Sequence[Any]:
        if timeout is None:
            raise StoodStill
        self.now += timeout
        return ()


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order asked for, at times of its own. No sockets, no threads."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Sleep()
        self.set_exception_handler(lambda *_: None)  # what a crashed process leaves behind is nobody's news

    def time(self) -> float:
        return self._selector.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Not in a thread: it runs until it waits by `await_only`, and goes on when what it waits for is done."""
        return self.create_task(greenlet_spawn(func, *args))

    def _process_events(self, event_list: Sequence[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> NoReturn:
        raise RuntimeError("a thread has no place in a simulation")

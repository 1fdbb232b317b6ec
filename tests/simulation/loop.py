"""An event loop whose time is made up: it never waits, and what is due next is due now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn


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

    def _process_events(self, event_list: Sequence[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> NoReturn:
        raise RuntimeError("a thread has no place in a simulation")

"""Waiting for what happens elsewhere: in other threads, in other processes, in a database."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0  # a machine may be busy; a wait in vain for so long has found a fault
POLL_S = 0.01


def wait_until(condition: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """The condition's value, as soon as it is true."""
    found = condition()
    for _ in _turns(within_s):
        if found:
            return found
        time.sleep(POLL_S)
        found = condition()
    raise AssertionError(f"not so within {within_s:g} s, but {found!r}")


async def until(condition: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """The same within an event loop; the condition may be a coroutine function."""

    async def ask() -> Any:
        found = condition()
        return await found if inspect.isawaitable(found) else found

    found = await ask()
    for _ in _turns(within_s):
        if found:
            return found
        await asyncio.sleep(POLL_S)
        found = await ask()
    raise AssertionError(f"not so within {within_s:g} s, but {found!r}")


def _turns(within_s: float) -> Iterator[None]:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        yield

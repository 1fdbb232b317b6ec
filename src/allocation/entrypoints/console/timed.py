"""How long work keeps the event loop busy, what it waits for left out."""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def timed(work: Coroutine[Any, Any, T], spend: Callable[[float], None]) -> Generator[Any, Any, T]:
    """The result of the work; ``spend`` is told the seconds of each of its steps. Raises what the work raises."""
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

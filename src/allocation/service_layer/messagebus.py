"""The message bus: one message in, and all it sets off, until nothing is left to handle.

It ends: what a handler may raise is declared in `handlers.RAISES`, the declared flow is proved acyclic at start-up
(`flow.check`), and an undeclared event is refused here.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from allocation.domain.events import Event
from allocation.service_layer.handlers import HANDLERS, RAISES
from allocation.service_layer.unit_of_work import AbstractUnitOfWork


class UndeclaredEvent(RuntimeError):
    """A handler raised an event that `handlers.RAISES` does not allow it."""


def handle(event: Event, uow: AbstractUnitOfWork) -> list[Any]:
    """Handle the event and all it sets off; return the handlers' results, the event's own first."""
    results: list[Any] = []
    queue: deque[tuple[Event, int | None]] = deque([(event, None)])
    while queue:
        event, cause = queue.popleft()
        step = uow.record(event, cause)
        for handler in HANDLERS[type(event)]:
            results.append(handler(event, uow))
            for raised in uow.collect_new_events():
                if type(raised) not in RAISES[handler]:
                    raise UndeclaredEvent(
                        f"{handler.__name__} raised {type(raised).__name__}: declare it in handlers.RAISES"
                    )
                queue.append((raised, step))
    return results

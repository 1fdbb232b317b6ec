"""The message bus: handles one message and all its consequences.

It always ends: `handlers.RAISES` declares the events that a handler may raise, `flow.check` proves at start that this
flow is acyclic, and the bus refuses undeclared events.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from allocation.domain.events import Event
from allocation.service_layer.handlers import HANDLERS, RAISES
from allocation.service_layer.unit_of_work import AbstractUnitOfWork


class UndeclaredEvent(RuntimeError):
    """A handler raised an event that `handlers.RAISES` does not allow."""


def handle(event: Event, uow: AbstractUnitOfWork) -> list[Any]:
    """Handle the event and all its consequences; return the handlers' results, the event's own first."""
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

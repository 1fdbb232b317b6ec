"""Cascades: a message from outside, all its consequences, and the state of their effects."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, text

from allocation.service_layer.messages import split_id
from allocation.views import DEFAULT_PAGE, RecordedEvent, as_moment, event, events


class CascadeDelivery(msgspec.Struct, omit_defaults=True):
    """An effect of a message: pending, dead, or done or dropped as long as those are kept."""

    effect: str
    state: str
    attempts: int
    error: str | None = None
    settled_at: datetime | None = None


class CascadeMessage(RecordedEvent):
    """A message and its effects; ``causation_id`` leads to the message that set it off."""

    deliveries: list[CascadeDelivery]


class Cascade(msgspec.Struct):
    """Everything that one message from outside set off, each message after its cause."""

    correlation_id: str
    messages: list[CascadeMessage]
    next_after: int | None


def cascade(connection: Connection, id_: str, *, after: int = 0, limit: int = DEFAULT_PAGE) -> Cascade:
    """A page of the cascade that a message belongs to, whichever of its steps it is; raises `UnknownMessage`."""
    correlation_id = event(connection, id_).correlation_id
    page = events(connection, correlation_id=correlation_id, after=after, limit=limit)
    steps = [split_id(each.id)[1] for each in page.events]
    deliveries = _deliveries(connection, correlation_id, steps) if steps else {}
    messages = [
        CascadeMessage(**msgspec.structs.asdict(each), deliveries=deliveries.get(step, []))
        for step, each in zip(steps, page.events, strict=True)
    ]
    return Cascade(correlation_id, messages, page.next_after)


_DELIVERIES = text("""
    SELECT step, effect, state, attempts, error, settled_at FROM deliveries
    WHERE correlation_id = :correlation_id AND step BETWEEN :first AND :last ORDER BY step, number
""")


def _deliveries(connection: Connection, correlation_id: str, steps: list[int]) -> dict[int, list[CascadeDelivery]]:
    found: dict[int, list[CascadeDelivery]] = {}
    asked = {"correlation_id": correlation_id, "first": min(steps), "last": max(steps)}
    for step, effect, state, attempts, error, settled_at in connection.execute(_DELIVERIES, asked):
        settled = None if settled_at is None else as_moment(settled_at)
        found.setdefault(step, []).append(CascadeDelivery(effect, state, attempts, error, settled))
    return found

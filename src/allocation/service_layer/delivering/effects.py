"""Effects: what is done to the outside world after a commit, at least once, in order for each SKU.

A delivery is committed with the message that needs it. `relay` runs what is pending; here is what it runs: effects by
name, and how an effect says that it failed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from allocation.domain.events import Event
from allocation.service_layer.handlers import Effect
from allocation.service_layer.messages import message_id, recall


class Unreachable(Exception):
    """The target of an effect is down or lets nobody in: that says nothing about the delivery.

    It holds back the whole effect, is no attempt of the delivery, and is tried again for as long as it takes.
    """


class Hopeless(Exception):
    """No later attempt can succeed: the delivery becomes a dead letter at once."""


class Delivery(NamedTuple):
    """An effect that a committed message, of which ``type`` and ``body`` are, still has to have."""

    number: int
    correlation_id: str
    step: int
    effect: str
    sku: str
    type: str
    body: str
    attempts: int  # that failed so far
    recorded_at: datetime | None  # None: the ledger does not have the message

    @property
    def id(self) -> str:
        """Of the message. Together with the effect's name it is unique, so a target can tell a repeat by it."""
        return message_id(self.correlation_id, self.step)


Deliver = Callable[[Delivery], None]
# The effect of a name, asked for whenever it is needed; None: nobody knows the name, or nobody knows it any more.
FindEffect = Callable[[str], Deliver | None]


def bind(effects: Mapping[type[Event], Sequence[Effect]], **ports: Any) -> Mapping[str, Callable[[Event], None]]:
    """The effects by name, each with the ports that its parameters after the event name."""
    return {effect.__name__: _bound(effect, ports) for several in effects.values() for effect in several}


def among(effects: Mapping[str, Callable[[Event], None]]) -> FindEffect:
    """Finds those that are there when they are asked for, each to be given the event of a delivery."""

    def find(name: str) -> Deliver | None:
        effect = effects.get(name)
        return None if effect is None else lambda delivery: effect(_event(delivery))

    return find


def first_of(*finders: FindEffect) -> FindEffect:
    """Asks one after the other, until one knows the name."""

    def find(name: str) -> Deliver | None:
        return next(filter(None, (finder(name) for finder in finders)), None)

    return find


def _event(delivery: Delivery) -> Event:
    try:
        return recall(delivery.type, delivery.body)
    except Exception as error:
        raise Hopeless(f"cannot read the message: {type(error).__name__}: {error}") from error


def _bound(effect: Effect, ports: Mapping[str, Any]) -> Callable[[Event], None]:
    _, *names = inspect.signature(effect).parameters
    missing = [name for name in names if name not in ports]
    if missing:
        raise TypeError(f"{effect.__name__} asks for {', '.join(missing)}: pass it to bind()")
    return functools.partial(effect, **{name: ports[name] for name in names})

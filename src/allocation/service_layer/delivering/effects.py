"""Effects: functions that touch the outside world after a commit, at least once, in order for each SKU.

A delivery is committed with its message. `relay` runs pending deliveries. This module has the effects by name, and the
errors by which an effect reports a failure.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from allocation.domain.events import Event
from allocation.service_layer.handlers import Effect
from allocation.service_layer.messages import message_id, recall

MESSAGE_ID: Final = "message_id"


class Unreachable(Exception):
    """The target of an effect is down or refuses access. The delivery itself may be fine.

    The whole effect pauses and is tried again without limit. This does not count as an attempt of the delivery.
    """


class Hopeless(Exception):
    """No later attempt can succeed: the delivery becomes a dead letter at once."""


class Delivery(NamedTuple):
    """A pending effect of a committed message; ``type`` and ``body`` are those of the message."""

    number: int
    correlation_id: str
    step: int
    effect: str
    sku: str
    type: str
    body: str
    attempts: int  # failed attempts so far
    recorded_at: datetime | None  # None: the ledger does not have the message

    @property
    def id(self) -> str:
        """The id of the message. Together with the effect's name it is unique, so a target can recognise a repeat."""
        return message_id(self.correlation_id, self.step)


Deliver = Callable[[Delivery], None]
# Returns the effect with a name, each time it is needed; None: there is no such effect, or no longer.
FindEffect = Callable[[str], Deliver | None]


def bind(effects: Mapping[type[Event], Sequence[Effect]], **ports: Any) -> Mapping[str, Callable[..., None]]:
    """The effects by name, each bound to its ports, which are the names of its parameters after the event.

    Parameters with a default are no ports.
    """
    return {effect.__name__: _bound(effect, ports) for several in effects.values() for effect in several}


def among(effects: Mapping[str, Callable[..., None]]) -> FindEffect:
    """Finds effects in this mapping at call time; each is called with the event of a delivery.

    An effect with a parameter ``message_id`` gets the id of the event's message too.
    """

    def find(name: str) -> Deliver | None:
        effect = effects.get(name)
        if effect is None:
            return None
        if MESSAGE_ID in inspect.signature(effect).parameters:
            return lambda delivery: effect(_event(delivery), **{MESSAGE_ID: delivery.id})
        return lambda delivery: effect(_event(delivery))

    return find


def first_of(*finders: FindEffect) -> FindEffect:
    """Tries the finders one after the other, until one knows the name."""

    def find(name: str) -> Deliver | None:
        return next(filter(None, (finder(name) for finder in finders)), None)

    return find


def _event(delivery: Delivery) -> Event:
    try:
        return recall(delivery.type, delivery.body)
    except Exception as error:
        raise Hopeless(f"cannot read the message: {type(error).__name__}: {error}") from error


def _bound(effect: Effect, ports: Mapping[str, Any]) -> Callable[[Event], None]:
    _, *parameters = inspect.signature(effect).parameters.values()
    names = [each.name for each in parameters if each.default is each.empty]
    missing = [name for name in names if name not in ports]
    if missing:
        raise TypeError(f"{effect.__name__} asks for {', '.join(missing)}: pass it to bind()")
    return functools.partial(effect, **{name: ports[name] for name in names})

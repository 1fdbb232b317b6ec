"""The method and the headers of a request, checked: the actor and the idempotency key."""

from __future__ import annotations

from starlette.types import Scope

from allocation.domain.errors import InvalidMessage
from allocation.entrypoints.bodies import Headers
from allocation.entrypoints.refusals import MethodNotAllowed
from allocation.service_layer.messages import actor_of, check_key

ACTOR = "http"


def check_method(scope: Scope, allowed: str) -> None:
    if scope["method"] != allowed:
        raise MethodNotAllowed(scope["method"], allowed)


def idempotency_key(headers: Headers) -> str | None:
    """The sender's key, or None if it sent none; raises `InvalidMessage`."""
    value = headers.get(b"idempotency-key")
    if value is None:
        return None
    try:
        key = value.decode()
    except UnicodeDecodeError:
        raise InvalidMessage(
            "The Idempotency-Key is not UTF-8", "Send printable characters, a UUID for example."
        ) from None
    return check_key(key)


def actor(headers: Headers) -> str:
    """The channel, with the sender's name if given; raises `InvalidMessage`. The name is not verified."""
    value = headers.get(b"actor")
    if value is None:
        return ACTOR
    try:
        return actor_of(ACTOR, value.decode())
    except UnicodeDecodeError:
        raise InvalidMessage("The Actor is not UTF-8", "Send printable characters, a name for example.") from None

"""What a request brings along, checked: content type, size, idempotency key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from starlette.types import Receive, Scope

from allocation.domain.errors import InvalidMessage
from allocation.entrypoints.refusals import MethodNotAllowed, TooLarge, WrongContentType
from allocation.service_layer.messages import actor_of, check_key

MAX_BODY_BYTES = 1024 * 1024
ACTOR = "http"
JSON_TYPES = (b"application/json",)

B = TypeVar("B", bytes, bytearray)
Headers = Mapping[bytes, bytes]


class Disconnected(Exception):
    """The client has gone before its request was complete: nobody is left to be answered."""


def check_method(scope: Scope, allowed: str) -> None:
    if scope["method"] != allowed:
        raise MethodNotAllowed(scope["method"], allowed)


def check_content_type(headers: Headers, accepted: Collection[bytes] = JSON_TYPES) -> None:
    declared = headers.get(b"content-type", b"")
    if declared not in accepted and declared.partition(b";")[0].strip().lower() not in accepted:
        shown = declared.decode("latin-1")[:100] or "missing"
        raise WrongContentType(f"Content-Type is {shown}", f"Send {' or '.join(type_.decode() for type_ in accepted)}.")


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
    """The channel, and who uses it if the sender says so; raises `InvalidMessage`. Nobody checks who it is."""
    value = headers.get(b"actor")
    if value is None:
        return ACTOR
    try:
        return actor_of(ACTOR, value.decode())
    except UnicodeDecodeError:
        raise InvalidMessage("The Actor is not UTF-8", "Send printable characters, a name for example.") from None


async def read_body(headers: Headers, receive: Receive, most: int = MAX_BODY_BYTES) -> bytes:
    """The whole body; raises `TooLarge`, before reading it where its length is declared, or `Disconnected`."""
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > most:
        raise _too_large(most)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    if not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        return _checked(whole, most)
    body = bytearray(message.get("body", b""))
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        _checked(body, most)
    return bytes(body)


def _checked(body: B, most: int) -> B:
    if len(body) > most:
        raise _too_large(most)
    return body


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body has more than {most} bytes", "Send one event at a time, or many as lines to /bulk.")

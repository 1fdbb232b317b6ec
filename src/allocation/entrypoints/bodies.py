"""The body of a request, checked: its content type and its size. The API and the console read it in the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from starlette.types import Receive

from allocation.entrypoints.refusals import TooLarge, WrongContentType

MAX_BODY_BYTES = 1024 * 1024
JSON_TYPES = (b"application/json",)

B = TypeVar("B", bytes, bytearray)
Headers = Mapping[bytes, bytes]


class Disconnected(Exception):
    """The client disconnected before its request was complete, so there is nobody to answer."""


def check_content_type(headers: Headers, accepted: Collection[bytes] = JSON_TYPES) -> None:
    declared = headers.get(b"content-type", b"")
    if declared not in accepted and declared.partition(b";")[0].strip().lower() not in accepted:
        shown = declared.decode("latin-1")[:100] or "missing"
        raise WrongContentType(f"Content-Type is {shown}", f"Send {' or '.join(type_.decode() for type_ in accepted)}.")


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

"""The hot routes: one POST for each event from outside, plain ASGI, derived from the tables of the service layer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from allocation.domain.events import Event
from allocation.entrypoints.answers import answer
from allocation.entrypoints.bodies import Disconnected, check_content_type, read_body
from allocation.entrypoints.http.requests import actor, check_method, idempotency_key
from allocation.entrypoints.http.responses import send_json, send_problem
from allocation.service_layer.handlers import HANDLERS
from allocation.service_layer.messages import checked_message, decode
from allocation.service_layer.writing.writer import Writer

CREATED = 201

# The events from outside by path, which is the name of the handler.
POSTS: Final[Mapping[str, type[Event]]] = {
    f"/{handlers[0].__name__}": kind for kind, handlers in HANDLERS.items() if handlers
}


def post_routes(writer: Writer) -> Mapping[str, ASGIApp]:
    """The handlers by path."""
    return {path: _post_route(kind, writer) for path, kind in POSTS.items()}


def _post_route(kind: type[Event], writer: Writer) -> ASGIApp:
    decode_event = functools.partial(decode, kind)

    async def post(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_method(scope, "POST")
            headers = dict(scope["headers"])
            check_content_type(headers)
            who, key = actor(headers), idempotency_key(headers)
            event = decode_event(await read_body(headers, receive))
            outcome = await writer.handle(checked_message(event, who, key))
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 - every error has its answer
            await send_problem(send, error)
            return
        await send_json(send, CREATED, answer(outcome))

    return post

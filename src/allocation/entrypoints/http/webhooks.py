"""The routes that change and test webhooks, as a table. The routes that read webhooks are in the table of `reads`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from allocation.bootstrap import Service
from allocation.domain.errors import InvalidWebhook, UnknownWebhook
from allocation.entrypoints import webhooks
from allocation.entrypoints.bodies import Disconnected, check_content_type, read_body
from allocation.entrypoints.http.posts import CREATED
from allocation.entrypoints.http.reads import WEBHOOK, query_values
from allocation.entrypoints.http.responses import json_response, problem_response
from allocation.entrypoints.parameters import Number
from allocation.service_layer.delivering.webhooks import (
    DEFAULT_OVERLAP_H,
    EVENT_TYPES,
    MAX_DESCRIPTION_LENGTH,
    MAX_OVERLAP_H,
    MAX_URL_LENGTH,
)
from allocation.service_layer.messages import UNREADABLE

OK = 200
NO_CONTENT = 204

EventType = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(EVENT_TYPES)})]


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True):
    """The URL, the event types (none: all facts), and the purpose."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_URL_LENGTH, examples=["https://example.com/hooks"])]
    event_types: list[EventType] = []
    description: Annotated[str, msgspec.Meta(max_length=MAX_DESCRIPTION_LENGTH)] = ""


_decoder = msgspec.json.Decoder(NewWebhook)


async def _add(service: Service, request: Request) -> webhooks.SecretWebhook:
    new = await _new_webhook(request)
    return await webhooks.add(service, new.url, new.event_types, new.description)


async def _remove(service: Service, request: Request) -> None:
    await webhooks.remove(service, _id(request))


async def _try(service: Service, request: Request) -> webhooks.Trial:
    return await webhooks.try_(service, _id(request))


async def _enable(service: Service, request: Request) -> webhooks.Webhook:
    return await webhooks.enable(service, _id(request))


async def _rotate(service: Service, request: Request) -> webhooks.SecretWebhook:
    hours = query_values([OVERLAP], request).get(OVERLAP.name, DEFAULT_OVERLAP_H)
    return await webhooks.rotate(service, _id(request), hours)


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. ``takes`` and ``answers`` are the shapes of the bodies, None where there is none."""

    name: str
    method: str
    path: str
    about: str
    run: Callable[[Service, Request], Awaitable[Any]]
    status: int
    answers: type[msgspec.Struct] | None = None
    takes: type[msgspec.Struct] | None = None
    parameters: Sequence[Number] = ()
    refused: frozenset[int] = frozenset({404})


OVERLAP = Number(
    "overlap_hours", "For so long older secrets sign as well; 0 if one leaked", 0, MAX_OVERLAP_H, DEFAULT_OVERLAP_H
)
ONE = "/webhooks/{id}"

OPERATIONS: Sequence[Operation] = (
    Operation(
        "add_webhook",
        "POST",
        "/webhooks",
        "Have facts, or the events named, posted to a URL; the answer has the secret, this once",
        _add,
        CREATED,
        webhooks.SecretWebhook,
        NewWebhook,
        refused=frozenset({409, 413, 415}),
    ),
    Operation("remove_webhook", "DELETE", ONE, "Post nothing to it any more, and forget it", _remove, NO_CONTENT),
    Operation(
        "test_webhook",
        "POST",
        f"{ONE}/test",
        "Post a message of type `webhook.test` to the target, and return its answer",
        _try,
        OK,
        webhooks.Trial,
    ),
    Operation(
        "enable_webhook",
        "POST",
        f"{ONE}/enable",
        "Post to it again, from now on, after it was disabled",
        _enable,
        OK,
        webhooks.Webhook,
    ),
    Operation(
        "rotate_webhook",
        "POST",
        f"{ONE}/rotate",
        "Give it a new secret, which the answer has, this once",
        _rotate,
        OK,
        webhooks.SecretWebhook,
        parameters=(OVERLAP,),
    ),
)


def webhook_routes(service: Service) -> list[Route]:
    return [Route(each.path, _endpoint(each, service), methods=[each.method]) for each in OPERATIONS]


def _endpoint(operation: Operation, service: Service) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            if not operation.parameters:
                query_values((), request)
            answer = await operation.run(service, request)
        except Disconnected:
            return Response()  # to nobody
        except Exception as error:  # noqa: BLE001 - every error has its answer
            return problem_response(error)
        return Response(status_code=operation.status) if answer is None else json_response(answer, operation.status)

    return endpoint


def _id(request: Request) -> str:
    """The id in the path. An id that cannot exist is not looked up."""
    return WEBHOOK.parse_or(UnknownWebhook, request.path_params[WEBHOOK.name])


async def _new_webhook(request: Request) -> NewWebhook:
    headers = dict(request.scope["headers"])
    check_content_type(headers)
    try:
        return _decoder.decode(await read_body(headers, request.receive))
    except UNREADABLE as error:
        names = ", ".join(NewWebhook.__struct_fields__)
        raise InvalidWebhook(f"This describes no webhook: {error}", f"Send a JSON object with {names}.") from None

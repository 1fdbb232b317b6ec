"""The routes that preview events, and change nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from allocation.bootstrap import Service
from allocation.domain.errors import Refusal
from allocation.entrypoints.answers import answer
from allocation.entrypoints.bodies import Disconnected, check_content_type, read_body
from allocation.entrypoints.http.bulk import JSON_LINES_TYPES
from allocation.entrypoints.http.posts import CREATED, POSTS
from allocation.entrypoints.http.reads import LIMIT, query_values
from allocation.entrypoints.http.requests import ACTOR, actor, idempotency_key
from allocation.entrypoints.http.responses import json_response, problem_response
from allocation.entrypoints.previews import (
    MAX_LINES,
    ChangedLine,
    EventPreview,
    StockEffect,
    Summary,
    effect_of,
    preview_event,
)
from allocation.entrypoints.refusals import TooLarge, UnknownPath, tell
from allocation.service_layer.messages import Message, Outcome, checked_message, decode
from allocation.service_layer.writing.stream import parse_line
from allocation.views import DEFAULT_PAGE

PATH = "/preview"
EVENT_PATH = f"{PATH}/{{event}}"
MAX_LIST_BYTES = 4 * 1024 * 1024


class ListPreview(msgspec.Struct):
    """For each line ``line``, ``status``, and its answer or ``message`` and ``detail``; and the effect of all lines."""

    answers: list[dict[str, Any]]
    summary: Summary
    lines: list[ChangedLine]
    more: bool
    stock: StockEffect


def preview_routes(service: Service) -> list[Route]:
    return [
        Route(EVENT_PATH, _endpoint(_event, service), methods=["POST"]),
        Route(PATH, _endpoint(_list, service), methods=["POST"]),
    ]


def _endpoint(
    preview: Callable[[Service, Request], Awaitable[EventPreview | ListPreview]], service: Service
) -> Callable[[Request], Any]:
    async def post(request: Request) -> Response:
        try:
            return json_response(await preview(service, request))
        except Disconnected:
            return Response()  # to nobody
        except Exception as error:  # noqa: BLE001 - every error has its answer
            return problem_response(error)

    return post


async def _event(service: Service, request: Request) -> EventPreview:
    name = request.path_params["event"]
    kind = POSTS.get(f"/{name}")
    if kind is None:
        raise UnknownPath(f"No event is taken under the name {name[:100]}")
    headers = dict(request.scope["headers"])
    check_content_type(headers)
    event = decode(kind, await read_body(headers, request.receive))
    message = checked_message(event, actor(headers), idempotency_key(headers))
    return await preview_event(service.previews, message, _limit(request))


async def _list(service: Service, request: Request) -> ListPreview:
    headers = dict(request.scope["headers"])
    check_content_type(headers, JSON_LINES_TYPES)
    limit = _limit(request)
    body = await read_body(headers, request.receive, MAX_LIST_BYTES)
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line and not line.isspace()]
    if len(lines) > MAX_LINES:
        raise TooLarge(f"The body has {len(lines)} events", f"Preview at most {MAX_LINES} together.")
    items = [_item(line) for _, line in lines]
    preview = await service.previews.preview(items)
    answers = [_answered(number, outcome) for (number, _), outcome in zip(lines, preview.outcomes, strict=True)]
    return ListPreview(answers, *msgspec.structs.astuple(effect_of(preview, limit)))


def _limit(request: Request) -> int:
    limit: int = query_values([LIMIT], request).get(LIMIT.name, DEFAULT_PAGE)
    return limit


def _item(line: bytes) -> Message | Refusal:
    try:
        return parse_line(line, ACTOR)
    except Refusal as refusal:
        return refusal


def _answered(number: int, outcome: Outcome | Refusal) -> dict[str, Any]:
    if isinstance(outcome, Outcome):
        return {"line": number, "status": CREATED, **answer(outcome)}
    kind, message, detail = tell(outcome)
    return {"line": number, "status": kind.status, "message": message, "detail": detail}

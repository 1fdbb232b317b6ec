"""Answers as they go over the wire: JSON, and refusals as problem+json (RFC 9457)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import structlog
from starlette.responses import Response
from starlette.types import Send

from allocation.entrypoints.refusals import FAILURE, UNAVAILABLE, MethodNotAllowed, tell
from allocation.service_layer.writing.writer import RETRY_AFTER_S

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
PROBLEMS = "/problems/"

encode = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)

_JSON_HEADER = (b"content-type", JSON.encode())
_PROBLEM_HEADER = (b"content-type", PROBLEM_JSON.encode())
_RETRY_HEADER = (b"retry-after", str(RETRY_AFTER_S).encode())


class Problem(msgspec.Struct):
    """A refusal: ``type`` leads to a page about it, ``message`` names the problem, ``detail`` adds the cure."""

    type: str
    title: str
    status: int
    detail: str
    message: str


class Answer(NamedTuple):
    """A whole response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def send_json(send: Send, status: int, answer: Any) -> None:
    await _send(send, json_answer(status, answer))


async def send_problem(send: Send, error: Exception) -> None:
    await _send(send, problem_answer(error))


def json_response(answer: Any, status: int = 200) -> Response:
    return Response(encode(answer), status, media_type=JSON)


def problem_response(error: Exception) -> Response:
    status, headers, body = problem_answer(error)
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


def json_answer(status: int, answer: Any) -> Answer:
    body = encode(answer)
    return Answer(status, [_JSON_HEADER, (b"content-length", b"%d" % len(body))], body)


def problem_answer(error: Exception) -> Answer:
    """A failure is logged here; its caller learns only that it happened."""
    kind, message, detail = tell(error)
    if kind is FAILURE:
        log.error("request failed", exc_info=error)
    body = encode(Problem(PROBLEMS + kind.slug, kind.title, kind.status, detail, message))
    headers = [_PROBLEM_HEADER, (b"content-length", b"%d" % len(body))]
    if kind is UNAVAILABLE:
        headers.append(_RETRY_HEADER)
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    return Answer(kind.status, headers, body)


async def _send(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})

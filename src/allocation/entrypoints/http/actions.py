"""The routes that operate the service, as a table: the function and the documentation of each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from allocation.bootstrap import Service
from allocation.domain.errors import InvalidMessage
from allocation.entrypoints.bodies import check_content_type, read_body
from allocation.entrypoints.http.responses import json_response, problem_response
from allocation.service_layer.delivering.dead_letters import AGE_RULE, Chosen, Which


class Choice(Which, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A selection of dead letters: they must match all given values. With ``dry_run`` they are only counted."""

    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """One route."""

    path: str
    about: str
    act: Callable[[Service, Choice], Coroutine[Any, Any, Chosen]]


async def _retry(service: Service, choice: Choice) -> Chosen:
    chosen = await service.dead_letters.retry(choice, dry_run=choice.dry_run)
    service.effects.wake()
    return chosen


async def _drop(service: Service, choice: Choice) -> Chosen:
    return await service.dead_letters.drop(choice, dry_run=choice.dry_run)


ACTIONS: Sequence[Action] = (
    Action("/dead-letters/retry", "Try dead letters again, each in its old place among those of its SKU", _retry),
    Action("/dead-letters/drop", "Give dead letters up for good", _drop),
)
MEMBERS = {
    "effect": "only of this effect",
    "sku": "only of this product",
    "older_than": f"only those given up longer ago than this: {AGE_RULE}",
    "number": "only this one",
    "dry_run": "show the result, and change nothing",
}


def action_routes(service: Service) -> list[Route]:
    return [Route(action.path, _endpoint(action, service), methods=["POST"]) for action in ACTIONS]


def _endpoint(action: Action, service: Service) -> Callable[[Request], Any]:
    async def post(request: Request) -> Response:
        try:
            headers = dict(request.scope["headers"])
            check_content_type(headers)
            choice = _decoded(await read_body(headers, request.receive))
            return json_response(await action.act(service, choice))
        except Exception as error:  # noqa: BLE001 - every error has its answer
            return problem_response(error)

    return post


def _decoded(body: bytes) -> Choice:
    try:
        return msgspec.json.decode(body, type=Choice)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        names = ", ".join(MEMBERS)
        raise InvalidMessage(f"The body cannot be used: {error}", f"Send a JSON object with any of {names}.") from None

"""The routes that read, as a table: the parameters, the view and the documentation of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from allocation import views
from allocation.bootstrap import Service
from allocation.domain.errors import (
    InvalidMessage,
    Refusal,
    UnknownBatch,
    UnknownDeadLetter,
    UnknownLine,
    UnknownMessage,
    UnknownOrder,
    UnknownSku,
    UnknownWebhook,
)
from allocation.domain.fields import MAX_QUANTITY, cleaned
from allocation.entrypoints import webhooks
from allocation.entrypoints.http.responses import json_response, problem_response
from allocation.entrypoints.parameters import FIRST, LAST, MAX_ID_LENGTH, Age, Day, Number, Switch, Text, Texts
from allocation.views.availability import MAX_SKUS, availabilities, availability
from allocation.views.cascade import cascade
from allocation.views.explain import explain

Parameter = Text | Number | Age | Day | Texts | Switch


@dataclass(frozen=True, slots=True)
class Read:
    """One route. ``keys`` are the parameters in the path, and ``unknown`` the refusal of some that lead nowhere.

    ``slashes``: the keys may have some.
    """

    path: str
    about: str
    view: Callable[..., Any]
    parameters: Sequence[Parameter] = ()
    keys: Sequence[Text] = ()
    unknown: Callable[..., Refusal] | None = None
    slashes: bool = True
    knows_rules: bool = False  # whether the view takes the usual rules, and the calendar
    knows_today: bool = False  # whether the view takes the day
    one_statement: bool = False  # whether the view is a single one


LIMIT = Number("limit", "Most entries on a page", 1, views.MAX_PAGE, views.DEFAULT_PAGE)
ORDER = Text("orderid", "The order")
SKU = Text("sku", "The product")
MESSAGE = Text("id", "The message", MAX_ID_LENGTH)
STOCK = (
    Number("qty", "Quantity of a whole line, for its earliest day", 1, MAX_QUANTITY),
    Day("by", "Whether that can be by this day"),
)
WEBHOOK = Text("id", "The webhook")

READS: Sequence[Read] = (
    Read(
        "/allocations/{orderid}/{sku}/explain",
        "Why a line is on its batch or waits: the batches considered at its last placement, and its history",
        explain,
        (),
        [ORDER, SKU],
        UnknownLine,
        knows_rules=True,
        knows_today=True,
    ),
    Read(
        "/allocations/{orderid}",
        "The lines of an order, each with its batch and state",
        views.allocations,
        (Text("after", "Begin after this SKU"), LIMIT),
        [ORDER],
        UnknownOrder,
        knows_today=True,
    ),
    Read(
        "/products",
        "All products, without the retired ones",
        views.products,
        (Text("after", "Begin after this SKU"), Switch("retired", "Whether retired products are listed, too"), LIMIT),
        knows_today=True,
    ),
    Read(
        "/products/{sku}",
        "A product with its batches and waiting lines",
        views.product,
        (
            Text("batches_after", "Begin after the batch with this reference"),
            Number("waiting_after", "Begin after the waiting line of this position", FIRST, LAST, FIRST),
            LIMIT,
        ),
        [SKU],
        UnknownSku,
        knows_today=True,
    ),
    Read(
        "/batches/{ref}",
        "A batch with the lines that hold its stock, newest first",
        views.batch,
        (Number("before", "Begin before the line of this position", FIRST, LAST, LAST), LIMIT),
        [Text("ref", "The batch's reference")],
        UnknownBatch,
        knows_today=True,
    ),
    Read(
        "/availability/{sku}",
        "How much of a product can be promised, and when",
        availability,
        STOCK,
        [SKU],
        UnknownSku,
        knows_today=True,
        one_statement=True,
    ),
    Read(
        "/availability",
        "How much of several products can be promised, and when",
        availabilities,
        (Texts("sku", "The products", MAX_SKUS), *STOCK),
        knows_today=True,
        one_statement=True,
    ),
    Read(
        "/events",
        "The ledger: every message with its causes",
        views.events,
        (
            Text("correlation_id", "Only this message and its consequences"),
            Text("sku", "Only of this product"),
            Text("orderid", "Only of this order"),
            Number("after", "Begin after this position", FIRST, LAST, FIRST),
            LIMIT,
        ),
    ),
    Read(
        "/events/{id}/cascade",
        "All consequences of a message from outside, with its pending and kept effects, as a flat tree; the id may be "
        "that of any message of it",
        cascade,
        (Number("after", "Begin after this position", FIRST, LAST, FIRST), LIMIT),
        [MESSAGE],
        UnknownMessage,
    ),
    Read(
        "/events/{id}",
        "One message of the ledger",
        views.event,
        keys=[MESSAGE],
        unknown=UnknownMessage,
    ),
    Read("/webhooks", "All webhooks", webhooks.webhooks),
    Read("/webhooks/{id}", "One webhook", webhooks.webhook, keys=[WEBHOOK], unknown=UnknownWebhook, slashes=False),
    Read(
        "/dead-letters",
        "The deliveries that were given up",
        views.dead_letters,
        (
            Text("effect", "Only of this effect"),
            Text("sku", "Only of this product"),
            Age("older_than", "Only those given up longer ago than this"),
            Number("after", "Begin after this number", FIRST, LAST, FIRST),
            LIMIT,
        ),
    ),
    Read(
        "/dead-letters/{number}",
        "One dead letter, with its error",
        views.dead_letter,
        keys=[Text("number", "The dead letter", len(str(LAST)))],
        unknown=UnknownDeadLetter,
    ),
)


def read_routes(service: Service) -> list[Route]:
    return [_route(read, service) for read in READS]


def _route(read: Read, service: Service) -> Route:
    if "}/" in read.path:
        return _SegmentsRoute(read.path, _endpoint(read, service), methods=["GET"])
    return Route(_with_slashes(read), _endpoint(read, service), methods=["GET"])


class _SegmentsRoute(Route):
    """A path that continues after a key. It is split in its encoded form, where slashes within a key are encoded."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        named, sent = self.path.split("/"), scope["raw_path"].decode("latin-1").split("/")
        parts = list(zip(named, sent, strict=False))
        if len(named) != len(sent) or any(name != part for name, part in parts if not name.startswith("{")):
            return Match.NONE, {}
        keys = {name.strip("{}"): unquote(part) for name, part in parts if name.startswith("{")}
        match = Match.FULL if scope["method"] in (self.methods or ()) else Match.PARTIAL
        return match, {"endpoint": self.endpoint, "path_params": keys}


def _with_slashes(read: Read) -> str:
    """The path in Starlette's terms."""
    return read.path.replace("}", ":path}") if read.slashes else read.path


def _endpoint(read: Read, service: Service) -> Callable[[Request], Any]:
    async def get(request: Request) -> Response:
        try:
            values = query_values(read.parameters, request)
            if read.knows_rules:
                values |= {"usual_rules": service.usual_rules, "calendar": service.calendar}
            if read.knows_today:
                values["today"] = service.today()
            found = await _found(read, service, _keys(read, request), values)
        except Exception as error:  # noqa: BLE001 - every error has its answer
            return problem_response(error)
        response = json_response(found)
        if isinstance(found, list) and len(found) == values.get(LIMIT.name, views.DEFAULT_PAGE):
            response.headers["link"] = _link_to_next(request.scope, values, found[-1].sku)
        return response

    return get


async def _found(read: Read, service: Service, keys: Sequence[str], values: Mapping[str, Any]) -> Any:
    """The view's result for the names as they are given, since earlier versions stored any text.

    If there is nothing, the view is asked for the names as they are written now: trimmed and normalised.
    """
    run = service.reader.run_statement if read.one_statement else service.reader.run
    clean = [cleaned(key) for key in keys], {name: _cleaned(value) for name, value in values.items()}
    is_clean = clean == ([*keys], values)
    try:
        found = await run(read.view, *keys, **values)
    except Refusal as refusal:
        if is_clean or type(refusal) is not read.unknown:
            raise
    else:
        if is_clean or not _is_empty(found):
            return found
    return await run(read.view, *clean[0], **clean[1])


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return cleaned(value)
        case list():
            return [cleaned(each) for each in value]
    return value


def _is_empty(found: Any) -> bool:
    """Whether it is a page without entries, which are the first member of every page."""
    return isinstance(found, msgspec.Struct) and getattr(found, found.__struct_fields__[0]) == []


def _keys(read: Read, request: Request) -> list[str]:
    """The values in the path. Values that cannot exist are not looked up."""
    values = [request.path_params[key.name] for key in read.keys]
    try:
        return [key.parse(value) for key, value in zip(read.keys, values, strict=True)]
    except InvalidMessage:
        if read.unknown is None:
            raise
        raise read.unknown(*values) from None


def query_values(parameters: Iterable[Parameter], request: Request) -> dict[str, Any]:
    """The parameters that are given, parsed; raises `InvalidMessage` for any that is unknown, wrong or given twice."""
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise InvalidMessage(f"Unknown parameter {ascii(name)[:60]}", f"The parameters here: {names}.")
        parsed = known[name].parse(value)
        if isinstance(known[name], Texts):
            values.setdefault(name, []).append(parsed)
            continue
        if name in values:
            raise InvalidMessage(f"{name} is given twice", f"Give {name} once.")
        values[name] = parsed
    return values


def _link_to_next(scope: Scope, values: Mapping[str, Any], after: str) -> str:
    limit = values.get(LIMIT.name, views.DEFAULT_PAGE)
    return f'<{scope["raw_path"].decode()}?after={quote(after, safe="")}&limit={limit}>; rel="next"'

"""The OpenAPI 3.1 document, derived from the events, their answers, the read routes and the table of refusals."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec

import allocation
from allocation.domain.events import Event
from allocation.domain.fields import MAX_TEXT_LENGTH, Between, OneOf, Text
from allocation.entrypoints.answers import ANSWERS
from allocation.entrypoints.http import bulk, previews
from allocation.entrypoints.http.actions import ACTIONS, MEMBERS, Action
from allocation.entrypoints.http.posts import POSTS
from allocation.entrypoints.http.reads import LIMIT, READS, WEBHOOK, Parameter, Read
from allocation.entrypoints.http.responses import JSON, PROBLEM_JSON, Problem
from allocation.entrypoints.http.webhooks import OPERATIONS, Operation
from allocation.entrypoints.parameters import Text as TextParameter
from allocation.entrypoints.parameters import Texts
from allocation.entrypoints.previews import MAX_LINES, EventPreview
from allocation.entrypoints.refusals import KINDS, Kind
from allocation.service_layer.delivering.dead_letters import AGE_PATTERN, MAX_NUMBER, Chosen
from allocation.service_layer.messages import MAX_ACTOR_LENGTH, FieldRule, field_rules

VERSION = "3.1.0"
COMPONENTS = "#/components/schemas/{name}"
PRINTABLE = r"^(?:[^\p{C}\p{Z}]| )+$"
NAME = r"^[^\p{C}\p{Z}](?:(?:[^\p{C}\p{Z}]| )*[^\p{C}\p{Z}])?$"  # no pattern can say that it is in NFC, too
KEY = r"^[!-}]+$"  # more is taken, but not every client can send more in a header
EXAMPLES: Mapping[str, Any] = {
    "ref": "batch-001",
    "sku": "RELIABLE-FORK",
    "orderid": "order-1",
    "qty": 100,
    "eta": "2027-01-31",
    "delivery": "PO-4711",
    "on_hand": 24,
    "by": -2,
    "reason": "damaged",
    "to_location": "OSLO",
}

Schema = dict[str, Any]

SCHEMAS: Mapping[type, Schema] = {
    bool: {"type": "boolean"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
}


def document() -> Schema:
    components = _components()
    return {
        "openapi": VERSION,
        "info": {
            "title": "allocation",
            "version": allocation.__version__,
            "summary": "Allocate order lines to batches of stock, and reallocate them when stock or orders change.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            **{path: {"post": _post(path, kind)} for path, kind in POSTS.items()},
            bulk.PATH: {"post": _bulk()},
            previews.EVENT_PATH: {"post": _preview()},
            previews.PATH: {"post": _list_preview()},
            **_reads_and_operations(),
            **{action.path: {"post": _action(action)} for action in ACTIONS},
            **_HEALTH,
        },
        "components": {
            "schemas": components,
            "responses": {str(status): _refused(kinds) for status, kinds in refused_by_status(KINDS).items()},
        },
    }


def refused_by_status(kinds: Iterable[Kind]) -> Mapping[int, Sequence[Kind]]:
    by_status: dict[int, list[Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return by_status


def summary(kind: type[Event]) -> str:
    """The event's own words, in Markdown."""
    return (inspect.getdoc(kind) or kind.__name__).splitlines()[0].replace("``", "`")


def example(kind: type[Event]) -> dict[str, Any]:
    """Values that the event takes."""
    return {rule.name: EXAMPLES.get(rule.name, _some_value(rule)) for rule in field_rules(kind) if rule.required}


def _some_value(rule: FieldRule) -> str | int:
    match rule.limit:
        case Between(least):
            return least
        case OneOf(words):
            return words[0]
    if rule.base is datetime:
        return "2027-01-31T12:00:00Z"
    return "2027-01-31" if rule.base is date else rule.name


def event_schema(kind: type[Event]) -> Schema:
    rules = field_rules(kind)
    return {
        "type": "object",
        "description": summary(kind),
        "properties": {rule.name: field_schema(rule) for rule in rules},
        "required": [rule.name for rule in rules if rule.required],
        "additionalProperties": False,
        "examples": [example(kind)],
    }


def field_schema(rule: FieldRule) -> Schema:
    match rule.limit:
        case Text(max_length):
            schema: Schema = {"type": "string", "minLength": 1, "maxLength": max_length, "pattern": NAME}
        case Between(least, most):
            schema = {"type": "integer", "minimum": least, "maximum": most}
        case OneOf(words):
            schema = {"type": "string", "enum": list(words)}
        case None:
            schema = dict(SCHEMAS[rule.base])
    schema["description"] = f"{rule.meaning}. Takes {rule}."
    if rule.required:
        return schema
    if rule.default is None:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return {**schema, "default": rule.default}


def _post(path: str, kind: type[Event]) -> Schema:
    return {
        "operationId": path.removeprefix("/"),
        "summary": summary(kind),
        "tags": ["events"],
        "parameters": [_IDEMPOTENCY_KEY, _ACTOR],
        "requestBody": {"required": True, "content": {JSON: {"schema": _reference(kind.__name__)}}},
        "responses": {
            "201": _answered("Done, or done before: the answer is the same", _reference(answer_type(kind).__name__)),
            **_refusals({400, 404, 405, 409, 413, 415, 422, 500, 503}),
        },
    }


def answer_type(kind: type[Event]) -> Any:
    return typing.get_type_hints(ANSWERS[kind])["return"]


def _bulk() -> Schema:
    types = " or ".join(type_.decode() for type_ in bulk.JSON_LINES_TYPES)
    return {
        "operationId": "bulk",
        "summary": "Many events as JSON lines in, one result a line out, in order, while the input still streams",
        "description": f"Send {types}. A line is an event with its `type`, and with an `id` if a repeat must be "
        "recognised. Read while you send: the service reads only as much as it has room for.",
        "tags": ["events"],
        "parameters": [_ACTOR],
        "requestBody": {
            "required": True,
            "content": {bulk.JSON_LINES: {"schema": {"type": "string", "examples": [bulk_example()]}}},
        },
        "responses": {
            "200": {
                "description": "A line for each line: `line`, `status`, and the answer or `message` and `detail`",
                "content": {bulk.JSON_LINES: {"schema": {"type": "string"}}},
            },
            **_refusals({400, 405, 415, 500}),
        },
    }


def _preview() -> Schema:
    names = [path.removeprefix("/") for path in POSTS]
    bodies = [_reference(kind.__name__) for kind in POSTS.values()]
    return {
        "operationId": "preview_event",
        "summary": "Preview the effect of one event: the body is the event's, and the path has the name of its route",
        "tags": ["previews"],
        "parameters": [
            {"name": "event", "in": "path", "required": True, "schema": {"type": "string", "enum": names}},
            _IDEMPOTENCY_KEY,
            _ACTOR,
            _parameter(LIMIT, "query"),
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": {"anyOf": bodies}}}},
        "responses": {
            "200": _answered("Nothing was changed", _reference(EventPreview.__name__)),
            **_refusals({400, 404, 405, 409, 413, 415, 422, 500, 503}),
        },
    }


def _list_preview() -> Schema:
    return {
        "operationId": "preview",
        "summary": f"Preview the effect of at most {MAX_LINES:,} events, one after the other",
        "tags": ["previews"],
        "parameters": [_parameter(LIMIT, "query")],
        "requestBody": {
            "required": True,
            "content": {bulk.JSON_LINES: {"schema": {"type": "string", "examples": [bulk_example()]}}},
        },
        "responses": {
            "200": _answered("Nothing was changed", _reference(previews.ListPreview.__name__)),
            **_refusals({400, 405, 413, 415, 500, 503}),
        },
    }


def bulk_example() -> str:
    """A line of each event that is taken."""
    lines = ({"type": kind.__name__, **example(kind)} for kind in POSTS.values())
    return "".join(msgspec.json.encode(line).decode() + "\n" for line in lines)


def _get(read: Read) -> Schema:
    unknown = {404} if read.keys else set()
    parameters = [_parameter(each, "path") for each in read.keys]
    parameters += [_parameter(each, "query") for each in read.parameters]
    return {
        "operationId": f"get_{read.view.__name__}",
        "summary": read.about,
        "tags": ["reads"],
        "parameters": parameters,
        "responses": {
            "200": _answered("Found", _schema_of(typing.get_type_hints(read.view)["return"])),
            **_refusals({400, 405, 500, 503} | unknown),
        },
    }


def _reads_and_operations() -> Schema:
    paths: Schema = {read.path: {"get": _get(read)} for read in READS}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> Schema:
    parameters = [_parameter(each, "query") for each in operation.parameters]
    if "{id}" in operation.path:
        parameters.insert(0, _parameter(WEBHOOK, "path"))
    done = _answered("Done", _schema_of(operation.answers)) if operation.answers else {"description": "Done"}
    described = {
        "operationId": operation.name,
        "summary": operation.about,
        "tags": ["webhooks"],
        "parameters": parameters,
        "responses": {str(operation.status): done, **_refusals({400, 405, 500, 503} | operation.refused)},
    }
    if operation.takes:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _schema_of(operation.takes)}}}
    return described


def _action(action: Action) -> Schema:
    return {
        "operationId": action.path.removeprefix("/").replace("-", "_").replace("/", "_"),
        "summary": action.about,
        "tags": ["operation"],
        "requestBody": {"required": True, "content": {JSON: {"schema": _choice_schema()}}},
        "responses": {
            "200": _answered("The number of deliveries, also by effect", _reference(Chosen.__name__)),
            **_refusals({400, 405, 413, 415, 500, 503}),
        },
    }


def _choice_schema() -> Schema:
    text = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_TEXT_LENGTH, "pattern": PRINTABLE}
    limits: Mapping[str, Schema] = {
        "effect": text,
        "sku": text,
        "older_than": {"type": ["string", "null"], "pattern": AGE_PATTERN},
        "number": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_NUMBER},
        "dry_run": {"type": "boolean", "default": False},
    }
    return {
        "type": "object",
        "properties": {name: {**limits[name], "description": about} for name, about in MEMBERS.items()},
        "additionalProperties": False,
        "examples": [{"effect": "send_out_of_stock_notification", "older_than": "7d", "dry_run": True}],
    }


def _parameter(parameter: Parameter, place: str) -> Schema:
    return {
        "name": parameter.name,
        "in": place,
        "required": place == "path" or isinstance(parameter, Texts),
        "description": f"{parameter.about}: {parameter.rule}",
        "schema": {**parameter.schema, **({"pattern": PRINTABLE} if isinstance(parameter, TextParameter) else {})},
    }


def _answered(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _refused(kinds: Iterable[Kind]) -> Schema:
    described = {kind.slug: {"summary": kind.title} for kind in kinds}
    return {
        "description": "; ".join(kind.title for kind in kinds),
        "content": {PROBLEM_JSON: {"schema": _reference(Problem.__name__)}},
        "x-problems": described,
    }


def _refusals(statuses: Collection[int]) -> Schema:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}


def _reference(name: str) -> Schema:
    return {"$ref": COMPONENTS.format(name=name)}


def _schema_of(type_: Any) -> Schema:
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=COMPONENTS)
    return schema


def _components() -> Schema:
    """The schemas of everything that is answered, and of the events that are taken."""
    answers = [answer_type(kind) for kind in POSTS.values()]
    found = [typing.get_type_hints(read.view)["return"] for read in READS]
    bodies = [body for each in OPERATIONS for body in (each.takes, each.answers) if body]
    told = [Problem, Chosen, EventPreview, previews.ListPreview, *answers, *found, *bodies]
    _, components = msgspec.json.schema_components(told, ref_template=COMPONENTS)
    return {**components, **{kind.__name__: event_schema(kind) for kind in POSTS.values()}}


_IDEMPOTENCY_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The id of the message, chosen by the sender: a repeat gets the first answer",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH, "pattern": KEY},
}
_ACTOR: Schema = {
    "name": "Actor",
    "in": "header",
    "required": False,
    "description": "The name of the sender, for the ledger",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ACTOR_LENGTH, "pattern": KEY},
}
_HEALTH: Schema = {
    "/healthz": {
        "get": {
            "operationId": "get_health",
            "summary": "Whether the process is alive",
            "tags": ["health"],
            "responses": {"200": _answered("It is", {"type": "object"}), **_refusals({405})},
        }
    },
    "/readyz": {
        "get": {
            "operationId": "get_readiness",
            "summary": "Whether the database answers, messages are accepted, and the last ones were written",
            "tags": ["health"],
            "responses": {"200": _answered("They are", {"type": "object"}), **_refusals({405, 503})},
        }
    },
}

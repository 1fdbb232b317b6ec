"""Pages to read, rendered from the same tables as the routes: no script, and nothing fetched from elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import allocation
from allocation.entrypoints.bodies import MAX_BODY_BYTES
from allocation.entrypoints.http import bulk, openapi, previews
from allocation.entrypoints.http.actions import ACTIONS, MEMBERS
from allocation.entrypoints.http.posts import POSTS
from allocation.entrypoints.http.reads import READS
from allocation.entrypoints.http.responses import JSON, PROBLEMS, json_response, problem_response
from allocation.entrypoints.http.webhooks import OPERATIONS
from allocation.entrypoints.previews import MAX_LINES
from allocation.entrypoints.refusals import FAILURE, KINDS, REFUSALS, UNAVAILABLE, Kind, UnknownPath
from allocation.service_layer.messages import field_rules
from allocation.service_layer.writing.writer import Unavailable

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}


def _about() -> Mapping[Kind, str]:
    """The meaning and the cure of each kind, in the words of the refusals themselves."""
    about = {kind: f"{inspect.getdoc(refusal)} {refusal.cure}" for refusal, kind in REFUSALS.items()}
    about[UNAVAILABLE] = f"{inspect.getdoc(Unavailable)}"
    about[FAILURE] = "Something broke that should not. The log of the service has the reason; nothing was changed."
    return {kind: _plain(words) for kind, words in about.items()}


def _plain(words: str) -> str:
    """A docstring's words without its marks and line breaks."""
    return " ".join(words.replace("`", "").split())


ABOUT = _about()


def page_routes() -> list[Route]:
    """The documents are made once, here."""
    templates = Environment(
        loader=PackageLoader("allocation.entrypoints.http"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    document = msgspec.json.encode(openapi.document())
    docs = templates.get_template("docs.html").render(_docs())
    problem_page = templates.get_template("problem.html")
    kinds = {kind.slug: kind for kind in KINDS}

    async def get_document(_: Request) -> Response:
        return Response(document, media_type=JSON)

    async def get_docs(_: Request) -> Response:
        return HTMLResponse(docs, headers=HEADERS)

    async def get_problem(request: Request) -> Response:
        slug = request.path_params["slug"]
        kind = kinds.get(slug)
        if kind is None:
            return problem_response(UnknownPath(f"Nothing is served under {request.url.path}"))
        about = _problem(kind)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(problem_page.render(about), headers=HEADERS)
        return json_response(about)

    return [
        Route("/openapi.json", get_document),
        Route("/docs", get_docs),
        Route(PROBLEMS + "{slug}", get_problem),
    ]


def _problem(kind: Kind) -> Mapping[str, Any]:
    return {
        "type": PROBLEMS + kind.slug,
        "title": kind.title,
        "status": kind.status,
        "about": ABOUT[kind],
    }


def _docs() -> Mapping[str, Any]:
    return {
        "version": allocation.__version__,
        "posts": [
            {
                "path": path,
                "about": _plain(openapi.summary(kind)),
                "event": kind.__name__,
                "fields": [
                    {"name": rule.name, "meaning": rule.meaning, "rule": str(rule), "required": rule.required}
                    for rule in field_rules(kind)
                ],
                "example": msgspec.json.encode(openapi.example(kind)).decode(),
                "answer": _plain(openapi.answer_type(kind).__doc__),
                "members": list(openapi.answer_type(kind).__annotations__),
            }
            for path, kind in POSTS.items()
        ],
        "bulk": {"path": bulk.PATH, "type": bulk.JSON_LINES, "example": openapi.bulk_example()},
        "previews": {"path": previews.PATH, "event_path": previews.EVENT_PATH, "max_lines": MAX_LINES},
        "reads": READS,
        "operations": [
            {
                "method": each.method,
                "path": each.path,
                "about": _plain(each.about),
                "fields": list(each.takes.__struct_fields__) if each.takes else [],
                "parameters": each.parameters,
                "answer": _plain(each.answers.__doc__ or "") if each.answers else "",
                "status": each.status,
            }
            for each in OPERATIONS
        ],
        "actions": ACTIONS,
        "members": MEMBERS,
        "kinds": sorted(KINDS, key=lambda kind: kind.status),
        "about": ABOUT,
        "problems": PROBLEMS,
        "max_body_bytes": MAX_BODY_BYTES,
        "max_line_bytes": bulk.MAX_LINE_BYTES,
    }

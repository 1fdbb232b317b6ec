"""Pages as answers to requests: in one frame, with their live streams, and with a page for every error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import structlog
from jinja2 import Environment
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from allocation.domain.errors import Refusal
from allocation.domain.fields import cleaned
from allocation.entrypoints.console import rendering
from allocation.entrypoints.console.live import Rendered, Topics, event_id, mark
from allocation.entrypoints.console.pages import PAGES, Asked, Console, Loaded, Page, values_of
from allocation.entrypoints.console.protection import keep_token, token_of
from allocation.entrypoints.refusals import FAILURE, UNAVAILABLE, MethodNotAllowed, UnknownPath, tell
from allocation.service_layer.writing.writer import RETRY_AFTER_S

LIVE = "live"
SEEN = "_seen"  # the parameter of a stream with the state that the page showed when it was loaded
THEMES = ("light", "dark")
SEE_OTHER = 303
METHOD_NOT_ALLOWED = 405
NEVER = Topics()

Endpoint = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger(__name__)


class Site:
    """Pages as answers to requests."""

    def __init__(self, console: Console, templates: Environment) -> None:
        self.console = console
        self._templates = templates

    def routes(self, place: str) -> list[Route]:
        """Of the page at this place, of the one about something below it, and of the streams of both."""
        plain = next((page for page in PAGES if page.place == place and page.key is None), None)
        keyed = next((page for page in PAGES if page.place == place and page.key is not None), None)
        get, stream = self.answering(partial(self._get, plain, keyed)), partial(self._stream, plain, keyed)
        path = f"/{place}"
        routes = [Route(path, get), Route(f"/{LIVE}{path}", self.answering(stream))]
        if keyed is not None:
            routes += [Route(f"{path}/{{key:path}}", get), Route(f"/{LIVE}{path}/{{key:path}}", self.answering(stream))]
        return routes

    def answering(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with a page for every error."""

        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Exception as error:  # noqa: BLE001 - every error has its page
                return self.problem(request, error)

        return answer

    def page(self, request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> Response:
        """A page in the frame that all have."""
        token = token_of(request)
        theme = request.cookies.get("theme", "")
        frame = {
            "token": token,
            "theme": theme if theme in THEMES else "",
            "place": None,
            "crumbs": (),
            "live": "",
            "search": "",
        }
        body = self._templates.get_template(f"{template}.html").render(rendering.context({**frame, **values}))
        response = HTMLResponse(body, status, headers={"cache-control": "private, no-cache"})
        keep_token(request, response, token)
        return response

    def problem(self, request: Request, error: Exception) -> Response:
        """A refusal or failure as a page; a failure is logged here."""
        kind, message, detail = tell(error)
        if kind is FAILURE:
            log.error("page failed", path=request.url.path, exc_info=error)
        cure = error.cure if isinstance(error, Refusal) else detail
        values = {"title": kind.title, "status": kind.status, "message": message, "cure": cure}
        response = self.page(request, "problem", values, kind.status)
        if kind.status == UNAVAILABLE.status:
            response.headers["retry-after"] = str(RETRY_AFTER_S)
        return response

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer the router's own refusals."""
        if isinstance(error, HTTPException) and error.status_code == METHOD_NOT_ALLOWED:
            return self.problem(request, MethodNotAllowed(request.method, (error.headers or {}).get("Allow", "GET")))
        return self.problem(request, UnknownPath(f"There is no page {request.url.path[:100]}"))

    async def _get(self, plain: Page | None, keyed: Page | None, request: Request) -> Response:
        page, asked = _asked(plain, keyed, request)
        try:
            loaded = await page.load(self.console, asked)
        except Refusal:
            name = cleaned(asked.key)
            if name == asked.key:
                raise
            return RedirectResponse(rendering.url(page.place, name or None), SEE_OTHER)
        fragments = self._fragments(page, loaded)
        marks = {name: mark(fragment) for name, fragment in fragments.items()}
        here = rendering.url(page.place, asked.key or None)
        values = {
            **loaded.values,
            "title": loaded.title,
            "crumbs": loaded.crumbs,
            "place": page.place,
            "key": asked.key,
            "here": here,
            "part": lambda name: Markup(fragments[name]),  # noqa: S704 - a template made it, which escapes
            "live": _live_url(page, asked, event_id(marks)) if fragments and loaded.topics != NEVER else "",
        }
        return self.page(request, page.name, values)

    async def _stream(self, plain: Page | None, keyed: Page | None, request: Request) -> Response:
        page, asked = _asked(plain, keyed, request)

        async def render() -> Rendered:
            loaded = await page.load(self.console, asked)
            return Rendered(self._fragments(page, loaded), loaded.topics)

        seen = request.headers.get("last-event-id") or request.query_params.get(SEEN, "")
        return await self.console.hub.open(f"{page.name} {asked.key} {sorted(asked.values.items())}", render, seen)

    def _fragments(self, page: Page, loaded: Loaded) -> Mapping[str, str]:
        values = rendering.context(loaded.values)
        return {
            name: self._templates.get_template(f"fragments/{page.name}.{name}.html").render(values).strip()
            for name in page.fragments
        }


def _asked(plain: Page | None, keyed: Page | None, request: Request) -> tuple[Page, Asked]:
    """The page and its values; raises the refusal of a key that cannot exist, or `InvalidMessage`."""
    key = request.path_params.get("key", request.query_params.get("key", ""))
    page = keyed if key and keyed is not None else plain
    if page is None:
        raise UnknownPath(f"There is no page {request.url.path[:100]}")
    if page.key is not None and page.unknown is not None:
        key = page.key.parse_or(page.unknown, key)
    return page, Asked(key, values_of(page, request.query_params.multi_items()))


def _live_url(page: Page, asked: Asked, seen: str) -> str:
    return rendering.url(f"{LIVE}/{page.place}", asked.key or None, **asked.values, **{SEEN: seen})

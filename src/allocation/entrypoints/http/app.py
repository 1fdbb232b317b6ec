"""The ASGI application: the hot routes in front, everything else behind Starlette's router.

The console and the documentation are loaded at their first request, so that the service starts quickly.
"""

# ruff: noqa: PLC0415 - the docstring says why
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from allocation import views
from allocation.bootstrap import Service
from allocation.entrypoints import console
from allocation.entrypoints.http import bulk
from allocation.entrypoints.http.actions import action_routes
from allocation.entrypoints.http.first_request import OnFirstRequest
from allocation.entrypoints.http.posts import post_routes
from allocation.entrypoints.http.previews import preview_routes
from allocation.entrypoints.http.reads import read_routes
from allocation.entrypoints.http.responses import PROBLEMS, json_response, problem_response
from allocation.entrypoints.http.webhooks import webhook_routes
from allocation.entrypoints.refusals import MethodNotAllowed, UnknownPath
from allocation.service_layer.writing.writer import Unavailable

METHOD_NOT_ALLOWED = 405
HOME = f"{console.ROOT}/"
DOCUMENTS = ("/openapi.json", "/docs", PROBLEMS + "{slug}")


def create_app(service: Service, stopping: asyncio.Event | None = None) -> ASGIApp:
    """The application of a service that is not started yet; its lifespan starts and closes it.

    ``stopping`` is set when the server must end: streams then stop reading and answer the lines they have read.
    """
    stopping = stopping or asyncio.Event()
    behind = _router(service, stopping)
    in_front = {**post_routes(service.writer), bulk.PATH: bulk.bulk_route(service.writer, stopping)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await in_front.get(scope.get("path", ""), behind)(scope, receive, send)

    return app


def _router(service: Service, stopping: asyncio.Event) -> Starlette:
    to_close = AsyncExitStack()
    documents = OnFirstRequest(_documents)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service, to_close:
            service.effects.start()
            service.expiry.start()
            service.new_day.start()
            service.retention.start()
            if service.settings.stock_team:
                service.digest.start()
            yield

    async def is_alive(_: Request) -> Response:
        return json_response({"status": "alive"})

    async def is_ready(_: Request) -> Response:
        try:
            await service.reader.run(views.is_ready)
        except Exception as error:  # noqa: BLE001 - every error has its answer
            return problem_response(error)
        if not service.writer.has_room:
            return problem_response(Unavailable("No more messages are taken"))
        if trouble := service.writer.trouble:
            return problem_response(trouble)
        return json_response({"status": "ready"})

    router = Starlette(
        routes=[
            Route("/", RedirectResponse(HOME)),
            Route(console.ROOT, RedirectResponse(HOME)),
            Mount(console.ROOT, OnFirstRequest(partial(_console, service, stopping, to_close))),
            Route("/healthz", is_alive),
            Route("/readyz", is_ready),
            *(Route(path, documents, methods=["GET"]) for path in DOCUMENTS),
            *action_routes(service),
            *preview_routes(service),
            *read_routes(service),
            *webhook_routes(service),
        ],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )
    router.router.redirect_slashes = False
    return router


def _console(service: Service, stopping: asyncio.Event, to_close: AsyncExitStack) -> ASGIApp:
    from allocation.entrypoints.console.app import close_console, console_app, create_console

    made = create_console(service, stopping)
    to_close.push_async_callback(close_console, made)
    return console_app(made)


def _documents() -> ASGIApp:
    from allocation.entrypoints.http.pages import page_routes

    return Router(page_routes())


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer the router's own refusals."""
    if isinstance(error, HTTPException) and error.status_code == METHOD_NOT_ALLOWED:
        return problem_response(MethodNotAllowed(request.method, _allowed(request)))
    return problem_response(UnknownPath(f"Nothing is served under {request.url.path[:100]}"))


def _allowed(request: Request) -> str:
    """The methods of all routes that the path has, in one line; a route of exactly this path hides those with keys."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    exact = [route for route in matching if route.path == request.url.path]
    return ", ".join(sorted(set().union(*(route.methods or set() for route in exact or matching))))

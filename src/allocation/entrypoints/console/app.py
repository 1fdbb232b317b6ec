"""The console as a part of the HTTP application: pages, their live streams, forms, and files."""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from allocation.bootstrap import Service
from allocation.console_views import overview
from allocation.domain.fields import cleaned
from allocation.entrypoints.console import rendering
from allocation.entrypoints.console.assets import asset_routes, read_assets
from allocation.entrypoints.console.forms import form_routes
from allocation.entrypoints.console.importing import importing_routes
from allocation.entrypoints.console.imports import Imports
from allocation.entrypoints.console.live import Hub
from allocation.entrypoints.console.pacing import Paced
from allocation.entrypoints.console.pages import PAGES, Console
from allocation.entrypoints.console.proof import Prover
from allocation.entrypoints.console.protection import guarded
from allocation.entrypoints.console.rendering import url
from allocation.entrypoints.console.site import Site
from allocation.entrypoints.console.steering import steering_routes
from allocation.entrypoints.console.tally import Tally
from allocation.entrypoints.parameters import MAX_ID_LENGTH, Text
from allocation.views.search import kind_of

SEE_OTHER = 303
SEARCH = Text("q", "A SKU, a batch, an order or a message", MAX_ID_LENGTH)


def create_console(service: Service, stopping: asyncio.Event) -> Console:
    """The console's state while the service runs."""

    async def totals() -> overview.Totals:
        return await service.reader.run(overview.totals, service.today())

    return Console(
        service=service,
        totals=Paced(totals),
        tally=Tally(service.reader, service.calendar),
        prover=Prover(service.url),
        hub=Hub(service.reader, stopping),
        imports=Imports(service),
    )


async def close_console(console: Console) -> None:
    await console.imports.close()
    await console.prover.close()
    await console.hub.close()


def console_app(console: Console) -> ASGIApp:
    """To be mounted at `console.ROOT`."""
    assets = read_assets()
    site = Site(console, rendering.environment(assets))
    routes = [*asset_routes(assets), Route("/search", site.answering(partial(_search, console)))]
    routes += [*form_routes(site), *steering_routes(site), *importing_routes(site)]
    for place in dict.fromkeys(page.place for page in PAGES):
        routes += site.routes(place)
    app = Starlette(routes=routes, exception_handlers={HTTPException: site.refuse})
    app.router.redirect_slashes = False
    return guarded(app)


async def _search(console: Console, request: Request) -> Response:
    """Redirects to the page of exactly this name, otherwise to the products whose SKU begins with it."""
    name = cleaned(request.query_params.get("q", ""))
    if not name:
        return RedirectResponse(url("products"), SEE_OTHER)
    place = await console.service.reader.run(kind_of, SEARCH.parse(name))
    return RedirectResponse(url(place, name) if place else url("products", q=name), SEE_OTHER)

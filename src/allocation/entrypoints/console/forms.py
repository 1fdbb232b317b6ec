"""The console's actions, each by a form that `protection` guards.

Retrying or dropping dead letters must be confirmed on a page of its own, which shows their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from allocation.domain.errors import InvalidMessage, UnknownDeadLetter
from allocation.entrypoints.console.protection import checked_form
from allocation.entrypoints.console.rendering import url
from allocation.entrypoints.console.site import Site
from allocation.service_layer.delivering.dead_letters import Chosen, Which

SEE_OTHER = 303


class Deed(NamedTuple):
    """An action on dead letters, in words."""

    name: str
    done: str
    about: str


DEEDS = (
    Deed("retry", "retried", "Each delivery is tried again at once, in its old place among the deliveries of its SKU."),
    Deed("drop", "dropped", "They are given up for good: their effects will never happen."),
)


def form_routes(site: Site) -> list[Route]:
    routes = [Route("/books/run", site.answering(_Proof(site).post), methods=["POST"])]
    for deed in DEEDS:
        form = _DeadLetterForm(site, deed)
        path = f"/dead-letters/{deed.name}"
        routes += [Route(path, site.answering(form.get)), Route(path, site.answering(form.post), methods=["POST"])]
    return routes


class _Proof:
    """Starts a verification of the books."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def post(self, request: Request) -> Response:
        await checked_form(request)
        self._site.console.prover.start()
        return RedirectResponse(url("books"), SEE_OTHER)


class _DeadLetterForm:
    """Asks for confirmation, and does it."""

    def __init__(self, site: Site, deed: Deed) -> None:
        self._site = site
        self._deed = deed

    async def get(self, request: Request) -> Response:
        which = _which(request.query_params)
        chosen = await self._do(which, dry_run=True)
        given = {name: value for name, value in msgspec.structs.asdict(which).items() if value is not None}
        values = {
            "title": f"{self._deed.name.capitalize()} dead letters",
            "place": "deliveries",
            "crumbs": [("Deliveries", "deliveries", None)],
            "deed": self._deed,
            "given": given,
            "chosen": chosen,
        }
        return self._site.page(request, "confirm", values)

    async def post(self, request: Request) -> Response:
        chosen = await self._do(_which(await checked_form(request)), dry_run=False)
        self._site.console.service.effects.wake()
        return RedirectResponse(url("deliveries", did=self._deed.name, count=chosen.count), SEE_OTHER)

    async def _do(self, which: Which, *, dry_run: bool) -> Chosen:
        dead_letters = self._site.console.service.dead_letters
        do = dead_letters.retry if self._deed.name == "retry" else dead_letters.drop
        chosen = await do(which, dry_run=dry_run)
        if which.number is not None and not chosen.count:
            raise UnknownDeadLetter(which.number)
        return chosen


def _which(fields: Mapping[str, str]) -> Which:
    """The selected dead letters; raises `InvalidMessage`."""
    given = {name: fields[name] for name in Which.__struct_fields__ if fields.get(name)}
    try:
        return msgspec.convert(given, Which, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidMessage(
            f"Invalid selection of dead letters: {error}", "Choose them on the page of deliveries."
        ) from None

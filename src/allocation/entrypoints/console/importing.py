"""The forms of an import: choose a file, map its columns, see the dry run, and import it."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from allocation.entrypoints.console.imports import MAX_FILE_BYTES, Import, too_large
from allocation.entrypoints.console.protection import checked_form, checked_upload, token_of
from allocation.entrypoints.console.rendering import url
from allocation.entrypoints.console.site import Site
from allocation.entrypoints.intake.lines import EMPTY_ETAS
from allocation.entrypoints.refusals import UnknownImport

SEE_OTHER = 303
FILE = "file"
COLUMN = "column-"  # followed by the number of the column; the value is its field


def importing_routes(site: Site) -> list[Route]:
    forms = _ImportForms(site)
    posts = {"": forms.add, "look": forms.look, "run": forms.run, "drop": forms.drop}
    routes = [
        Route(f"/imports/{name}".rstrip("/"), site.answering(post), methods=["POST"]) for name, post in posts.items()
    ]
    return [*routes, Route("/imports/{id}/refused", site.answering(forms.refused))]


class _ImportForms:
    def __init__(self, site: Site) -> None:
        self._imports = site.console.imports

    async def add(self, request: Request) -> Response:
        try:
            _, file = await checked_upload(request, FILE, MAX_FILE_BYTES, too_large())
        except ClientDisconnect:
            return Response()  # to nobody
        try:
            return _to(await self._imports.add(token_of(request), file.filename or FILE, file.file))
        finally:
            await file.close()

    async def look(self, request: Request) -> Response:
        form = await checked_form(request)
        found = self._own(request, form)
        columns = [form.get(f"{COLUMN}{number}", "") for number, _ in enumerate(found.header)]
        await self._imports.look(found, form.get("type", ""), columns, _empty_eta(form))
        return _to(found)

    async def run(self, request: Request) -> Response:
        found = self._own(request, await checked_form(request))
        self._imports.start(found)
        return _to(found)

    async def drop(self, request: Request) -> Response:
        self._imports.drop(self._own(request, await checked_form(request)))
        return RedirectResponse(url("import"), SEE_OTHER)

    async def refused(self, request: Request) -> Response:
        found = self._imports.find(request.path_params["id"])
        if not (found.ended and found.refused_path.exists()):
            raise UnknownImport
        return FileResponse(found.refused_path, media_type="application/x-ndjson", filename="refused.jsonl")

    def _own(self, request: Request, form: Mapping[str, str]) -> Import:
        found = self._imports.find(form.get("id", ""))
        if found.owner != token_of(request):
            raise UnknownImport
        return found


def _empty_eta(form: Mapping[str, str]) -> str | None:
    """The meaning of an empty ETA; None: such rows are refused."""
    chosen = form.get("empty-eta", "")
    return chosen if chosen in EMPTY_ETAS else None


def _to(found: Import) -> Response:
    return RedirectResponse(url("import", found.id), SEE_OTHER)

"""Changes from the console. Each is previewed before it is made, and made only as previewed.

The first form asks for the values; the page then shows the result of the service's own preview. The second form names
the versions of the products in that preview. If a product has another version by then, nothing is changed, and a new
preview is shown. The form also has the id of its message, so that it is applied once, however often it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from allocation.domain.errors import InvalidMessage, ProductChanged, Refusal
from allocation.domain.events import Event
from allocation.domain.fields import cleaned
from allocation.entrypoints.console.changes import CHANGES, Change
from allocation.entrypoints.console.protection import checked_form
from allocation.entrypoints.console.rendering import url
from allocation.entrypoints.console.site import Site
from allocation.entrypoints.console.subjects import Subject, subject_of
from allocation.entrypoints.intake.texts import event_from_texts
from allocation.entrypoints.previews import effect_for_pages
from allocation.entrypoints.refusals import UnknownPath
from allocation.service_layer.messages import checked_message

SEE_OTHER = 303
ACTOR = "console"
LOOK = "look"  # the parameter that asks for a preview
STALE = "stale"  # its value if the product has changed since the preview
VERSIONS, KEY = "versions", "key"


def steering_routes(site: Site) -> list[Route]:
    form = _ChangeForm(site)
    path = "/change/{name}"
    return [Route(path, site.answering(form.get)), Route(path, site.answering(form.post), methods=["POST"])]


class _ChangeForm:
    """Asks for the values of a change, shows a preview, and makes the change."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._service = site.console.service

    async def get(self, request: Request) -> Response:
        change = _change(request)
        texts = _texts(change, request.query_params)
        subject = await subject_of(self._site.console, change, texts)
        looked = request.query_params.get(LOOK, "")
        given = texts if looked else {**subject.now, **texts}
        looks = bool(looked) or not change.asked
        values = {
            "title": change.verb,
            "place": "products" if change.place == "deliveries" else change.place,
            "crumbs": subject.crumbs,
            "change": change,
            "subject": subject,
            "given": given,
            "about": {name: given[name] for name in change.subject},
            "is_stale": looked == STALE,
            **(await self._look(change, texts, subject) if looks else {"effect": None, "refusal": None}),
        }
        return self._site.page(request, "change", values)

    async def post(self, request: Request) -> Response:
        change = _change(request)
        form = await checked_form(request)
        texts = _texts(change, form)
        event = self._event(change, texts)
        if not form.get(KEY):
            raise InvalidMessage("The form has no message id", "Send it from the console.")
        message = checked_message(event, ACTOR, form[KEY])._replace(at_versions=_versions(form))
        try:
            await self._service.writer.handle(message)
        except ProductChanged:
            return RedirectResponse(_look_url(change, texts, STALE), SEE_OTHER)
        except Refusal:  # shown with the form
            return RedirectResponse(_look_url(change, texts, "1"), SEE_OTHER)
        return RedirectResponse(url("outcome", message.id), SEE_OTHER)

    def _event(self, change: Change, texts: Mapping[str, str]) -> Event:
        zone = self._service.calendar.zone
        moments = {name: _with_zone(texts[name], zone) for name in change.moments if name in texts}
        return event_from_texts(change.kind, {**texts, **moments}, change.subject)

    async def _look(self, change: Change, texts: Mapping[str, str], subject: Subject) -> Mapping[str, Any]:
        """The preview, or the refusal."""
        try:
            message = checked_message(self._event(change, texts), ACTOR)
            preview = await self._service.previews.preview([message])
            [outcome] = preview.outcomes
            if isinstance(outcome, Refusal):
                raise outcome
        except Refusal as refusal:
            return {"effect": None, "refusal": refusal}
        return {
            "effect": effect_for_pages(preview.lines, preview.stock),
            "refusal": None,
            "sent": {**texts, VERSIONS: msgspec.json.encode(subject.among(preview.versions)).decode(), KEY: message.id},
        }


def _change(request: Request) -> Change:
    name = request.path_params["name"]
    if name not in CHANGES:
        raise UnknownPath(f"There is no page {request.url.path[:100]}")
    return CHANGES[name]


def _texts(change: Change, fields: Mapping[str, str]) -> Mapping[str, str]:
    """The given fields of the event. The page names the subject, exactly as it is stored; people type the others."""
    named = {name: fields[name] for name in change.subject if name in fields}
    return named | {name: cleaned(fields[name]) for name in change.asked if name in fields}


def _versions(form: Mapping[str, str]) -> Mapping[str, int]:
    """The version of each product in the preview, by SKU."""
    try:
        return msgspec.json.decode(form.get(VERSIONS, ""), type=dict[str, int])
    except msgspec.DecodeError:
        raise InvalidMessage("The form does not say which preview it belongs to", "Send it from the console.") from None


def _with_zone(text: str, zone: tzinfo) -> str:
    """A day and a time by the clock of the business; any other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if moment.tzinfo is not None else moment.replace(tzinfo=zone).isoformat()


def _look_url(change: Change, texts: Mapping[str, str], look: str) -> str:
    return url(f"change/{change.name}", **texts, **{LOOK: look})

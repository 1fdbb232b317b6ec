"""The files of the pages, each under a name that changes with its content, so that browsers may always cache it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HASH_LENGTH = 12
FOR_EVER = "public, max-age=31536000, immutable"
FOLDER = "static"


class Asset(NamedTuple):
    """One file; ``path`` is where it is served, below the console."""

    path: str
    body: bytes
    media_type: str


def read_assets() -> Mapping[str, Asset]:
    """All files by name."""
    found = {}
    for file in sorted(resources.files(__package__).joinpath(FOLDER).iterdir(), key=lambda each: each.name):
        stem, dot, ending = file.name.rpartition(".")
        if media_type := TYPES.get(dot + ending):
            body = file.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:HASH_LENGTH]
            found[file.name] = Asset(f"/{FOLDER}/{stem}.{digest}.{ending}", body, media_type)
    return found


def asset_routes(assets: Mapping[str, Asset]) -> list[Route]:
    return [Route(each.path, _endpoint(each)) for each in assets.values()]


def _endpoint(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def get(_: Request) -> Response:
        return Response(asset.body, media_type=asset.media_type, headers={"cache-control": FOR_EVER})

    return get

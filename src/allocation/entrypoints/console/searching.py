"""The field that leads to anything by its name."""

from __future__ import annotations

from sqlalchemy import Connection, text
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from allocation import views
from allocation.domain.errors import UnknownMessage
from allocation.entrypoints.console.pages import Console
from allocation.entrypoints.console.rendering import url
from allocation.entrypoints.parameters import MAX_ID_LENGTH, Text

SEE_OTHER = 303
QUERY = Text("q", "A SKU, a batch, an order or a message", MAX_ID_LENGTH)
NAMED = (
    ("products", "SELECT 1 FROM products WHERE sku = :name"),
    ("batches", "SELECT 1 FROM batches WHERE ref = :name"),
    ("orders", "SELECT 1 FROM order_lines WHERE orderid = :name LIMIT 1"),
)


async def search(console: Console, request: Request) -> Response:
    """To what has exactly this name, otherwise to the products whose SKU begins with it."""
    name = request.query_params.get("q", "").strip()
    if not name:
        return RedirectResponse(url("products"), SEE_OTHER)
    place = await console.service.reader.run(place_of, QUERY.parse(name))
    return RedirectResponse(url(place, name) if place else url("products", q=name), SEE_OTHER)


def place_of(connection: Connection, name: str) -> str | None:
    """Where what has this name is shown, None if nothing has."""
    for place, statement in NAMED:
        if connection.execute(text(statement), {"name": name}).first() is not None:
            return place
    try:
        views.event(connection, name)
    except UnknownMessage:
        return None
    return "events"

"""Search for exactly a given name: a product, a batch, an order or a message."""

from __future__ import annotations

from sqlalchemy import Connection, text

from allocation.domain.errors import UnknownMessage
from allocation.views.ledger import event

NAMED = (
    ("products", "SELECT 1 FROM products WHERE sku = :name"),
    ("batches", "SELECT 1 FROM batches WHERE ref = :name"),
    ("orders", "SELECT 1 FROM order_lines WHERE orderid = :name LIMIT 1"),
)


def kind_of(connection: Connection, name: str) -> str | None:
    """``products``, ``batches``, ``orders`` or ``events``, the first that has it; None if nothing has this name."""
    for kind, statement in NAMED:
        if connection.execute(text(statement), {"name": name}).first() is not None:
            return kind
    try:
        event(connection, name)
    except UnknownMessage:
        return None
    return "events"

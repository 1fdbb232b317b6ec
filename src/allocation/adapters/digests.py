"""The products for the next digest, in the database."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import URL

from allocation.adapters.connection import OwnConnection, Statements, texts
from allocation.service_layer.delivering.digest import EFFECT, TYPE, encode
from allocation.service_layer.delivering.stock_mail import Noted

# A moment is passed as text, in UTC and whole seconds: SQLite keeps and compares it so.
NOTE = (
    "INSERT INTO digest (due_at, sku, correlation_id)"
    " VALUES (CAST(CAST(:due_at AS text) AS {moment}), :sku, :cascade) ON CONFLICT DO NOTHING"
)
IS_DUE = "SELECT 1 FROM digest WHERE due_at <= CAST(CAST(:moment AS text) AS {moment}) LIMIT 1"
DUE = (
    "SELECT sku, correlation_id FROM digest WHERE due_at <= CAST(CAST(:moment AS text) AS {moment})"
    " ORDER BY due_at, sku {for_update}"
)
TAKEN = "DELETE FROM digest WHERE due_at <= CAST(CAST(:moment AS text) AS {moment}) AND sku IN {texts}"
DELIVERY = (
    "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body) VALUES (:id, 0, :effect, '', :type, :body)"
)


class SqlDigests:
    """Notes become a delivery in one transaction, so they are delivered once, whichever process takes them."""

    def __init__(self, url: URL) -> None:
        self._connection = OwnConnection(url)

    async def note(self, due_at: datetime, sku: str, cascade: str) -> None:
        values = {"due_at": _spelled(due_at), "sku": sku, "cascade": cascade}
        await self._connection.run(lambda statements: statements.do(NOTE, **values))

    async def take(self, moment: datetime) -> bool:
        about = {"moment": _spelled(moment)}
        if not await self._connection.run(lambda statements: statements.rows(IS_DUE, **about)):
            return False
        return await self._connection.run_in_transaction(lambda statements: _take(statements, about))

    async def close(self) -> None:
        await self._connection.close()


def _take(statements: Statements, about: dict[str, Any]) -> bool:
    rows = statements.rows(DUE, **about)
    if not rows:  # another process was faster
        return False
    first = dict(reversed(rows))
    noted = [Noted(sku, first[sku]) for sku in sorted(first)]
    statements.do(TAKEN, texts=texts(first), **about)
    statements.do(DELIVERY, id=f"digest-{uuid.uuid4()}", effect=EFFECT, type=TYPE, body=encode(noted))
    return True


def _spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")

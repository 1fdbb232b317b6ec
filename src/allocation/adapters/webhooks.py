"""The webhooks in the database. They are few and change rarely: each change is a transaction of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
import msgspec
from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from allocation.adapters import tables
from allocation.adapters.database import is_sqlite, postgres_engine, sqlite_engine
from allocation.domain.errors import TooManyWebhooks, UnknownWebhook, WebhookConflict
from allocation.service_layer.delivering.webhooks import MAX_WEBHOOKS, Secret, Webhook
from allocation.service_layer.writing.store import StoreUnavailable

T = TypeVar("T")

_table = tables.webhooks
_types = msgspec.json.Decoder(tuple[str, ...])
_secrets = msgspec.json.Decoder(tuple[tuple[str, datetime | None], ...])


def all_webhooks(connection: Connection) -> list[Webhook]:
    """The oldest first."""
    return [_webhook(row) for row in connection.execute(select(_table).order_by(_table.c.created_at, _table.c.id))]


def find_webhook(connection: Connection, id_: str) -> Webhook | None:
    row = connection.execute(select(_table).where(_table.c.id == id_)).one_or_none()
    return None if row is None else _webhook(row)


class SqlWebhooks:
    """The webhooks of one database."""

    def __init__(self, url: URL) -> None:
        self._engine: Engine | AsyncEngine
        if is_sqlite(url):
            self._engine = sqlite_engine(url)
        else:
            self._engine = postgres_engine(url).execution_options(isolation_level="READ COMMITTED")

    async def all(self) -> Sequence[Webhook]:
        return await self._run(all_webhooks)

    async def find(self, id_: str) -> Webhook | None:
        return await self._run(find_webhook, id_)

    async def add(self, webhook: Webhook) -> None:
        await self._run(_add, webhook, locked=True)

    async def change(self, id_: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        return await self._run(_change, id_, change, locked=True)

    async def remove(self, id_: str) -> None:
        await self._run(_remove, id_, locked=True)

    async def close(self) -> None:
        """Give back every connection."""
        if isinstance(self._engine, Engine):
            self._engine.dispose()
        else:
            await self._engine.dispose()

    async def _run(self, work: Callable[..., T], *arguments: Any, locked: bool = False) -> T:
        """The result of work in a transaction; ``locked``: with nobody else changing webhooks meanwhile."""
        try:
            if isinstance(self._engine, Engine):
                return await asyncio.to_thread(_run_sqlite, self._engine, work, arguments, locked=locked)
            async with self._engine.begin() as connection:
                if locked:
                    await connection.exec_driver_sql(f"LOCK TABLE {_table.name} IN SHARE ROW EXCLUSIVE MODE")
                return await connection.run_sync(work, *arguments)
        except (DBAPIError, PoolTimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise StoreUnavailable(str(error) or type(error).__name__) from error


def _run_sqlite(engine: Engine, work: Callable[..., T], arguments: Sequence[Any], *, locked: bool) -> T:
    with engine.begin() as connection:
        if locked:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        return work(connection, *arguments)


def _add(connection: Connection, webhook: Webhook) -> None:
    values = _values(webhook)
    same = (_table.c.url == webhook.url) & (_table.c.event_types == values["event_types"])
    known: str | None = connection.scalar(select(_table.c.id).where(same))
    if known is not None:
        raise WebhookConflict(known, webhook.url)
    if (connection.scalar(select(func.count()).select_from(_table)) or 0) >= MAX_WEBHOOKS:
        raise TooManyWebhooks(MAX_WEBHOOKS)
    connection.execute(insert(_table).values(values))


def _change(connection: Connection, id_: str, change: Callable[[Webhook], Webhook]) -> Webhook:
    found = find_webhook(connection, id_)
    if found is None:
        raise UnknownWebhook(id_)
    changed = change(found)
    connection.execute(update(_table).where(_table.c.id == id_).values(_values(changed)))
    return changed


def _remove(connection: Connection, id_: str) -> None:
    if not connection.execute(delete(_table).where(_table.c.id == id_)).rowcount:
        raise UnknownWebhook(id_)


def _values(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "description": webhook.description,
        "event_types": msgspec.json.encode(webhook.event_types).decode(),
        "secrets": msgspec.json.encode(webhook.secrets).decode(),
        "created_at": webhook.created_at,
        "disabled_at": webhook.disabled_at,
        "disabled_reason": webhook.disabled_reason,
    }


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        id=row.id,
        url=row.url,
        description=row.description,
        event_types=_types.decode(row.event_types),
        secrets=tuple(Secret(*each) for each in _secrets.decode(row.secrets)),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
    )

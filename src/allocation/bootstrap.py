"""Puts the service together: the only module that knows every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sqlalchemy.engine import URL

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.email import notifications
from allocation.adapters.migrate import migrate
from allocation.adapters.outbox import Outbox
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.adapters.webhook_sender import HttpSender
from allocation.adapters.webhooks import SqlWebhooks
from allocation.config import Settings
from allocation.service_layer import flow
from allocation.service_layer.effects import EffectRunner, bind
from allocation.service_layer.handlers import EFFECTS
from allocation.service_layer.store import Store
from allocation.service_layer.subscriptions import Subscriptions
from allocation.service_layer.writer import Writer


@dataclass(frozen=True, slots=True)
class Service:
    """Everything an entrypoint needs, started and to be closed: ``async with bootstrap(settings) as service``."""

    settings: Settings
    url: URL
    writer: Writer
    reader: Reader
    effects: EffectRunner
    store: Store
    webhooks: SqlWebhooks
    subscriptions: Subscriptions
    sender: HttpSender

    async def __aenter__(self) -> Self:
        await self.subscriptions.start()
        self.writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.writer.close()
        await self.effects.close()
        await self.subscriptions.close()
        await self.webhooks.close()
        self.sender.close()
        await self.reader.close()
        await self.store.close()


def bootstrap(settings: Settings) -> Service:
    """Check the flow of events, bring the database up to date, and wire the parts. Nothing runs yet."""
    flow.check()
    url = parse_url(settings.database_url)
    migrate(url)
    store = SqliteStore(url) if is_sqlite(url) else PostgresStore(url)
    writer = Writer(store, max_queued=settings.max_queued)
    effects = EffectRunner(Outbox(url), bind(EFFECTS, notifications=notifications(settings)))
    writer.on_commit(effects.wake)
    webhooks = SqlWebhooks(url)
    sender = HttpSender(allow_private=settings.webhooks_allow_private)
    return Service(settings, url, writer, Reader(url), effects, store, webhooks, Subscriptions(webhooks), sender)

"""The operations on webhooks and their answers: the same over HTTP and on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from allocation.adapters.webhooks import all_webhooks, find_webhook
from allocation.domain.errors import UnknownWebhook
from allocation.service_layer.delivering import webhooks as rules
from allocation.service_layer.delivering.webhooks import SECRET_PREFIX

if TYPE_CHECKING:
    from allocation.bootstrap import Service

HINT_LENGTH = len(SECRET_PREFIX) + 4


class SecretHint(msgspec.Struct):
    """How a secret begins, and when it ends: null for the current one."""

    begins: str
    ends_at: datetime | None


class Webhook(msgspec.Struct):
    """A webhook. Without ``event_types`` it gets every fact; ``disabled_at`` is null while it gets any."""

    id: str
    url: str
    description: str
    event_types: list[str]
    secrets: list[SecretHint]
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str


class Webhooks(msgspec.Struct):
    """All webhooks, the oldest first."""

    webhooks: list[Webhook]


class SecretWebhook(Webhook):
    """A webhook with its new ``secret``, which is never shown again."""

    secret: str


class Trial(msgspec.Struct):
    """Whether the target took the test message; ``status`` is null if it did not answer, ``said`` tells more."""

    delivered: bool
    status: int | None
    said: str


def webhooks(connection: Connection) -> Webhooks:
    """All webhooks."""
    return Webhooks([shown(each) for each in all_webhooks(connection)])


def webhook(connection: Connection, id_: str) -> Webhook:
    """One webhook; raises `UnknownWebhook`."""
    found = find_webhook(connection, id_)
    if found is None:
        raise UnknownWebhook(id_)
    return shown(found)


async def add(service: Service, url: str, event_types: Sequence[str], description: str) -> SecretWebhook:
    """Add a webhook. Raises `InvalidWebhook`, `WebhookConflict` or `TooManyWebhooks`."""
    allow_private = service.settings.webhooks_allow_private
    added = rules.new_webhook(url, event_types, description, allow_private=allow_private, now=datetime.now(UTC))
    await service.webhooks.add(added)
    await service.subscriptions.refresh()
    return _with_secret(added)


async def remove(service: Service, id_: str) -> None:
    """Remove a webhook with its pending deliveries. Raises `UnknownWebhook`."""
    await service.webhooks.remove(id_)
    await service.subscriptions.refresh()


async def enable(service: Service, id_: str) -> Webhook:
    """Post to a webhook again, from now on, that was disabled. Raises `UnknownWebhook`."""
    found = await service.webhooks.change(id_, rules.enabled)
    await service.subscriptions.refresh()
    return shown(found)


async def rotate(service: Service, id_: str, overlap_hours: int) -> SecretWebhook:
    """Give a webhook a new secret; older ones also sign for this number of hours. Raises `UnknownWebhook`."""
    overlap, now = timedelta(hours=overlap_hours), datetime.now(UTC)
    return _with_secret(await service.webhooks.change(id_, lambda found: rules.rotated(found, overlap, now)))


async def try_(service: Service, id_: str) -> Trial:
    """Post a test message to a webhook, and return its target's answer. Raises `UnknownWebhook`."""
    found = await service.webhooks.find(id_)
    if found is None:
        raise UnknownWebhook(id_)
    tried = await rules.try_webhook(found, service.sender)
    return Trial(tried.delivered, tried.answer.status if tried.answer else None, tried.said)


def shown(webhook: rules.Webhook) -> Webhook:
    """The public part of a webhook."""
    now = datetime.now(UTC)
    return Webhook(
        webhook.id,
        webhook.url,
        webhook.description,
        list(webhook.event_types),
        [SecretHint(f"{text[:HINT_LENGTH]}…", ends_at) for text, ends_at in webhook.secrets_at(now)],
        webhook.created_at,
        webhook.disabled_at,
        webhook.disabled_reason,
    )


def _with_secret(webhook: rules.Webhook) -> SecretWebhook:
    return SecretWebhook(**msgspec.structs.asdict(shown(webhook)), secret=webhook.secrets[0].text)

"""``allocation webhooks``: what each of its commands does, and prints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
import typer

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.entrypoints import webhooks
from allocation.entrypoints.cli.exits import DONE, UNDELIVERED, complain, log_to_stderr
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import read
from allocation.entrypoints.webhooks import SecretWebhook, Webhook

T = TypeVar("T")

KEEP_IT = "The secret is not shown again: give it to the receiver, who verifies the signatures with it."


def add(settings: Settings, url: str, event_types: Sequence[str], description: str, *, as_json: bool) -> int:
    """Add a webhook; return the exit code, as all of these do."""
    return _print_secret(_run(settings, lambda service: webhooks.add(service, url, event_types, description)), as_json)


def rotate(settings: Settings, id_: str, overlap_hours: int, *, as_json: bool) -> int:
    return _print_secret(_run(settings, lambda service: webhooks.rotate(service, id_, overlap_hours)), as_json)


def list_all(settings: Settings, *, as_json: bool) -> int:
    log_to_stderr()
    found = asyncio.run(read(settings, webhooks.webhooks))
    if as_json:
        _print_json(found)
    else:
        console().print(table("Webhooks", ("id", "url", "events", "description", "state"), map(_row, found.webhooks)))
    return DONE


def try_(settings: Settings, id_: str, *, as_json: bool) -> int:
    result = _run(settings, lambda service: webhooks.try_(service, id_))
    if as_json:
        _print_json(result)
    elif result.delivered:
        typer.echo(f"delivered: {result.said}")
    else:
        complain(f"not delivered: {result.said}")
    return DONE if result.delivered else UNDELIVERED


def enable(settings: Settings, id_: str, *, as_json: bool) -> int:
    result = _run(settings, lambda service: webhooks.enable(service, id_))
    if as_json:
        _print_json(result)
    else:
        typer.echo(f"enabled: {id_}")
    return DONE


def remove(settings: Settings, id_: str, *, as_json: bool) -> int:
    _run(settings, lambda service: webhooks.remove(service, id_))
    if as_json:
        _print_json({"removed": id_})
    else:
        typer.echo(f"removed: {id_}")
    return DONE


def _run(settings: Settings, work: Callable[[Service], Awaitable[T]]) -> T:
    async def run() -> T:
        async with bootstrap(settings) as service:
            return await work(service)

    log_to_stderr()
    return asyncio.run(run())


def _print_secret(webhook: SecretWebhook, as_json: bool) -> int:  # noqa: FBT001 - the only choice there is
    if as_json:
        _print_json(webhook)
    else:
        typer.echo(f"webhook: {webhook.id}\nsecret: {webhook.secret}\n{KEEP_IT}")
    return DONE


def _print_json(value: object) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def _row(webhook: Webhook) -> tuple[object, ...]:
    events = ", ".join(webhook.event_types) or "all facts"
    return webhook.id, webhook.url, events, webhook.description or None, _state(webhook)


def _state(webhook: Webhook) -> str:
    if webhook.disabled_at is None:
        return "active"
    return f"disabled {webhook.disabled_at:%Y-%m-%d %H:%M}Z: {webhook.disabled_reason}"

"""``allocation webhooks``: add, list, test, remove and enable them, and change their secrets."""

# ruff: noqa: PLC0415 - modules for the database are heavy, and loaded only when they are used
from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from allocation.config import Settings
from allocation.entrypoints.cli.exits import DONE, UNDELIVERED, complain, log_to_stderr
from allocation.entrypoints.cli.options import AsJson, DatabaseUrl, settings_for

if TYPE_CHECKING:
    from allocation.bootstrap import Service
    from allocation.entrypoints.webhooks import SecretWebhook, Webhook

T = TypeVar("T")

KEEP_IT = "The secret is not shown again. The receiver needs it to verify the signatures."
Id = Annotated[str, typer.Argument(metavar="ID", help="The webhook, as list names it.")]

webhooks = typer.Typer(
    help="Post events to URLs of other systems: add, list, test, remove, enable, rotate.", rich_markup_mode="rich"
)


@webhooks.callback(invoke_without_command=True)
def webhooks_(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@webhooks.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="URL to post to, such as https://example.com/hooks.")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Only events of this type; may be repeated. Default: all facts."),
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="Purpose of the webhook.", show_default=False)] = "",
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Post facts, or the named events, to a URL from now on, and print the secret that signs them, only this once."""
    from allocation.entrypoints import webhooks as rules

    added = _run(settings_for(database), lambda service: rules.add(service, url, event or [], description))
    return _print_secret(added, as_json=as_json)


@webhooks.command("list")
def list_(*, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """List all webhooks."""
    import asyncio

    from allocation.entrypoints import webhooks as rules
    from allocation.entrypoints.cli.output import console, table
    from allocation.entrypoints.cli.reading import read

    found = asyncio.run(read(settings_for(database), rules.webhooks))
    if as_json:
        _print_json(found)
    else:
        console().print(table("Webhooks", ("id", "url", "events", "description", "state"), map(_row, found.webhooks)))
    return DONE


@webhooks.command("test")
def try_(id_: Id, *, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """Post a message of type webhook.test, and print the target's answer."""
    from allocation.entrypoints import webhooks as rules

    result = _run(settings_for(database), lambda service: rules.try_(service, id_))
    if as_json:
        _print_json(result)
    elif result.delivered:
        typer.echo(f"delivered: {result.said}")
    else:
        complain(f"not delivered: {result.said}")
    return DONE if result.delivered else UNDELIVERED


@webhooks.command()
def remove(id_: Id, *, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """Stop posting to a webhook, and delete it."""
    from allocation.entrypoints import webhooks as rules

    _run(settings_for(database), lambda service: rules.remove(service, id_))
    if as_json:
        _print_json({"removed": id_})
    else:
        typer.echo(f"removed: {id_}")
    return DONE


@webhooks.command()
def enable(id_: Id, *, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """Enable a disabled webhook, for new events."""
    from allocation.entrypoints import webhooks as rules

    result = _run(settings_for(database), lambda service: rules.enable(service, id_))
    if as_json:
        _print_json(result)
    else:
        typer.echo(f"enabled: {id_}")
    return DONE


@webhooks.command()
def rotate(
    id_: Id,
    *,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=720, help="Hours for which older secrets also sign; 0 if one leaked.")
    ] = 24,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Create a new secret for a webhook, and print it, only this once."""
    from allocation.entrypoints import webhooks as rules

    rotated = _run(settings_for(database), lambda service: rules.rotate(service, id_, overlap_hours))
    return _print_secret(rotated, as_json=as_json)


def _run(settings: Settings, work: Callable[[Service], Awaitable[T]]) -> T:
    import asyncio

    from allocation.bootstrap import bootstrap

    async def run() -> T:
        async with bootstrap(settings) as service:
            return await work(service)

    log_to_stderr()
    return asyncio.run(run())


def _print_secret(webhook: SecretWebhook, *, as_json: bool) -> int:
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

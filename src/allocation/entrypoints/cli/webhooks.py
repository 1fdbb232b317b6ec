"""The commands of ``allocation webhooks`` and their options. What they do is in `subscribing`."""

# ruff: noqa: PLC0415 - what works with a database is heavy, and loaded only when one is used
from __future__ import annotations

from typing import Annotated

import typer

from allocation.entrypoints.cli.options import AsJson, DatabaseUrl, settings_for

Id = Annotated[str, typer.Argument(metavar="ID", help="The webhook, as list names it.")]

webhooks = typer.Typer(
    help="Post events to the URLs of others: add, list, test, remove, enable, rotate.", rich_markup_mode="rich"
)


@webhooks.callback(invoke_without_command=True)
def webhooks_(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@webhooks.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to post, such as https://example.com/hooks.")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Only events of this type; may be given again. Else all facts."),
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.", show_default=False)] = "",
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Have facts, or the events named, posted to a URL from now on, and print the secret that signs them: this once."""
    from allocation.entrypoints.cli import subscribing

    return subscribing.add(settings_for(database), url, event or [], description, as_json=as_json)


@webhooks.command("list")
def list_(*, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """List all webhooks."""
    from allocation.entrypoints.cli import subscribing

    return subscribing.list_all(settings_for(database), as_json=as_json)


@webhooks.command("test")
def try_(id_: Id, *, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """Post a message of type webhook.test, and print what the target said."""
    from allocation.entrypoints.cli import subscribing

    return subscribing.try_(settings_for(database), id_, as_json=as_json)


@webhooks.command()
def remove(id_: Id, *, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """Post nothing to it any more, and forget it."""
    from allocation.entrypoints.cli import subscribing

    return subscribing.remove(settings_for(database), id_, as_json=as_json)


@webhooks.command()
def enable(id_: Id, *, as_json: AsJson = False, database: DatabaseUrl = None) -> int:
    """Post to it again, from now on, after it was disabled."""
    from allocation.entrypoints.cli import subscribing

    return subscribing.enable(settings_for(database), id_, as_json=as_json)


@webhooks.command()
def rotate(
    id_: Id,
    *,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=720, help="For so long older secrets sign as well; 0 if one leaked.")
    ] = 24,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Give it a new secret, and print that: this once."""
    from allocation.entrypoints.cli import subscribing

    return subscribing.rotate(settings_for(database), id_, overlap_hours, as_json=as_json)

"""``allocation dead-letters``: what effects were given up, and what becomes of them."""

# ruff: noqa: PLC0415 - heavy modules are loaded by the command that needs them, so that every command starts quickly
from __future__ import annotations

from typing import Annotated

import typer

from allocation.entrypoints.cli.exits import DONE
from allocation.entrypoints.cli.options import AsJson, DatabaseUrl, DryRun, settings_for

dead_letters = typer.Typer(
    name="dead-letters",
    help="List, show, retry or drop the deliveries that were given up.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Number = Annotated[int | None, typer.Argument(metavar="[NUMBER]", min=0, help="Only this one.")]
OfEffect = Annotated[str | None, typer.Option("--effect", help="Only of this effect.")]
OfSku = Annotated[str | None, typer.Option("--sku", help="Only of this product.")]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="Only those given up longer ago, such as 90m or 7d.")
]


@dead_letters.command("list")
def list_(
    *,
    effect: OfEffect = None,
    sku: OfSku = None,
    older_than: OlderThan = None,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """List dead letters, oldest delivery first."""
    from allocation.entrypoints.cli.redriving import list_dead_letters
    from allocation.service_layer.delivering.dead_letters import Which

    which = Which(effect=effect, sku=sku, older_than=older_than)
    list_dead_letters(settings_for(database), which, as_json=as_json)
    return DONE


@dead_letters.command()
def show(
    number: Annotated[int, typer.Argument(min=0, help="The dead letter.")],
    *,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Show a dead letter: its message, its cause, and what the last attempt said."""
    from allocation.entrypoints.cli.redriving import show_dead_letter

    show_dead_letter(settings_for(database), number, as_json=as_json)
    return DONE


@dead_letters.command()
def retry(  # noqa: PLR0913 - one parameter for each option
    number: Number = None,
    *,
    effect: OfEffect = None,
    sku: OfSku = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Try dead letters again, each before the newer deliveries of its effect and SKU; without a choice, all of them.

    A running allocation serve delivers them within seconds.
    """
    from allocation.entrypoints.cli.redriving import retry_dead_letters
    from allocation.service_layer.delivering.dead_letters import Which

    which = Which(effect=effect, sku=sku, older_than=older_than, number=number)
    return retry_dead_letters(settings_for(database), which, dry_run=dry_run, as_json=as_json)


@dead_letters.command()
def drop(  # noqa: PLR0913 - one parameter for each option
    number: Number = None,
    *,
    effect: OfEffect = None,
    sku: OfSku = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Give dead letters up for good, after asking; without a choice, all of them."""
    from allocation.entrypoints.cli.redriving import drop_dead_letters
    from allocation.service_layer.delivering.dead_letters import Which

    which = Which(effect=effect, sku=sku, older_than=older_than, number=number)
    return drop_dead_letters(settings_for(database), which, dry_run=dry_run, as_json=as_json, sure=yes)

"""``allocation dead-letters``: list deliveries that were given up, and retry or drop them."""

# ruff: noqa: PLC0415 - heavy modules are loaded by the command that needs them, so that every command starts quickly
from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from allocation.config import Settings
from allocation.domain.errors import UnknownDeadLetter
from allocation.entrypoints.cli.exits import DONE, UsageError, log_to_stderr
from allocation.entrypoints.cli.options import AsJson, DatabaseUrl, DryRun, settings_for
from allocation.service_layer.delivering.dead_letters import Chosen, Which

if TYPE_CHECKING:
    from allocation import views
    from allocation.bootstrap import Service

COLUMNS = ("number", "effect", "sku", "message", "attempts", "given up at", "error")
MAX_ERROR_LENGTH = 200  # in a table; `show` has all of it

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
    which = Which(effect=effect, sku=sku, older_than=older_than)
    after: int | None = 0
    found = False
    while after is not None:
        page = _page(settings_for(database), which, after)
        _print_page(page, as_json=as_json)
        found = found or bool(page.dead_letters)
        after = page.next_after
    if not found and not as_json:
        typer.echo("There are no such dead letters.")
    return DONE


@dead_letters.command()
def show(
    number: Annotated[int, typer.Argument(min=0, help="The dead letter.")],
    *,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Show a dead letter: its message, its cause, and the last error."""
    import asyncio

    from allocation import views
    from allocation.entrypoints.cli.reading import read

    letter = asyncio.run(read(settings_for(database), views.dead_letter, str(number)))
    if as_json:
        typer.echo(msgspec.json.encode(letter).decode())
        return DONE
    told = msgspec.structs.asdict(letter) | {"body": bytes(letter.body).decode()}
    width = max(map(len, told))
    del told["stack"]
    for name, value in told.items():
        typer.echo(f"{name:<{width}}  {'–' if value is None else value}")
    typer.echo(f"\n{letter.stack.rstrip()}")
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
    log_to_stderr()
    which = Which(effect=effect, sku=sku, older_than=older_than, number=number)
    chosen = _run(settings_for(database), lambda service: service.dead_letters.retry(which, dry_run=dry_run))
    return _tell("retried", chosen, which, as_json=as_json)


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
    log_to_stderr()
    settings = settings_for(database)
    which = Which(effect=effect, sku=sku, older_than=older_than, number=number)
    if not (yes or dry_run):
        count = _run(settings, lambda service: service.dead_letters.drop(which, dry_run=True)).count
        if as_json:
            raise UsageError(
                "--json cannot ask for confirmation", "Add --yes, or --dry-run to see which ones would be dropped."
            )
        if count and not typer.confirm(f"Drop {count:,} dead letters for good?", err=True):
            typer.echo("Nothing was dropped.")
            return DONE
    chosen = _run(settings, lambda service: service.dead_letters.drop(which, dry_run=dry_run))
    return _tell("dropped", chosen, which, as_json=as_json)


def _page(settings: Settings, which: Which, after: int) -> views.DeadLetters:
    import asyncio

    from allocation import views
    from allocation.entrypoints.cli.reading import read

    chosen = {"effect": which.effect, "sku": which.sku, "older_than": which.older_than}
    return asyncio.run(read(settings, views.dead_letters, **chosen, after=after, limit=views.MAX_PAGE))


def _print_page(page: views.DeadLetters, *, as_json: bool) -> None:
    """Print a table; as JSON, one line each."""
    from allocation.entrypoints.cli.output import console, table

    if as_json:
        for each in page.dead_letters:
            typer.echo(msgspec.json.encode(each).decode())
    elif page.dead_letters:
        console().print(table("Dead letters", COLUMNS, map(_row, page.dead_letters)))


def _row(letter: views.DeadLetter) -> tuple[object, ...]:
    died_at = letter.died_at.isoformat(timespec="seconds")
    error = letter.error[:MAX_ERROR_LENGTH]
    return str(letter.number), letter.effect, letter.sku, letter.id, letter.attempts, died_at, error


def _run(settings: Settings, work: Callable[[Service], Coroutine[Any, Any, Chosen]]) -> Chosen:
    import asyncio

    from allocation.adapters.database import parse_url
    from allocation.bootstrap import bootstrap
    from allocation.entrypoints.cli.reading import check_exists

    async def run() -> Chosen:
        check_exists(parse_url(settings.database_url))
        async with bootstrap(settings) as service:
            return await work(service)

    return asyncio.run(run())


def _tell(done: str, chosen: Chosen, which: Which, *, as_json: bool) -> int:
    if which.number is not None and not chosen.count:
        raise UnknownDeadLetter(which.number)
    if as_json:
        typer.echo(msgspec.json.encode(chosen).decode())
        return DONE
    for effect, number in chosen.effects.items():
        typer.echo(f"{effect}: {number:,}")
    would = "would be " if chosen.dry_run else ""
    typer.echo(f"{chosen.count:,} dead letter{'' if chosen.count == 1 else 's'} {would}{done}")
    return DONE

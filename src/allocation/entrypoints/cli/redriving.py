"""What the commands of ``allocation dead-letters`` do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import typer

from allocation import views
from allocation.adapters.database import parse_url
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.errors import UnknownDeadLetter
from allocation.entrypoints.cli.exits import DONE, UsageError, log_to_stderr
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import check_exists, read
from allocation.service_layer.delivering.dead_letters import Chosen, Which

COLUMNS = ("number", "effect", "sku", "message", "attempts", "given up at", "error")
MAX_ERROR_LENGTH = 200  # in a table; `show` has all of it


def list_dead_letters(settings: Settings, which: Which, *, as_json: bool) -> None:
    """Print them all, page by page; as JSON, one line each."""
    log_to_stderr()
    after: int | None = 0
    found = False
    while after is not None:
        page = asyncio.run(_page(settings, which, after))
        for each in page.dead_letters if as_json else ():
            typer.echo(msgspec.json.encode(each).decode())
        if page.dead_letters and not as_json:
            console().print(table("Dead letters", COLUMNS, map(_row, page.dead_letters)))
        found = found or bool(page.dead_letters)
        after = page.next_after
    if not found and not as_json:
        typer.echo("There are no such dead letters.")


async def _page(settings: Settings, which: Which, after: int) -> views.DeadLetters:
    chosen = {"effect": which.effect, "sku": which.sku, "older_than": which.older_than}
    return await read(settings, views.dead_letters, **chosen, after=after, limit=views.MAX_PAGE)


def _row(letter: views.DeadLetter) -> tuple[object, ...]:
    died_at = letter.died_at.isoformat(timespec="seconds")
    error = letter.error[:MAX_ERROR_LENGTH]
    return str(letter.number), letter.effect, letter.sku, letter.id, letter.attempts, died_at, error


def show_dead_letter(settings: Settings, number: int, *, as_json: bool) -> None:
    """Print one with all there is to know; raises `UnknownDeadLetter`."""
    log_to_stderr()
    letter = asyncio.run(read(settings, views.dead_letter, str(number)))
    if as_json:
        typer.echo(msgspec.json.encode(letter).decode())
        return
    told = msgspec.structs.asdict(letter) | {"body": bytes(letter.body).decode()}
    width = max(map(len, told))
    del told["stack"]
    for name, value in told.items():
        typer.echo(f"{name:<{width}}  {'–' if value is None else value}")
    typer.echo(f"\n{letter.stack.rstrip()}")


def retry_dead_letters(settings: Settings, which: Which, *, dry_run: bool, as_json: bool) -> int:
    """Make them pending again, and say how many they are."""
    log_to_stderr()
    chosen = _run(settings, lambda service: service.dead_letters.retry(which, dry_run=dry_run))
    return _tell("retried", chosen, which, as_json=as_json)


def drop_dead_letters(settings: Settings, which: Which, *, dry_run: bool, as_json: bool, sure: bool) -> int:
    """Give them up for good, once somebody is sure."""
    log_to_stderr()
    if not (sure or dry_run):
        count = _run(settings, lambda service: service.dead_letters.drop(which, dry_run=True)).count
        if as_json:
            raise UsageError("--json asks nobody", "Add --yes, or --dry-run to see what would be dropped.")
        if count and not typer.confirm(f"Drop {count:,} dead letters for good?", err=True):
            typer.echo("Nothing was dropped.")
            return DONE
    chosen = _run(settings, lambda service: service.dead_letters.drop(which, dry_run=dry_run))
    return _tell("dropped", chosen, which, as_json=as_json)


def _run(settings: Settings, work: Callable[[Service], Coroutine[Any, Any, Chosen]]) -> Chosen:
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

"""``allocation tidy``: delete old closed lines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import typer

from allocation.adapters.database import parse_url
from allocation.bootstrap import bootstrap
from allocation.config import LEAST_KEPT_DAYS, PREFIX, Settings
from allocation.entrypoints.cli.exits import DONE, UsageError, log_to_stderr
from allocation.entrypoints.cli.reading import check_exists
from allocation.service_layer.delivering.dead_letters import seconds
from allocation.service_layer.proving.retention import Tidied


def tidy(settings: Settings, older_than: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Delete old closed lines, and print their number."""
    log_to_stderr()
    keep = _keep(settings, older_than)
    check_exists(parse_url(settings.database_url))
    tidied = asyncio.run(_tidy(settings, keep, dry_run=dry_run))
    if as_json:
        typer.echo(msgspec.json.encode(_summary(tidied, dry_run=dry_run)).decode())
    else:
        _print(tidied, dry_run=dry_run)
    return DONE


def _keep(settings: Settings, older_than: str | None) -> timedelta:
    if older_than is None:
        if settings.keep_closed is None:
            raise UsageError(
                "closed lines are never deleted by default",
                f"Add --older-than, for example --older-than 400d, or set {PREFIX}KEEP_CLOSED_DAYS.",
            )
        return settings.keep_closed
    keep = timedelta(seconds=seconds(older_than))
    if keep < timedelta(days=LEAST_KEPT_DAYS):
        raise UsageError(
            f"--older-than is {older_than}",
            f"Use {LEAST_KEPT_DAYS}d or more, so that repeated messages are still recognised.",
        )
    return keep


async def _tidy(settings: Settings, keep: timedelta, *, dry_run: bool) -> Tidied:
    async with bootstrap(settings) as service:
        return await service.retention.tidy(keep, dry_run=dry_run)


def _summary(tidied: Tidied, *, dry_run: bool) -> dict[str, Any]:
    return {**msgspec.to_builtins(tidied), "dry_run": dry_run}


def _print(tidied: Tidied, *, dry_run: bool) -> None:
    if dry_run:
        typer.echo(f"{_lines(tidied.lines)} would be removed")
    else:
        typer.echo(f"{_lines(tidied.lines)} and {tidied.messages:,} messages removed")
    if tidied.undelivered:
        typer.echo(f"{_lines(tidied.undelivered)} kept: messages about them have deliveries left")
    if tidied.doubted:
        typer.echo(f"{_lines(tidied.doubted)} kept: their messages do not lead to their state; see allocation verify")


def _lines(number: int) -> str:
    return f"{number:,} closed line{'' if number == 1 else 's'}"

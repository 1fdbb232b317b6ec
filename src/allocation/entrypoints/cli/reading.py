"""Runs a read model for a command: it opens a reader, and nothing else of the service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.migrations import HEAD
from allocation.adapters.reader import Reader, revision
from allocation.config import Settings
from allocation.domain.days import Calendar
from allocation.domain.lines import Today
from allocation.entrypoints.cli.exits import UsageError
from allocation.service_layer.writing.store import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

OLDER = (
    "It is of an older version of allocation: run allocation migrate as a user who may write to it, then read it again."
)


def calendar_of(settings: Settings) -> Calendar:
    """The days of the business."""
    return Calendar(settings.zone, settings.overdue_days)


def today_of(settings: Settings) -> Today:
    """The business's day now."""
    return calendar_of(settings).at(datetime.now(UTC))


def check_exists(url: URL) -> None:
    """A file that is not there is no database to read from, so none is created."""
    if is_sqlite(url) and not Path(url.database or "").exists():
        raise UsageError(f"{url.database}: there is no such database", "Name another one with --database.")


async def read(
    settings: Settings, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The view's result. Raises `StoreUnavailable` or `DatabaseTooNew`."""
    url = parse_url(settings.database_url)
    check_exists(url)
    reader = Reader(url)
    try:
        await _bring_up_to_date(reader, url)
        return await reader.run(view, *args, **kwargs)
    finally:
        await reader.close()


async def _bring_up_to_date(reader: Reader, url: URL) -> None:
    """Migrate an older database, as a command that writes does. Usually this is one look at its revision."""
    found = None
    with suppress(StoreUnavailable):  # migrating says more clearly why
        found = await reader.run_statement(revision)
    if found == HEAD:
        return
    from allocation.adapters.migrate import migrate  # noqa: PLC0415 - it is hardly ever needed

    try:
        migrate(url)
    except StoreUnavailable as error:
        if found is None:
            raise
        raise StoreUnavailable(f"{error} {OLDER}") from error

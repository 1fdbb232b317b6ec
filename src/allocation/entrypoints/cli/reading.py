"""Runs a read model for a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from allocation.adapters.database import is_sqlite, parse_url
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.cli.exits import UsageError

P = ParamSpec("P")
T = TypeVar("T")


def check_exists(url: URL) -> None:
    """A file that is not there is no database to read from, so none is created."""
    if is_sqlite(url) and not Path(url.database or "").exists():
        raise UsageError(f"{url.database}: there is no such database", "Name another one with --database.")


async def read(
    settings: Settings, view: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The view's result."""
    check_exists(parse_url(settings.database_url))
    async with bootstrap(settings) as service:
        return await service.reader.run(view, *args, **kwargs)

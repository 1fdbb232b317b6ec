"""Options that several commands share, the choices of options, and the settings they make."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from allocation.config import PREFIX, Settings
from allocation.service_layer.messages import actor_of

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="The database, such as sqlite:///file.db or postgresql://user@host:5432/name.",
        show_default=f"{PREFIX}DATABASE_URL, or {Settings().database_url}",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the result, and change nothing.")]


def dashed(name: str) -> str:
    """The spelling of an option or a command here, from the one with underscores, which fields and routes have."""
    return name.replace("_", "-")


class Past(StrEnum):
    """The commands for a time in the past."""

    SHOW = "show"


class EmptyEta(StrEnum):
    """The meaning of an empty ETA."""

    ON_HAND = "on-hand"
    UNKNOWN = "unknown"


class Format(StrEnum):
    """How exported rows are written."""

    CSV = "csv"
    JSONL = "jsonl"


class What(StrEnum):
    """The tables that can be exported."""

    BATCHES = "batches"
    ALLOCATIONS = "allocations"
    BACKORDERS = "backorders"
    LEDGER = "ledger"


def acting(settings: Settings, channel: str) -> str:
    """The actor of a command, for the ledger. Raises `InvalidMessage`."""
    return actor_of(channel, settings.actor) if settings.actor else channel


def settings_for(database: str | None) -> Settings:
    """The settings of the environment, with this database if one is given. Raises `InvalidSetting`."""
    settings = Settings.from_environment(os.environ)
    return settings if database is None else replace(settings, database_url=database)

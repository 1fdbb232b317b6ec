"""``allocation availability``: how much of each product can be promised, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date

import msgspec
import typer

from allocation.config import Settings
from allocation.entrypoints.cli.exits import DONE, UNKNOWN, UsageError, complain
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import read, today_of
from allocation.views.availability import Availability, availabilities


def show(settings: Settings, skus: Sequence[str], qty: int | None, by: str | None, *, as_json: bool) -> int:
    """Print the quantities that can be promised; return the exit code."""
    found = asyncio.run(read(settings, availabilities, today_of(settings), sku=skus, qty=qty, by=_day(by)))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        for each in found.products:
            _print(each, qty, by)
    for sku in found.unknown:
        complain(f"{sku}: unknown", "No batch of it was ever bought.")
    return UNKNOWN if found.unknown else DONE


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a date", "Write it like 2026-01-31.") from None


def _print(found: Availability, qty: int | None, by: str | None) -> None:
    rows = [(each.date, each.quantity) for each in found.timeline]
    console().print(table(found.sku, ("from", "quantity"), rows))
    typer.echo(f"{found.available_now:,} available now")
    if qty is not None:
        when = "not with the stock bought so far" if found.earliest is None else f"from {found.earliest}"
        by_then = "" if by is None else f"; by {by}: {'yes' if found.can_promise else 'no'}"
        typer.echo(f"A line of {qty:,}: {when}{by_then}")

"""``allocation at TIME show``: a product, an order or a batch as it was, from the ledger."""

from __future__ import annotations

import asyncio
from datetime import datetime

from allocation.config import Settings
from allocation.domain.rules import usual_rules
from allocation.entrypoints.cli.exits import DONE, UNKNOWN, UsageError, complain
from allocation.entrypoints.cli.reading import calendar_of, read
from allocation.entrypoints.cli.showing import print_found
from allocation.views.named import Found
from allocation.views.past import find_past


def show_past(settings: Settings, time: str, name: str, *, as_json: bool) -> int:
    """Print everything with the name at that time; return the exit code."""
    moment = parse_moment(time)
    rules, calendar = usual_rules(settings.strategy), calendar_of(settings)
    found = asyncio.run(read(settings, find_past, name, moment, rules, calendar))
    if found == Found():
        complain(
            f"{name}: unknown at {moment.isoformat()}",
            "No product, batch or order had this name then, or its lines were deleted since.",
        )
        return UNKNOWN
    print_found(name, found, as_json=as_json)
    return DONE


def parse_moment(time: str) -> datetime:
    """A moment in ISO 8601 with its offset from UTC. Raises `UsageError`."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise UsageError(
            f"{time!r} is no time", "Write it as in 2026-01-31T12:00Z or 2026-01-31T12:00+01:00."
        ) from None
    if moment.tzinfo is None:
        raise UsageError(
            f"{time!r} does not say which time zone it is in",
            f"Write {moment.isoformat()}Z for UTC, or the offset from it as in {moment.isoformat()}+01:00.",
        )
    return moment

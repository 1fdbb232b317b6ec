"""``allocation explain``: why a line is on its batch, or waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import typer

from allocation.config import Settings
from allocation.domain.lines import ALLOCATED, WAITING
from allocation.domain.rules import usual_rules
from allocation.entrypoints.cli.exits import DONE
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import calendar_of, read, today_of
from allocation.entrypoints.cli.showing import due, noted
from allocation.views.explain import NOW, Considered, Explanation, Happening, explain

MORE = "There are more batches."
EARLIER = "There are earlier entries."


def show(settings: Settings, orderid: str, sku: str, *, as_json: bool) -> int:
    """Print why the line is on its batch, or waits; return the exit code."""
    rules, calendar = usual_rules(settings.strategy), calendar_of(settings)
    about = (orderid, sku, today_of(settings))
    found = asyncio.run(read(settings, explain, *about, usual_rules=rules, calendar=calendar))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        _print(found)
    return DONE


def _print(found: Explanation) -> None:
    typer.echo(f"Order {found.orderid}, {found.qty:,} of {found.sku}: {_state(found)}")
    typer.echo(_rule(found))
    title = "The batches as they are now" if found.as_of == NOW else "The batches just before the line was placed"
    happened = [_happened(each) for each in found.history]
    console().print(
        table(title, *_batches(found.considered), MORE if found.more_considered else ""),
        table("History", ("time", "actor", "event", "cause"), happened, EARLIER if found.more_history else ""),
        sep="\n",
    )


def _state(found: Explanation) -> str:
    place = f" on {found.batchref}" if found.batchref else ""
    when = f", due {found.promised}" if found.promised else ", due on no known day" if found.eta_unknown else ""
    late = ", late" if found.late else ""
    if found.late_days:
        late = f", {found.late_days} day{'' if found.late_days == 1 else 's'} late"
    word = {ALLOCATED: "is", WAITING: "waits"}.get(found.state, found.state)
    return f"{word}{place}{when}{late}"


def _rule(found: Explanation) -> str:
    if found.rule is None:
        cause = found.decision.cause.type if found.decision and found.decision.cause else ""
        return f"The line was not placed by a rule, but by {cause}."
    own = ", ".join(f"{name} {value}" for name, value in found.rules.items() if name != "strategy")
    return f"Rule: {found.rule}{f' ({own})' if own else ''}"


def _batches(considered: Sequence[Considered]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """The columns and rows of the batches. Some are columns only if any batch has a value for them."""
    columns: dict[str, list[object]] = {
        "batch": [each.batchref for each in considered],
        "due": [due(each.eta, unknown=each.eta_unknown) for each in considered],
        "location": [each.location for each in considered],
        "expires": [each.expires_on for each in considered],
        "available": [each.available_quantity for each in considered],
        "": [_verdict(each) for each in considered],
        "note": [noted(each.marks, each.quarantine) for each in considered],
        "held by": [", ".join(f"{holder.orderid} {holder.qty:,}" for holder in each.held_by) for each in considered],
    }
    for name in ("location", "expires", "note"):
        if not any(columns[name]):
            del columns[name]
    return list(columns), list(zip(*columns.values(), strict=True))


def _verdict(seen: Considered) -> str:
    verdict = "taken" if seen.chosen else seen.obstacle or "not needed"
    if seen.chosen and seen.obstacle:
        verdict = f"taken, {seen.obstacle}"
    return verdict


def _happened(each: Happening) -> tuple[object, ...]:
    cause = "" if each.cause is None else f"{each.first_cause.type} {each.first_cause.id}"
    return f"{each.recorded_at:%Y-%m-%d %H:%M:%S}", each.actor, each.type, cause

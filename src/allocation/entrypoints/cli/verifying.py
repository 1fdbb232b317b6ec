"""``allocation verify``: compare every sum and the whole ledger with the rows; and ``--repair``, for counters only."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from allocation.adapters.database import parse_url
from allocation.adapters.long_reader import LongReader
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.events import RepairRequired
from allocation.entrypoints.answers import answer
from allocation.entrypoints.cli.exits import DIFFERENT, DONE, log_to_stderr
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import check_exists
from allocation.service_layer.messages import checked_message
from allocation.service_layer.proving.audit import KINDS, Report
from allocation.views.audit import Found, audit_all

ACTOR = "verify"
REPAIRS_AT_ONCE = 500


@dataclass(slots=True)
class Verdict:
    """The differences found, and the repairs."""

    report: Report
    found: Sequence[Found]
    seconds: float = 0.0
    repaired: list[dict[str, Any]] = field(default_factory=list)  # counters, each with its stored and counted value
    doubted: list[str] = field(default_factory=list)  # products not repaired, since their lines are in doubt

    @property
    def left(self) -> int:
        """The number of remaining differences."""
        return self.report.found.total() - len(self.repaired)


def verify(settings: Settings, *, repair: bool, as_json: bool) -> int:
    """Verify the books, and print the differences; return the exit code."""
    log_to_stderr()
    check_exists(parse_url(settings.database_url))
    verdict = asyncio.run(_verify(settings, repair=repair))
    if as_json:
        typer.echo(msgspec.json.encode(_summary(verdict)).decode())
    else:
        _print(verdict)
    return DIFFERENT if verdict.left else DONE


async def _verify(settings: Settings, *, repair: bool) -> Verdict:
    async with bootstrap(settings) as service:
        started = time.perf_counter()
        with Display() as display:
            report, found = await LongReader(service.url).run(audit_all, display.show)
        verdict = Verdict(report, found, time.perf_counter() - started)
        if repair:
            await _repair(service, verdict)
        return verdict


async def _repair(service: Service, verdict: Verdict) -> None:
    """Count the counters again, for products whose lines are not in doubt."""
    report = verdict.report
    verdict.doubted = sorted(report.miscounted & report.doubted)
    skus = sorted(report.miscounted - report.doubted)
    for start in range(0, len(skus), REPAIRS_AT_ONCE):
        chosen = skus[start : start + REPAIRS_AT_ONCE]
        messages = [checked_message(RepairRequired(sku), ACTOR) for sku in chosen]
        for outcome in await asyncio.gather(*map(service.writer.handle, messages)):
            answered = answer(outcome)
            verdict.repaired += [{"sku": answered["sku"], **counter} for counter in answered["repaired"]]


class Display:
    """Progress: on a terminal, a bar and the time left; elsewhere nothing, because the verdict is enough."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f} lines", justify="right"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._progress.add_task("sorting rows and ledger", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, seen: int, total: int) -> None:
        """Show the lines seen and the total. Zero seen means that the database is still sorting."""
        if seen:
            self._progress.update(self._task, completed=seen, total=total, description="comparing")


def _summary(verdict: Verdict) -> dict[str, Any]:
    report = verdict.report
    return {
        "products": report.products,
        "batches": report.batches,
        "lines": report.lines,
        "messages": report.messages,
        "seconds": round(verdict.seconds, 3),
        "found": report.found,
        "differences": [_told(each) for each in verdict.found],
        "repaired": verdict.repaired,
        "doubted": verdict.doubted,
        "left": verdict.left,
    }


def _told(each: Found) -> dict[str, Any]:
    kind, sku, name, stored, expected, _ = each.difference
    cause = each.cause._asdict() if each.cause else None
    return {"kind": kind, "sku": sku, "name": name, "stored": stored, "expected": expected, "message": cause}


def _print(verdict: Verdict) -> None:
    out = console()
    if verdict.found:
        columns = ("product", "difference", "of", "stored", "should be", "last message")
        out.print(table("Differences", columns, map(_row, verdict.found), _more(verdict)))
        kinds = [(kind, count, KINDS[kind]) for kind, count in verdict.report.found.most_common()]
        out.print(table("Meaning", ("difference", "number", "meaning"), kinds))
    if verdict.repaired:
        rows = [
            (each["sku"], each["counter"].replace("_", "-"), each["batchref"], each["stored"], each["counted"])
            for each in verdict.repaired
        ]
        out.print(table("Repaired", ("product", "counter", "of", "was", "is"), rows))
    if verdict.doubted:
        out.print(f"Not repaired, because their lines are in doubt: {', '.join(verdict.doubted)}")
    out.print(_sentence(verdict))


def _row(each: Found) -> tuple[object, ...]:
    kind, sku, name, stored, expected, _ = each.difference
    message = f"{each.cause.type} {each.cause.id}" if each.cause else None
    return sku, kind, name, _shown(stored), _shown(expected), message


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _more(verdict: Verdict) -> str:
    more = verdict.report.found.total() - len(verdict.found)
    return f"and {more:,} more" if more else ""


def _sentence(verdict: Verdict) -> str:
    report = verdict.report
    seen = (
        f"{report.products:,} products, {report.batches:,} batches and {report.lines:,} lines"
        f" against {report.messages:,} messages in {verdict.seconds:.1f} s"
    )
    if not report.found:
        return f"{seen}: the books are right"
    repaired = f", {len(verdict.repaired):,} repaired" if verdict.repaired else ""
    return f"{seen}: {report.found.total():,} differences{repaired}, {verdict.left:,} left"

"""P7: a file of order lines into each store, against rows that are written without a thought."""

import time
from functools import partial
from pathlib import Path

import psutil

from bench import ours
from bench.books import BooksDoNotBalance
from bench.measure import Goal, Outcome, Panel, Sample, Series, at_most, interleave, present, versus
from bench.plan import SKUS
from bench.processes import finished
from bench.rivals.raw import copy, inserts
from bench.run import Run
from bench.services import OURS, OURS_SQLITE, Service
from bench.stores import Database, Fixture

LINES = 200_000
RAW_COPY = Fixture("raw_copy", copy.fill)
RAW_INSERTS = Fixture("raw_inserts", inserts.fill)
MOST_GROWTH = 1.15
NOTE = """Ours is the whole command, its start included. Raw rows are ready in memory, 1,000 per commit, without key
or index."""


def import_lines(run: Run) -> Outcome:
    file = _write_file(run)
    contenders = {
        "ours": partial(_importing, run, OURS, file),
        "raw-copy": partial(_copying, run),
        "ours-sqlite": partial(_importing, run, OURS_SQLITE, file),
        "raw-sqlite": partial(_inserting, run),
    }
    chosen = {name: each for name, each in contenders.items() if run.plan.includes(name)}
    series = interleave(chosen, run.plan.rounds)
    goals = [
        versus(series, "ours", "raw-copy", 0.15),
        versus(series, "ours-sqlite", "raw-sqlite", 0.10),
        *(_flat(name, series[name]) for name in ("ours", "ours-sqlite") if name in series),
    ]
    panel = Panel(f"{LINES:,} order lines from a file", "lines/s", series)
    return Outcome((panel,), present(goals), (NOTE,))


def _write_file(run: Run) -> Path:
    file = run.scratch / "lines.jsonl"
    lines = (ours.order(f"order-{number}", f"SKU-{number % SKUS + 1}") for number in range(LINES))
    file.write_bytes(b"".join(lines))
    return file


def _importing(run: Run, service: Service, file: Path) -> Sample:
    with service.database(run) as database:
        weights: list[float] = []
        started = time.perf_counter()
        finished(ours.import_file(file, database), lambda child: weights.append(_weight_mb(child)))
        seconds = time.perf_counter() - started
        service.books.check(database, LINES)
    half = len(weights) // 2
    seen = {"peak_mb": max(weights), "growth": max(weights[half:]) / max(weights[: half or 1])}
    return Sample(LINES / seconds, seen)


def _weight_mb(child: psutil.Process) -> float:
    return float(child.memory_info().rss) / 1e6


def _copying(run: Run) -> Sample:
    with run.postgres.clone(RAW_COPY) as database:
        seconds = copy.seconds_for(database, LINES)
        _check_rows(database)
    return Sample(LINES / seconds)


def _inserting(run: Run) -> Sample:
    with run.sqlite.clone(RAW_INSERTS) as database:
        seconds = inserts.seconds_for(database, LINES)
        _check_rows(database)
    return Sample(LINES / seconds)


def _check_rows(database: Database) -> None:
    (rows,) = database.row("SELECT count(*) FROM allocations")
    if rows != LINES:
        raise BooksDoNotBalance(f"{LINES} rows were written, {rows} are there")


def _flat(name: str, series: Series) -> Goal:
    """The second half of the file takes no more memory than the first."""
    return at_most(f"{name}: memory, 2nd half / 1st half", series.pick("growth"), MOST_GROWTH)

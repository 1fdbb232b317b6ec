"""Imports a file of events into a fresh SQLite database, cuts its most popular batches, and checks the books.

All by the program itself, as anybody would: ``allocation import``. Exits with 1 if something does not add up.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from allocation.entrypoints.cli.output import console, table
from journey.books import Check, Totals, checks, totals
from journey.plan import write

CUT_BATCHES = 200
CUT_TO = 0.9  # of what was purchased

POPULAR = """
    SELECT b.ref, b.purchased_quantity FROM batches AS b JOIN order_lines AS l ON l.batchref = b.ref
    GROUP BY b.ref ORDER BY count(*) DESC, b.ref LIMIT ?
"""
# Lines that lost their batch, and how many of them have another one now. Only the cuts take lines from batches.
MOVED = """
    SELECT count(*), count(l.batchref) FROM (SELECT DISTINCT orderid, sku FROM messages WHERE type = 'Deallocated') AS d
    JOIN order_lines AS l ON l.orderid = d.orderid AND l.sku = d.sku
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path)
    parser.add_argument("--database", type=Path, required=True, help="a file, made anew")
    arguments = parser.parse_args()
    database: Path = arguments.database
    database.parent.mkdir(parents=True, exist_ok=True)
    for file in (database, *(database.with_name(f"{database.name}{end}") for end in ("-wal", "-shm"))):
        file.unlink(missing_ok=True)
    return play(arguments.events, database)


def play(events: Path, database: Path) -> int:
    """Import, cut, check; return the exit code."""
    imported = _import(events, database)
    with closing(sqlite3.connect(database)) as connection:
        before = totals(connection)
        cuts = database.with_name(f"{database.stem}-cuts.jsonl")
        popular = connection.execute(POPULAR, (CUT_BATCHES,)).fetchall()
        write(cuts, ({"type": "BatchQuantityChanged", "ref": ref, "qty": int(qty * CUT_TO)} for ref, qty in popular))
    cut = _import(cuts, database)
    with closing(sqlite3.connect(database)) as connection:
        after = totals(connection)
        freed, moved = connection.execute(MOVED).fetchone()
        balance = checks(connection, [events])
    _report(imported, cut, before, after)
    out = console()
    out.print(f"The cuts freed {freed:,} lines: {moved:,} moved to another batch, {freed - moved:,} wait.\n")
    return _report_balance(balance)


def _import(file: Path, database: Path) -> dict[str, Any]:
    """What ``allocation import`` says about the file. A refused line is a failure here."""
    command = [sys.executable, "-m", "allocation.entrypoints.cli", "import", str(file), "--json"]
    done = subprocess.run(
        [*command, "--database", f"sqlite:///{database}"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"allocation import ended with {done.returncode}: {done.stdout}")
    summary: dict[str, Any] = json.loads(done.stdout)[0]
    return summary


def _report(imported: dict[str, Any], cut: dict[str, Any], before: Totals, after: Totals) -> None:
    out = console()
    columns = ("file", "lines", "seconds", "lines per second")
    rows = [(each["file"], each["lines"], f"{each['seconds']:.1f}", each["lines_per_s"]) for each in (imported, cut)]
    out.print(table("Imported", columns, rows))
    names = {
        "lines": "order lines",
        "quantity": "units ordered",
        "on_batches": "lines on a batch",
        "waiting": "lines waiting",
        "batches": "batches",
        "products": "products",
    }
    counts = [(words, getattr(before, name), getattr(after, name)) for name, words in names.items()]
    out.print(table("Where everything stands", ("", "before the cuts", "after"), counts))


def _report_balance(balance: list[Check]) -> int:
    rows = [(check.name, "yes" if check.wrong == 0 else f"NO: {check.wrong:,}") for check in balance]
    console().print(table("The books", ("", "balance"), rows))
    return 0 if all(check.wrong == 0 for check in balance) else 1


if __name__ == "__main__":
    sys.exit(main())

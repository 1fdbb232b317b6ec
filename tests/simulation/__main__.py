"""The long run, ``python -m tests.simulation [SECONDS [SEED]]``: random histories, as many as there is time for."""

from __future__ import annotations

import itertools
import random
import sys
import time

from rich import box
from rich.console import Console
from rich.table import Table

from tests.simulation.plan import FAULTS, told
from tests.simulation.search import Searched, search

SECONDS = 60
WIDTH = 120


def main() -> int:
    """Play; return 1 and print the shortest history if one fails."""
    seconds, seed = [*map(int, sys.argv[1:]), *(SECONDS, random.randrange(1_000_000_000))[len(sys.argv) - 1 :]]
    out = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    out.print(f"{seconds} s, SEED={seed}")
    began = time.monotonic()
    result = search(itertools.count(seed), seconds=seconds)
    out.print(table(result, time.monotonic() - began))
    if result.failure is None:
        return 0
    out.print(f"SEED={result.failure.seed} fails. The shortest history that does:")
    out.print(told(result.failure.history))
    for fault in result.failure.found:
        out.print(f"  {fault}")
    return 1


def table(result: Searched, seconds: float) -> Table:
    """What was played, and how often each thing went wrong."""
    made = Table(box=box.SIMPLE_HEAD, show_header=False)
    made.add_column()
    made.add_column(justify="right")
    made.add_row("histories", f"{result.histories:,}")
    made.add_row("a minute", f"{60 * result.histories / seconds:,.0f}")
    made.add_row("messages handed in", f"{result.attempts:,}")
    made.add_row("messages in the ledger", f"{result.messages:,}")
    made.add_section()
    for place, kind in FAULTS:
        made.add_row(f"{place}: {kind}", f"{result.faults[place, kind]:,}")
    made.add_section()
    made.add_row("histories that failed", str(int(result.failure is not None)))
    return made


if __name__ == "__main__":
    sys.exit(main())

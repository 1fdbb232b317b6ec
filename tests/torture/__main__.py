"""The full run, ``python -m tests.torture [SECONDS [SEED]]``: every attack for its share of the time, and a table."""

from __future__ import annotations

import asyncio
import functools
import random
import shutil
import sys
import tempfile
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.torture.arena import ATTACKS, by_chance, in_turn, kill_postgres, on_postgres
from tests.torture.checker import KINDS
from tests.torture.rounds import Result, play

SECONDS = 180
WIDTH = 120
SHOWN = 5
KILLS = 5  # in the control
DONE = (
    "sent", "acknowledged", "retried", "abandoned", "repeated", "503", "no answer", "messages",
    "servers killed", "servers paused", "databases killed", "connections cut", "delays",
)  # fmt: skip


def main() -> int:
    """Play all rounds and the control; return 1 if any round has a fault, or the control has none."""
    seconds, seed = [*map(int, sys.argv[1:]), *(SECONDS, random.randrange(1_000_000))[len(sys.argv) - 1 :]]
    out = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    out.print(f"{seconds} s, SEED={seed}: the same choices again, though never the same timing")
    results: dict[str, Result] = {}
    for name, (arena_of, attacks) in ATTACKS.items():
        out.print(f"{name} …")
        folder = Path(tempfile.mkdtemp(prefix="allocation-torture-"))
        results[name] = asyncio.run(play(arena_of, by_chance(attacks, seconds / len(ATTACKS)), folder, seed))
        if results[name].found:
            out.print(*results[name].found[:SHOWN], f"The logs are in {folder}", sep="\n  ")
        else:
            shutil.rmtree(folder)
    out.print(table(results))
    lost, acknowledged = control(seed)
    out.print(f"Control: with synchronous_commit off and {KILLS} kills, {lost:,} of {acknowledged:,} messages are lost")
    return int(lost == 0 or any(result.found for result in results.values()))


def control(seed: int) -> tuple[int, int]:
    """Of the messages acknowledged, those lost by a database that answers before it has written; and all of them.

    A checker that finds none lost is blind.
    """
    careless = functools.partial(on_postgres, synchronous_commit="off")
    killed = in_turn([kill_postgres] * KILLS)
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(play(careless, killed, Path(folder), seed))
    return sum("not in the ledger" in fault for fault in result.faults["lost"]), result.counts["acknowledged"]


def table(results: dict[str, Result]) -> Table:
    """A column for each attack; first what was done, then the faults."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column("")
    for name in results:
        made.add_column(name, justify="right")
    for what in DONE:
        made.add_row(what, *(f"{result.counts[what]:,}" for result in results.values()))
    made.add_section()
    for kind in KINDS:
        made.add_row(f"fault: {kind}", *(f"{len(result.faults[kind]):,}" for result in results.values()))
    return made


if __name__ == "__main__":
    sys.exit(main())

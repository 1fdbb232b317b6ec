"""The full run, ``python -m tests.torture [SECONDS [SEED]]``: every attack for its share of the time, then the matrix.

A table for each, and a control.
"""

from __future__ import annotations

import asyncio
import functools
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.torture.arena import ATTACKS, by_chance, in_turn, kill_postgres, kill_tidier, on_postgres
from tests.torture.checker import KINDS
from tests.torture.crash import COUNTS as CRASH_COUNTS
from tests.torture.crash import Survived, survive_all
from tests.torture.rounds import Result, play

SECONDS = 180
WIDTH = 120
SHOWN = 5
KILLS = 5  # in the control
DONE = (
    "sent", "acknowledged", "retried", "abandoned", "repeated", "refused", "503", "no answer", "messages", "removed",
    "servers killed", "servers paused", "tidiers killed", "databases killed", "connections cut", "delays",
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
        half_s = seconds / len(ATTACKS) / 2
        attack, later = by_chance(attacks, half_s), by_chance([*attacks, kill_tidier], half_s)
        results[name] = asyncio.run(play(arena_of, attack, later, folder, seed))
        if results[name].found:
            out.print(*results[name].found[:SHOWN], f"The logs are in {folder}", sep="\n  ")
        else:
            shutil.rmtree(folder)
    out.print(table(results))
    out.print("killed at every point …")
    survived = survive_all()
    out.print(crash_table(survived))
    faults = [fault for cases in survived.values() for case in cases for fault in case.faults]
    out.print(*faults[:SHOWN], sep="\n")
    lost, acknowledged = control(seed)
    out.print(f"Control: with synchronous_commit off and {KILLS} kills, {lost:,} of {acknowledged:,} messages are lost")
    return int(lost == 0 or bool(faults) or any(result.found for result in results.values()))


def control(seed: int) -> tuple[int, int]:
    """Of the messages acknowledged, those lost by a database that answers before it has written; and all of them.

    A checker that finds none lost is blind.
    """
    careless = functools.partial(on_postgres, synchronous_commit="off")
    killed = in_turn([kill_postgres] * KILLS)
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(play(careless, killed, in_turn([]), Path(folder), seed))
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


def crash_table(survived: Mapping[str, Sequence[Survived]]) -> Table:
    """A column for each database and way of writing: what was done at all points together, and the faults."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column("")
    for name in survived:
        made.add_column(name, justify="right")
    for what in CRASH_COUNTS:
        made.add_row(what, *(f"{sum(case.counts[what] for case in cases):,}" for cases in survived.values()))
    made.add_section()
    made.add_row("faults", *(f"{sum(len(case.faults) for case in cases):,}" for cases in survived.values()))
    return made


if __name__ == "__main__":
    sys.exit(main())

"""P11: the bus and the domain alone."""

import json
import subprocess
import sys
from functools import partial

from bench.measure import Outcome, Panel, Sample, at_most, interleave
from bench.plan import HOT_SKUS, SKUS
from bench.processes import ROOT
from bench.run import Run

MOST_PER_MESSAGE_US = 12


def in_memory(run: Run) -> Outcome:
    cases = {f"{SKUS:,} SKUs": SKUS, "one hot SKU": HOT_SKUS}
    contenders = {name: partial(_handling, skus) for name, skus in cases.items()}
    series = interleave(contenders if run.plan.includes("ours") else {}, run.plan.rounds)
    goals = [at_most(name, each, MOST_PER_MESSAGE_US, "µs") for name, each in series.items()]
    panel = Panel("messagebus.handle(AllocationRequired), in memory", "µs", series)
    return Outcome((panel,), tuple(goals), ("Each message sets off one Allocated.",))


def _handling(skus: int) -> Sample:
    """In a process of its own, so that nothing of ours lies in memory beside it."""
    argv = [sys.executable, "-m", "bench.bus_in_memory", str(skus)]
    output = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return Sample(json.loads(output))

"""Runs benchmarks: `python -m bench [NAME …]`."""

import argparse
import sys
import time
import traceback
from dataclasses import replace

from bench import machine, report
from bench.catalogue import BENCHMARKS, Benchmark, find
from bench.machine import Machine
from bench.plan import QUICK, Plan
from bench.run import Run, started


def main() -> int:
    options = _parser().parse_args()
    chosen = [find(name) for name in options.names] or list(BENCHMARKS)
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, only=frozenset(options.only))
    with started(plan) as run:
        about = machine.describe(run)
        failed = [benchmark for benchmark in chosen if not _ran(run, benchmark, about)]
    for benchmark in failed:
        print(f"FAILED: {benchmark.name} {benchmark.title}", file=sys.stderr)
    return 1 if failed else 0


def _ran(run: Run, benchmark: Benchmark, about: Machine) -> bool:
    """A benchmark that fails leaves the others alone; its figures are discarded.

    Only a run of full length with all contenders is kept.
    """
    print(f"\n{benchmark.name} ({benchmark.alias}): {benchmark.title}", flush=True)
    began = time.monotonic()
    try:
        outcome = benchmark.run(run)
    except Exception:  # noqa: BLE001 - whatever went wrong, the others still run; it is shown and counts as failed
        print(f"  discarded:\n{traceback.format_exc()}", file=sys.stderr)
        return False
    report.print_goals(outcome)
    if run.plan.is_complete:
        report.save(benchmark.name, benchmark.title, outcome, run.plan, about)
    print(f"  took {time.monotonic() - began:.0f} s")
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = ", ".join(f"{each.name} ({each.alias})" for each in BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {names}; default all")
    parser.add_argument("--rounds", type=int, help="how often each contender is measured")
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument("--only", action="append", default=[], metavar="CONTENDER", help="repeatable; default all")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Draws where the loaded service spends its time: `python -m bench.profile [many|hot|sqlite]`."""

import subprocess
import sys
from pathlib import Path

from bench import load
from bench.plan import HOT_SKUS, SKUS, Plan
from bench.processes import ROOT
from bench.run import started
from bench.services import OURS, OURS_SQLITE, Service
from bench.suites.throughput import sku_names

OUT = ROOT / "bench" / "out"
SECONDS = 10
SAMPLES_PER_SECOND = 250
CASES: dict[str, tuple[Service, int]] = {
    "many": (OURS, SKUS),
    "hot": (OURS, HOT_SKUS),
    "sqlite": (OURS_SQLITE, SKUS),
}


def main() -> int:
    case = sys.argv[1] if len(sys.argv) > 1 else "many"
    if case not in CASES:
        print(f"No case is called {case!r}: {', '.join(CASES)}.", file=sys.stderr)
        return 2
    service, skus = CASES[case]
    plan = Plan()
    OUT.mkdir(exist_ok=True)
    picture = OUT / f"profile-{case}.svg"
    with started(plan) as run, service.database(run) as database, service.running(database) as (server,):
        load.as_fast_as_possible([server.port], run.unique(), sku_names(skus), plan.connections, plan.warm_up_s)
        recorder = subprocess.Popen(_record(server.process.pid, picture))
        seen = load.as_fast_as_possible([server.port], run.unique(), sku_names(skus), plan.connections, SECONDS + 2)
        failed = recorder.wait()
    print(f"{seen.accepted_per_second:,.0f} orders/s while being watched; the flame graph is {picture}")
    return failed


def _record(pid: int, picture: Path) -> list[str]:
    """It does not stop the process to look at it, so that what is seen is close to what happens unseen."""
    recorder = str(Path(sys.executable).with_name("py-spy"))
    options = ("--nonblocking", "--rate", str(SAMPLES_PER_SECOND), "--duration", str(SECONDS))
    return [recorder, "record", "--pid", str(pid), *options, "--output", str(picture)]


if __name__ == "__main__":
    sys.exit(main())

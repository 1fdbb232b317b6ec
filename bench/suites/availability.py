"""P13: what can be promised, asked as a product page asks it, alone and beside orders at full load."""

from functools import partial

from bench import load
from bench.measure import Outcome, Panel, Sample, at_most, interleave
from bench.plan import SKUS
from bench.run import Run
from bench.services import OURS, OURS_SQLITE, Service
from bench.suites.throughput import sku_names

ASKERS = 8
HIGHEST_P99_MS = 25
NOTE = f"{ASKERS} connections ask about one of {SKUS:,} products each; our own generator."


def asked(run: Run) -> Outcome:
    cases = {"ours": (OURS, 0), "ours, beside orders": (OURS, run.plan.connections), "ours-sqlite": (OURS_SQLITE, 0)}
    chosen = {
        name: partial(_asking, run, service, orderers)
        for name, (service, orderers) in cases.items()
        if run.plan.includes(service.name)
    }
    series = interleave(chosen, run.plan.rounds)
    goals = [
        at_most(f"{name}: p99", each.pick("p99_ms"), HIGHEST_P99_MS, "ms")
        for name, each in series.items()
        if name == "ours"
    ]
    return Outcome((Panel("GET /availability/{sku}?qty=1", "answers/s", series),), tuple(goals), (NOTE,))


def _asking(run: Run, service: Service, orderers: int) -> Sample:
    with service.database(run) as database, service.running(database) as (server,):
        for seconds in (run.plan.warm_up_s, run.plan.seconds):
            asked, ordered = load.asking(server.port, run.unique(), sku_names(SKUS), ASKERS, seconds, orderers=orderers)
    seen = {"p50_ms": asked.p50_ms, "p99_ms": asked.p99_ms, "refused_share": asked.refused_share}
    if ordered is not None:
        seen["orders_per_second"] = ordered.accepted_per_second
    return Sample(asked.accepted_per_second, seen)

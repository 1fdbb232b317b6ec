"""P4, P5: how long one order takes, alone and in a crowd."""

from functools import partial

from bench import load
from bench.measure import Outcome, Panel, Sample, at_most, interleave, present, versus
from bench.plan import SKUS
from bench.run import Run
from bench.services import OURS, Service
from bench.suites.throughput import allocating, as_sample, best_one_tx, sku_names

HIGHEST_P99_MS = 25
PACED_NOTE = "Load: our own generator (wrk has no fixed rate); latency counts from when an order was due."


def one_at_a_time(run: Run) -> Outcome:
    contenders = {each.name: partial(_alone, run, each) for each in _included(run)}
    series = interleave(contenders, run.plan.rounds)
    goals = present([versus(series, "ours", "one-tx", 1.2, most=True)])
    panel = Panel("POST /allocate, one connection: p50", "ms", series)
    return Outcome((panel,), goals, (f"Load: {load.generator_name()}.",))


def in_a_crowd(run: Run) -> Outcome:
    """Both at half of the rate that the first of them reaches flat out."""
    services = _included(run)
    if not services:
        return Outcome((), ())
    rate = allocating(run, services[0], SKUS).value / 2
    contenders = {each.name: partial(_paced, run, each, rate) for each in services}
    series = interleave(contenders, run.plan.rounds)
    goals = present([versus(series, "ours", "one-tx", 1, most=True)])
    if "ours" in series:
        goals += (at_most("ours: p99", series["ours"], HIGHEST_P99_MS, "ms"),)
    panel = Panel(f"POST /allocate at {rate:,.0f} orders/s: p99", "ms", series)
    return Outcome((panel,), goals, (PACED_NOTE,))


def _included(run: Run) -> list[Service]:
    ours = [OURS] if run.plan.includes("ours") else []
    return [*ours, best_one_tx(run, SKUS)] if run.plan.includes("one-tx") else ours


def _alone(run: Run, service: Service) -> Sample:
    sample = allocating(run, service, SKUS, connections=1)
    return Sample(sample.seen["p50_ms"], {**sample.seen, "per_second": sample.value})


def _paced(run: Run, service: Service, rate: float) -> Sample:
    plan = run.plan
    with service.database(run) as database:
        with service.running(database) as (server,):
            loads = [
                load.at_a_rate(server.port, run.unique(), sku_names(SKUS), plan.connections, seconds, rate)
                for seconds in (plan.warm_up_s, plan.seconds)
            ]
        service.books.check(database, sum(each.accepted for each in loads))
    sample = as_sample(loads[-1])
    return Sample(sample.seen["p99_ms"], {**sample.seen, "per_second": sample.value})

"""P1, P2, P3, P9: how many orders a second, over many SKUs and over one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench import load
from bench.measure import (
    Goal,
    Outcome,
    Panel,
    Sample,
    Series,
    at_most,
    interleave,
    present,
    versus,
)
from bench.plan import HOT_SKUS, SKUS
from bench.processes import Server
from bench.rivals import counters
from bench.rivals.pgbench import client as pgbench
from bench.run import Run
from bench.services import (
    ONE_TX,
    OURS,
    OURS_SQLITE,
    TEXTBOOK,
    Service,
)
from bench.stores import Fixture
from bench.tuning import fastest

UNIT = "orders/s"
EACH_ITS_OWN = "With a hot SKU each, the two processes are never in each other's way: what these cores carry at most."
PGBENCH_STOCK = Fixture("pgbench_stock", counters.fill)
Contenders = dict[str, Callable[[], Sample]]


def many_skus(run: Run) -> Outcome:
    series = interleave(_everyone(run, SKUS), run.plan.rounds)
    goals = [
        versus(series, "ours", "pgbench-5", 2.5),
        versus(series, "ours", "pgbench-fn", 1.2),
        versus(series, "ours", "one-tx", 5),
        versus(series, "ours", "textbook", 40),
    ]
    return _outcome(f"POST /allocate, {SKUS:,} SKUs", series, goals)


def hot_sku(run: Run) -> Outcome:
    series = interleave(_everyone(run, HOT_SKUS), run.plan.rounds)
    goals = [
        versus(series, "ours", "pgbench-5", 10),
        versus(series, "ours", "pgbench-fn", 6),
        versus(series, "ours", "textbook", 150),
        *_no_refusals(series),
    ]
    return _outcome("POST /allocate, one hot SKU", series, goals)


def sqlite(run: Run) -> Outcome:
    contenders = _services(run, [OURS, OURS_SQLITE], SKUS)
    series = interleave(contenders, run.plan.rounds)
    goals = [versus(series, "ours-sqlite", "ours", 1)]
    return _outcome("POST /allocate, SQLite with synchronous=FULL", series, goals)


def two_processes(run: Run) -> Outcome:
    cases = {"many SKUs": SKUS, "hot SKU": HOT_SKUS}
    contenders: Contenders = {}
    for case, skus in cases.items():
        for processes in (1, 2):
            name = f"{case}, {processes} process{'es' if processes > 1 else ''}"
            contenders[name] = partial(allocating, run, OURS, skus, processes=processes)
    contenders["hot SKU each, 2 processes"] = partial(allocating, run, OURS, 2 * HOT_SKUS, processes=2, apart=True)
    series = interleave(contenders if run.plan.includes("ours") else {}, run.plan.rounds)
    goals = [
        versus(series, "hot SKU, 2 processes", "hot SKU, 1 process", 0.9),
        *_no_refusals(series),
    ]
    return _outcome("Server processes on one PostgreSQL", series, goals, EACH_ITS_OWN)


def allocating(
    run: Run,
    service: Service,
    skus: int,
    *,
    connections: int | None = None,
    processes: int = 1,
    apart: bool = False,
) -> Sample:
    """A fresh database, a fresh server, a warm-up, the measurement, the books. ``apart``: no SKU has two processes."""
    with service.database(run) as database:
        with service.running(database, processes) as servers:
            loads = _warm_up_and_measure(run, servers, skus, connections or run.plan.connections, apart=apart)
        accepted = sum(each.accepted for each in loads)
        service.books.check(database, accepted, in_flight=len(loads) * run.plan.connections)
    return as_sample(loads[-1])


def as_sample(measured: load.Load) -> Sample:
    seen = {
        "p50_ms": measured.p50_ms,
        "p99_ms": measured.p99_ms,
        "refused_share": measured.refused_share,
    }
    return Sample(measured.accepted_per_second, seen)


def sku_names(count: int) -> list[str]:
    return [f"SKU-{item}" for item in range(1, count + 1)]


def best_one_tx(run: Run, skus: int) -> Service:
    return fastest(run, ONE_TX, skus, allocating)


def best_textbook(run: Run) -> Service:
    """Workers and threads are those of a deployment, so the same for every load."""
    return fastest(run, TEXTBOOK, SKUS, allocating)


def _warm_up_and_measure(
    run: Run, servers: Sequence[Server], skus: int, connections: int, *, apart: bool
) -> list[load.Load]:
    ports = [server.port for server in servers]
    return [
        load.as_fast_as_possible(ports, run.unique(), sku_names(skus), connections, seconds, apart=apart)
        for seconds in (run.plan.warm_up_s, run.plan.seconds)
    ]


def _everyone(run: Run, skus: int) -> Contenders:
    services = [OURS]
    if run.plan.includes("textbook"):
        services.append(best_textbook(run))
    if run.plan.includes("one-tx"):
        services.append(best_one_tx(run, skus))
    return _services(run, services, skus) | _pgbench(run, skus)


def _services(run: Run, services: Sequence[Service], skus: int) -> Contenders:
    return {
        service.name: partial(allocating, run, service, skus) for service in services if run.plan.includes(service.name)
    }


def _pgbench(run: Run, skus: int) -> Contenders:
    """Nobody where pgbench is not installed."""
    program = pgbench.executable(run.postgres.binaries)
    if program is None:
        print("  pgbench is not installed: measured without it")
        return {}
    scripts = {"pgbench-5": pgbench.FIVE_STATEMENTS, "pgbench-fn": pgbench.ONE_CALL}
    return {
        name: partial(_transacting, run, program, script, skus)
        for name, script in scripts.items()
        if run.plan.includes(name)
    }


def _transacting(run: Run, program: Path, script: Path, skus: int) -> Sample:
    with run.postgres.clone(PGBENCH_STOCK) as database:
        database.execute(pgbench.FUNCTION.read_text())
        done = [
            pgbench.run(program, script, database, run.unique(), skus, seconds)
            for seconds in (run.plan.warm_up_s, run.plan.seconds)
        ]
        counters.BOOKS.check(database, sum(each.processed for each in done))
    return Sample(done[-1].per_second, {"average_ms": done[-1].average_ms})


def _no_refusals(series: Mapping[str, Series]) -> list[Goal]:
    ours = {name: each for name, each in series.items() if "refused_share" in each.seen()}
    return [
        at_most(f"{name}: share refused", each.pick("refused_share"), 0, "")
        for name, each in ours.items()
        if name not in {"textbook", "one-tx"}
    ]


def _outcome(title: str, series: Mapping[str, Series], goals: Sequence[Goal | None], *more: str) -> Outcome:
    notes = (f"Load: {load.generator_name()}; pgbench: {pgbench.CLIENTS} clients.", *more)
    return Outcome((Panel(title, UNIT, series),), present(goals), notes)

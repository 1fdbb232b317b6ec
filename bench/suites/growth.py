"""P6, P10: nothing gets slower, and memory stays small, when a product has a million allocations."""

import time
from collections.abc import Iterator
from functools import partial

from bench import load, ours
from bench.bulk import post_lines
from bench.measure import Goal, Outcome, Panel, Sample, Series, at_most, interleave, ratio
from bench.plan import ROOM_PER_BATCH, SKUS
from bench.processes import Server, free_port, post, serving
from bench.run import Run
from bench.services import OURS, OURS_SQLITE, Service
from bench.stores import Database, Fixture

EXHAUSTED_BATCHES = 1_000
LINES_PER_BATCH = 1_000
OTHER_LINES = 470_000
LINES = EXHAUSTED_BATCHES * LINES_PER_BATCH + OTHER_LINES
COSTLIEST = 1.1
SLOWEST_START_S = 1.0
MOST_MB_AT_REST = 120
MOST_MB_AFTER_LINES = 250
FIRST_ORDER = b'{"orderid":"first","sku":"empty","qty":1}'


def cost_per_allocation(run: Run) -> Outcome:
    panels: list[Panel] = []
    goals: list[Goal] = []
    for service in _included(run):
        series = _compare_skus(run, service)
        panels.append(Panel(f"{service.name}: cost per allocation", "µs", series))
        growth = ratio(series["a million allocations"], series["empty"])
        goals.append(at_most(f"{service.name}: full / empty SKU", growth, COSTLIEST))
    note = f"Load: {load.generator_name()}, {run.plan.connections} connections on one SKU."
    return Outcome(tuple(panels), tuple(goals), (note,))


def start_and_memory(run: Run) -> Outcome:
    starts = interleave(
        {service.name: partial(_starting, run, service) for service in _included(run)},
        run.plan.rounds,
    )
    at_rest = {name: each.pick("memory_mb") for name, each in starts.items()}
    after = {service.name: Series((Sample(run.remembered[_fixture(run, service).name]),)) for service in _included(run)}
    goals = [
        *_each_at_most("start to first answer", starts, SLOWEST_START_S, "s"),
        *_each_at_most("memory at rest", at_rest, MOST_MB_AT_REST, "MB"),
        *_each_at_most(f"memory after {LINES:,} lines", after, MOST_MB_AFTER_LINES, "MB"),
    ]
    panels = (
        Panel(f"Start to first answer with {LINES:,} lines stored", "s", starts),
        Panel("Memory at rest", "MB", at_rest),
        Panel(f"Memory after {LINES:,} lines through /bulk", "MB", after),
    )
    return Outcome(panels, tuple(goals))


def _included(run: Run) -> list[Service]:
    return [service for service in (OURS, OURS_SQLITE) if run.plan.includes(service.name)]


def _compare_skus(run: Run, service: Service) -> dict[str, Series]:
    """One server, both SKUs in turn, so that nothing but the SKU differs."""
    accepted: list[int] = []
    with service.database(run, _fixture(run, service)) as database:
        with service.running(database) as (server,):
            skus = {"empty": "empty", "a million allocations": "full"}
            series = interleave(
                {name: partial(_cost, run, server, sku, accepted) for name, sku in skus.items()},
                run.plan.rounds,
            )
        hung_up = len(accepted) * run.plan.connections
        service.books.check(database, LINES + sum(accepted), in_flight=hung_up)
    return series


def _cost(run: Run, server: Server, sku: str, accepted: list[int]) -> Sample:
    plan = run.plan
    for seconds in (plan.warm_up_s, plan.seconds):
        measured = load.as_fast_as_possible([server.port], run.unique(), [sku], plan.connections, seconds)
        accepted.append(measured.accepted)
    return Sample(1e6 / measured.accepted_per_second, {"p50_ms": measured.p50_ms})


def _starting(run: Run, service: Service) -> Sample:
    with service.database(run, _fixture(run, service)) as database:
        started = time.perf_counter()
        with service.running(database) as (server,):
            status, answer = post(server.port, "/allocate", FIRST_ORDER)
            seconds = time.perf_counter() - started
            memory_mb = server.memory_mb()
        if status >= 300:
            raise RuntimeError(f"{service.name} answered {status}: {answer[:500]!r}")
        service.books.check(database, LINES + 1)
    return Sample(seconds, {"memory_mb": memory_mb})


def _fixture(run: Run, service: Service) -> Fixture:
    """Filled through the service itself, whose memory is weighed afterwards and remembered."""
    name = f"{service.name}_grown"

    def fill(database: Database) -> None:
        port = free_port()
        with serving(service.command(database, port), port) as server:
            post_lines(port, _million_lines())
            run.remembered[name] = server.memory_mb()

    return Fixture(name, fill)


def _million_lines() -> Iterator[bytes]:
    yield from ours.stock()
    yield ours.batch("empty", "empty", ROOM_PER_BATCH)
    for number in range(EXHAUSTED_BATCHES):
        yield ours.batch(f"full-{number}", "full", LINES_PER_BATCH)
        for line in range(LINES_PER_BATCH):
            yield ours.order(f"full-{number}-{line}", "full")
    yield ours.batch("full-open", "full", ROOM_PER_BATCH)
    for number in range(OTHER_LINES):
        yield ours.order(f"other-{number}", f"SKU-{number % SKUS + 1}")


def _each_at_most(text: str, series: dict[str, Series], limit: float, unit: str) -> list[Goal]:
    return [at_most(f"{name}: {text}", each, limit, unit) for name, each in series.items()]

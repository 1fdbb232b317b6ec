"""The table of contents: every benchmark, the goal's short name first."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import Outcome
from bench.run import Run
from bench.suites import availability, bulk_import, bus, console, growth, latency, quantity_cut, throughput


@dataclass(frozen=True, slots=True)
class Benchmark:
    name: str
    alias: str
    title: str
    run: Callable[[Run], Outcome]


BENCHMARKS = (
    Benchmark("p1", "many", "allocate over many SKUs", throughput.many_skus),
    Benchmark("p2", "hot", "allocate on one hot SKU", throughput.hot_sku),
    Benchmark("p3", "sqlite", "allocate on SQLite", throughput.sqlite),
    Benchmark("p4", "alone", "one connection, one order at a time", latency.one_at_a_time),
    Benchmark("p5", "crowd", "tail latency at half the full rate", latency.in_a_crowd),
    Benchmark("p6", "growth", "cost per allocation as a SKU grows", growth.cost_per_allocation),
    Benchmark("p7", "import", "order lines from a file", bulk_import.import_lines),
    Benchmark("p8", "cut", "a quantity cut that moves many lines", quantity_cut.cut),
    Benchmark("p9", "processes", "two server processes", throughput.two_processes),
    Benchmark("p10", "start", "start and memory", growth.start_and_memory),
    Benchmark("p11", "bus", "the bus and the domain, in memory", bus.in_memory),
    Benchmark("p12", "console", "the writer while pages of the console are open", console.open_pages),
    Benchmark("p13", "availability", "what can be promised, asked by product", availability.asked),
)


def find(name: str) -> Benchmark:
    for benchmark in BENCHMARKS:
        if name in {benchmark.name, benchmark.alias}:
            return benchmark
    known = ", ".join(f"{each.name} or {each.alias}" for each in BENCHMARKS)
    raise SystemExit(f"No benchmark is called {name!r}: {known}.")

"""Rivals get the settings that are best here and now: each is tried before it is measured."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from bench.measure import Sample
from bench.run import Run
from bench.services import Service

TRIAL_S = 2

Measure = Callable[[Run, Service, int], Sample]


def fastest(run: Run, candidates: Mapping[str, Service], skus: int, measure: Measure) -> Service:
    """The candidate that wins a short trial; tried once in a run for each number of SKUs."""
    name = next(iter(candidates.values())).name
    key = f"{name} for {skus} SKUs"
    if key not in run.remembered:
        short = replace(run, plan=replace(run.plan, seconds=TRIAL_S))
        trials = [measure(short, candidate, skus).value for candidate in candidates.values()]
        run.remembered[key] = trials.index(max(trials))
        listed = ", ".join(f"{setting} {rate:,.0f}/s" for setting, rate in zip(candidates, trials, strict=True))
        print(f"  {key}, tried: {listed}", flush=True)
    return list(candidates.values())[int(run.remembered[key])]

"""What a run measures and how it is judged: interleaved samples, medians, paired ratios."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: the figure that counts, and what else was seen on the way."""

    value: float
    seen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one contender, one per round."""

    samples: tuple[Sample, ...]

    @property
    def values(self) -> list[float]:
        return [sample.value for sample in self.samples]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest sample, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0

    def pick(self, name: str) -> "Series":
        """The same rounds, seen through another of their figures."""
        return Series(tuple(Sample(sample.seen[name]) for sample in self.samples))

    def map(self, change: Callable[[float], float]) -> "Series":
        return Series(tuple(Sample(change(sample.value), sample.seen) for sample in self.samples))

    def seen(self) -> dict[str, float]:
        names = self.samples[0].seen if self.samples else {}
        return {name: median(sample.seen[name] for sample in self.samples) for name in names}


@dataclass(frozen=True, slots=True)
class Panel:
    """Contenders measured in one unit: one table, one plot."""

    title: str
    unit: str
    series: Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach. `low` and `high` are the extremes over the rounds."""

    text: str
    unit: str
    reached: float
    low: float
    high: float
    limit: float
    at_most: bool

    @property
    def met(self) -> bool:
        return self.reached <= self.limit if self.at_most else self.reached >= self.limit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark found. `notes` say what a reader must know to read the figures."""

    panels: tuple[Panel, ...]
    goals: tuple[Goal, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "panels": [_panel_as_json(panel) for panel in self.panels],
            "goals": [{**asdict(goal), "met": goal.met} for goal in self.goals],
            "notes": list(self.notes),
        }


def interleave(contenders: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, Series]:
    """Measures every contender once a round.

    Every other round runs in reverse order, so that a drift of the machine favours nobody.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in names:
            sample = contenders[name]()
            samples[name].append(sample)
            print(f"  round {number + 1}  {name:<24} {sample.value:>14,.2f}", flush=True)
    return {name: Series(tuple(values)) for name, values in samples.items()}


def at_least(text: str, series: Series, limit: float, unit: str = "×") -> Goal:
    return _goal(text, series, limit, unit, at_most=False)


def at_most(text: str, series: Series, limit: float, unit: str = "×") -> Goal:
    return _goal(text, series, limit, unit, at_most=True)


def ratio(ours: Series, theirs: Series) -> Series:
    """Round by round, so that what slows a whole round cancels out. A rival at zero counts as one."""
    pairs = zip(ours.values, theirs.values, strict=True)
    return Series(tuple(Sample(mine / (other or 1)) for mine, other in pairs))


def present(goals: Iterable[Goal | None]) -> tuple[Goal, ...]:
    """Leaves out the goals whose contenders were not measured."""
    return tuple(goal for goal in goals if goal is not None)


def versus(series: Mapping[str, Series], ours: str, rival: str, limit: float, *, most: bool = False) -> Goal | None:
    """The goal `ours` / `rival`, or None when one of them was not measured."""
    if ours not in series or rival not in series:
        return None
    judge = at_most if most else at_least
    return judge(f"{ours} / {rival}", ratio(series[ours], series[rival]), limit)


def _goal(text: str, series: Series, limit: float, unit: str, *, at_most: bool) -> Goal:
    values = series.values
    return Goal(text, unit, series.median, min(values), max(values), limit, at_most)


def _panel_as_json(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "unit": panel.unit,
        "series": {name: _series_as_json(series) for name, series in panel.series.items()},
    }


def _series_as_json(series: Series) -> dict[str, Any]:
    return {
        "median": series.median,
        "spread": series.spread,
        "values": series.values,
        "seen": series.seen(),
    }

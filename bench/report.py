"""Results: printed while they come, kept as JSON, told as Markdown. No figure is typed by hand."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import plots
from bench.machine import Machine
from bench.measure import Goal, Outcome
from bench.plan import Plan

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
MARKDOWN = HERE / "results.md"
PAGE = HERE.parent / "docs" / "performance.md"
IMAGES = HERE.parent / "docs" / "img"
BEGIN = "<!-- begin: written by `python -m bench` -->"
END = "<!-- end: written by `python -m bench` -->"

Result = dict[str, Any]


def print_goals(outcome: Outcome) -> None:
    for goal in outcome.goals:
        verdict = "reached" if goal.met else "MISSED"
        print(f"  {goal.text:<44} {_reached(goal)}  (goal {_limit(goal)}: {verdict})")
    for panel in outcome.panels:
        for name, series in panel.series.items():
            print(f"  {name:<44} {series.median:,.2f} {panel.unit}, spread {series.spread:.0%}")


def save(name: str, title: str, outcome: Outcome, plan: Plan, about: Machine) -> None:
    """Replaces this benchmark's result, keeps the others, and writes the pages anew."""
    results: dict[str, Result] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = {
        "title": title,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(about),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        **outcome.as_json(),
    }
    results = {key: results[key] for key in sorted(results, key=_number)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    plots.draw(results[name]["panels"], IMAGES / f"bench-{name}.svg")
    write_pages(results)


def write_pages(results: dict[str, Result]) -> None:
    MARKDOWN.write_text("# Results\n\n" + _told(results, images="../docs/img") + "\n")
    if PAGE.exists():
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{_told(results, images='img')}\n\n{END}{after}")


def _told(results: dict[str, Result], images: str) -> str:
    sections = [_goals_table(results)]
    sections += [_section(name, result, images) for name, result in results.items()]
    sections.append(_machines(results))
    return "\n\n".join(sections)


def _goals_table(results: dict[str, Result]) -> str:
    rows = [_goal_row(name, stored) for name, result in results.items() for stored in result["goals"]]
    return _table(("", "what", "measured (worst–best round)", "goal", "reached"), rows)


def _goal_row(name: str, stored: dict[str, Any]) -> tuple[str, ...]:
    goal = _as_goal(stored)
    return name.upper(), goal.text, _reached(goal), _limit(goal), "yes" if goal.met else "**no**"


def _section(name: str, result: Result, images: str) -> str:
    title = f"{name.upper()}: {result['title']}"
    parts = [f"### {title}", f"![{title}]({images}/bench-{name}.svg)"]
    for panel in result["panels"]:
        rows = list(_series_rows(panel["series"]))
        parts += [f"{panel['title']}:", _table(("", panel["unit"], "spread", "also seen"), rows)]
    parts += result["notes"]
    parts.append(f"`python -m bench {name}`, {result['rounds']} rounds, {result['measured_at']}")
    return "\n\n".join(parts)


def _series_rows(series: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, each in series.items():
        seen = ", ".join(f"{key} {_figure(value)}" for key, value in each["seen"].items())
        yield name, _figure(each["median"]), f"{each['spread']:.0%}", seen


def _machines(results: dict[str, Result]) -> str:
    """Each machine once, with the benchmarks that ran on it."""
    ran_on: dict[str, list[str]] = {}
    for name, result in results.items():
        about = "; ".join(f"{key} {value}" for key, value in result["machine"].items())
        ran_on.setdefault(about, []).append(name.upper())
    lines = [f"- {', '.join(names)}: {about}" for about, names in ran_on.items()]
    return "### Machine\n\n" + "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _as_goal(stored: dict[str, Any]) -> Goal:
    return Goal(**{key: value for key, value in stored.items() if key != "met"})


def _reached(goal: Goal) -> str:
    worst, best = (goal.high, goal.low) if goal.at_most else (goal.low, goal.high)
    return f"{_figure(goal.reached)} {goal.unit} ({_figure(worst)}–{_figure(best)})"


def _limit(goal: Goal) -> str:
    return f"{'≤' if goal.at_most else '≥'} {_figure(goal.limit)} {goal.unit}"


def _figure(value: float) -> str:
    """Three digits that matter."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _number(name: str) -> int:
    return int(name.removeprefix("p"))

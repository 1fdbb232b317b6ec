"""One SVG per benchmark: a bar per contender, its median, and whiskers from worst to best round."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
mpl.rcParams["font.size"] = 9

OURS_COLOUR = "#1f6f54"
RIVAL_COLOUR = "#b9c2c0"
INK = "#24302d"
WIDTH_IN = 6.4
BAR_IN = 0.34
FRAME_IN = 0.8
LOG_FROM = 30  # longest bar over shortest


def draw(panels: list[dict[str, Any]], path: Path) -> None:
    """`panels` as they stand in the results file."""
    bars = [max(1, len(panel["series"])) for panel in panels]
    height = sum(FRAME_IN + BAR_IN * count for count in bars)
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=bars)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _draw_panel(axis: Any, panel: dict[str, Any]) -> None:
    names = list(reversed(panel["series"]))
    series = [panel["series"][name] for name in names]
    medians = [each["median"] for each in series]
    whiskers = [
        [each["median"] - min(each["values"]) for each in series],
        [max(each["values"]) - each["median"] for each in series],
    ]
    bars = axis.barh(names, medians, xerr=whiskers, color=_colours(names), height=0.62, ecolor=INK, capsize=2)
    axis.bar_label(
        bars, labels=[f"  {value:,.3g}" if value < 100 else f"  {value:,.0f}" for value in medians], color=INK
    )
    _scale(axis, medians)
    axis.set_title(f"{panel['title']} ({panel['unit']})", loc="left", color=INK, fontsize=10)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(left=False, colors=INK)


def _colours(names: list[str]) -> list[str]:
    """Without a rival among them, all bars are ours."""
    rivals = {"textbook", "one-tx", "pgbench-5", "pgbench-fn", "raw-copy", "raw-sqlite"}
    return [RIVAL_COLOUR if name in rivals else OURS_COLOUR for name in names]


def _scale(axis: Any, medians: list[float]) -> None:
    if min(medians) > 0 and max(medians) / min(medians) > LOG_FROM:
        axis.set_xscale("log")
        axis.set_xlim(min(medians) / 3, max(medians) * 4)
    else:
        axis.set_xlim(0, max(medians) * 1.2)

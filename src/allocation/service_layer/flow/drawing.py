"""Draws boxes and arrows as SVG, causes on the left. It knows nothing of events.

Layers by longest path, order within a layer by the mean place of the neighbours, long arrows led through the layers
between: the classic of Sugiyama, Tagawa and Toda (1981), without the refinements that large graphs need.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

CHARACTER_WIDTH = 7.83  # of the monospaced font at 13 px
BOX_HEIGHT = 34
PADDING = 14
GAP_X = 56
LABELLED_GAP_X = 96
PITCH_Y = 56
MARGIN = 16
LEGEND_HEIGHT = 44
SWEEPS = 8

LEGEND = {"event": "event", "handler": "handler, in the transaction", "fact": "fact", "effect": "effect, after commit"}
CORNERS = {"event": BOX_HEIGHT / 2, "fact": BOX_HEIGHT / 2, "handler": 4, "effect": 4}

STYLE = """
.flow { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.flow text { fill: #1f2328; } .flow path { fill: none; stroke: #6b7480; stroke-width: 1.4; }
.flow .tip { fill: #6b7480; stroke: none; } .flow rect { stroke-width: 1.4; }
.flow .event { fill: #dbe8ff; stroke: #2f62c4; } .flow .fact { fill: #dff3e4; stroke: #2a7a48; }
.flow .handler { fill: #ffffff; stroke: #57606a; }
.flow .effect { fill: #fff0d6; stroke: #a86400; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
.flow text { fill: #e6edf3; } .flow path { stroke: #8b949e; } .flow .tip { fill: #8b949e; }
.flow .event { fill: #172b4d; stroke: #79a8ff; } .flow .fact { fill: #12301f; stroke: #56c07d; }
.flow .handler { fill: #21262d; stroke: #9aa4af; } .flow .effect { fill: #3a2708; stroke: #e0a340; }
}"""


class Box(NamedTuple):
    """Something to draw. ``kind`` is a key of `LEGEND`; ``hint`` shows when the pointer rests on it."""

    name: str
    kind: str
    hint: str


class Bend(NamedTuple):
    """Where an arrow that skips layers passes through one of them."""

    cause: Box
    result: Box
    layer: int


Point = Box | Bend
Arrow = tuple[Box, Box]
Places = Mapping[Point, tuple[float, float]]  # the left end of each point's middle line


def draw(title: str, boxes: Sequence[Box], arrows: Sequence[Arrow], labels: Mapping[Arrow, str] | None = None) -> str:
    """An SVG document. The arrows must not form a cycle. With labels it is a part of a page, which styles it."""
    chains, places = _laid_out(tuple(boxes), tuple(arrows), GAP_X if labels is None else LABELLED_GAP_X)
    width = max((x + _width(point) for point, (x, _) in places.items()), default=0) + MARGIN
    height = max((y for _, y in places.values()), default=0) + BOX_HEIGHT / 2 + MARGIN
    legend, legend_width = _legend(height)
    width, height = max(width, legend_width), height + LEGEND_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" role="img" width="{width:.0f}" height="{height:.0f}"',
        f' viewBox="0 0 {width:.0f} {height:.0f}" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        *([f"<style>{STYLE}\n</style>"] if labels is None else []),
        *(_arrow(chain, places) for chain in chains),
        *(_box(box, *places[box]) for box in boxes),
        *(_label(chain, places, labels) for chain in chains if labels is not None),
        legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@functools.cache  # a page is drawn again for every count, and nothing but its labels has changed
def _laid_out(boxes: Sequence[Box], arrows: Sequence[Arrow], gap: float) -> tuple[Sequence[list[Point]], Places]:
    """The way of each arrow, and the place of each point."""
    depth = _layers(boxes, arrows)
    chains = _chains(depth, arrows)
    return chains, _places(_ordered(boxes, depth, chains), chains, gap)


def _layers(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> dict[Box, int]:
    """Each box as far right as its longest chain of causes is."""
    layers = dict.fromkeys(boxes, 0)
    for _ in boxes:  # no chain is longer than there are boxes
        for cause, result in arrows:
            layers[result] = max(layers[result], layers[cause] + 1)
    return layers


def _chains(layers: Mapping[Box, int], arrows: Sequence[Arrow]) -> list[list[Point]]:
    """Every arrow with its bends, so that each step leads from one layer to the next."""
    return [
        [cause, *(Bend(cause, result, layer) for layer in range(layers[cause] + 1, layers[result])), result]
        for cause, result in arrows
    ]


def _ordered(boxes: Sequence[Box], depth: Mapping[Box, int], chains: Sequence[list[Point]]) -> list[list[Point]]:
    """The points of each layer from top to bottom, so that few arrows cross."""
    layers: list[list[Point]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for box in boxes:
        layers[depth[box]].append(box)
    for chain in chains:
        for bend in chain[1:-1]:
            layers[bend.layer].append(bend)  # type: ignore[union-attr]  # only the ends are boxes
    before, after = _neighbours(chains)
    for sweep in range(SWEEPS):
        neighbours = after if sweep % 2 else before
        for layer in reversed(layers) if sweep % 2 else layers:
            rank = {point: place for each in layers for place, point in enumerate(each)}
            layer.sort(key=lambda point: _mean([rank[other] for other in neighbours.get(point, [point])]))
    return layers


def _neighbours(chains: Sequence[list[Point]]) -> tuple[dict[Point, list[Point]], dict[Point, list[Point]]]:
    before: dict[Point, list[Point]] = {}
    after: dict[Point, list[Point]] = {}
    for chain in chains:
        for left, right in pairwise(chain):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    return before, after


def _places(layers: Sequence[list[Point]], chains: Sequence[list[Point]], gap: float) -> Places:
    before, after = _neighbours(chains)
    y: dict[Point, float] = {point: place * PITCH_Y for layer in layers for place, point in enumerate(layer)}
    for sweep in range(SWEEPS):
        neighbours = after if sweep % 2 else before
        for layer in reversed(layers) if sweep % 2 else layers:
            wished = [_mean([y[other] for other in neighbours.get(point, [point])]) for point in layer]
            y.update(zip(layer, _spread(wished), strict=True))
    top = min(y.values(), default=0) - MARGIN - BOX_HEIGHT / 2
    places: dict[Point, tuple[float, float]] = {}
    left: float = MARGIN
    for layer in layers:
        widest = max(map(_width, layer))
        places |= {point: (left + (widest - _width(point)) / 2, y[point] - top) for point in layer}
        left += widest + gap
    return places


def _spread(wished: Sequence[float]) -> list[float]:
    """As near to the wishes as the distance between two allows, their middle kept."""
    placed: list[float] = []
    for wish in wished:
        placed.append(max(wish, placed[-1] + PITCH_Y) if placed else wish)
    shift = _mean(wished) - _mean(placed)
    return [y + shift for y in placed]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _width(point: Point) -> float:
    return len(point.name) * CHARACTER_WIDTH + 2 * PADDING if isinstance(point, Box) else 0


def _box(box: Box, x: float, y: float) -> str:
    return (
        f"<g><title>{escape(box.hint)}</title>"
        f'<rect class="{box.kind}" x="{x:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{_width(box):.1f}"'
        f' height="{BOX_HEIGHT}" rx="{CORNERS[box.kind]}"/>'
        f'<text x="{x + _width(box) / 2:.1f}" y="{y + 4.5:.1f}" text-anchor="middle">{escape(box.name)}</text></g>'
    )


def _arrow(chain: Sequence[Point], places: Places) -> str:
    start, *_ = chain
    x, y = places[start][0] + _width(start), places[start][1]
    path = f"M{x:.1f},{y:.1f}"
    for point in chain[1:]:
        to_x, to_y = places[point]
        end_x = to_x - 6 if isinstance(point, Box) else to_x  # room for the tip
        middle = (x + end_x) / 2
        path += f" C{middle:.1f},{y:.1f} {middle:.1f},{to_y:.1f} {end_x:.1f},{to_y:.1f}"
        x, y = to_x, to_y
    tip = f"M{x - 8:.1f},{y - 4.5:.1f} L{x:.1f},{y:.1f} L{x - 8:.1f},{y + 4.5:.1f} Z"
    return f'<path d="{path}"/><path class="tip" d="{tip}"/>'


def _label(chain: Sequence[Point], places: Places, labels: Mapping[Arrow, str]) -> str:
    """The text in the middle of an arrow's last step."""
    before, end = chain[-2], chain[-1]
    if not (isinstance(chain[0], Box) and isinstance(end, Box)):
        return ""
    x, y = (places[before][0] + _width(before) + places[end][0]) / 2, (places[before][1] + places[end][1]) / 2
    label = labels.get((chain[0], end), "")
    return f'<text class="label" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{escape(label)}</text>'


def _legend(top: float) -> tuple[str, float]:
    """The legend of the colours, and its right edge."""
    parts = []
    x: float = MARGIN
    for kind, meaning in LEGEND.items():
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{top + 9:.1f}" width="22" height="14" rx="{min(CORNERS[kind], 7)}"/>'
            f'<text x="{x + 30:.1f}" y="{top + 20.5:.1f}">{meaning}</text>'
        )
        x += 30 + len(meaning) * CHARACTER_WIDTH + 24
    return "\n".join(parts), x + MARGIN - 24

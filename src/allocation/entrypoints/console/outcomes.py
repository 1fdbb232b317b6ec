"""What becomes of lines, as people look at it: those that suffer first. A preview and its outcome look the same."""

from __future__ import annotations

from collections.abc import Sequence

from allocation.domain.lines import WAITING
from allocation.entrypoints.previews import Effect, effect_of
from allocation.service_layer.previewing.line_changes import LineChange
from allocation.service_layer.previewing.preview import Preview

MOST_SHOWN = 200


def effect_of_lines(lines: Sequence[LineChange]) -> Effect:
    """The lines that come to wait, the latest, then all others by order; counts of all, and as many as are shown."""
    return effect_of(Preview((), sorted(lines, key=_harm), {}), MOST_SHOWN)


def _harm(line: LineChange) -> tuple[bool, int, str]:
    return (line.state != WAITING, -line.late_days, line.orderid)

"""The answer to a preview: the same over HTTP, in the console and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from allocation.domain.errors import Refusal
from allocation.domain.lines import WAITING
from allocation.entrypoints.answers import answer
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.previewing.line_changes import LineChange
from allocation.service_layer.previewing.preview import Preview, Previews
from allocation.views import DEFAULT_PAGE

MAX_LINES = 10_000  # of a list of events that are previewed together
MOST_SHOWN = 200  # lines, on a page


class ChangedLine(msgspec.Struct):
    """A line with its present and its new batch, and its present and new promised day; null: it waits, or has no day.

    Stock in the warehouse is promised for today. ``state`` is the new state of the line.
    """

    orderid: str
    sku: str
    qty: int
    from_: str | None = msgspec.field(name="from")
    to: str | None
    before: date | None
    after: date | None
    late_days: int
    state: str


class Summary(msgspec.Struct):
    """The numbers of lines that would move, wait, be served, be late, and be promised for an earlier or a later day."""

    moved: int
    waiting: int
    served: int
    late: int
    earlier: int
    later: int


class Effect(msgspec.Struct):
    """The lines that would change; ``more``: there are more than are listed."""

    summary: Summary
    lines: list[ChangedLine]
    more: bool


class EventPreview(msgspec.Struct):
    """The answer, and the lines that would change. Nothing was changed."""

    answer: Mapping[str, Any]
    summary: Summary
    lines: list[ChangedLine]
    more: bool


async def preview_event(previews: Previews, message: Message, limit: int = DEFAULT_PAGE) -> EventPreview:
    """The effect of the message; raises the refusal that the message would get."""
    preview = await previews.preview([message])
    [outcome] = preview.outcomes
    if isinstance(outcome, Refusal):
        raise outcome
    return EventPreview(answer(outcome), *msgspec.structs.astuple(effect_of(preview, limit)))


def effect_of(preview: Preview, limit: int) -> Effect:
    lines = preview.lines
    return Effect(_summary(lines), [_told(line) for line in lines[:limit]], len(lines) > limit)


def effect_of_lines(lines: Sequence[LineChange]) -> Effect:
    """Lines that start to wait come first, then the latest, then all others by order id; counts cover all lines."""
    return effect_of(Preview((), sorted(lines, key=_harm), {}), MOST_SHOWN)


def repeats(item: Message | Refusal, outcome: Outcome | Refusal) -> bool:
    """Whether the outcome is the first one of a message that was in the ledger already."""
    return isinstance(outcome, Outcome) and outcome.message is not item


def _summary(lines: Sequence[LineChange]) -> Summary:
    days = [(line.before, line.after) for line in lines if line.before is not None and line.after is not None]
    return Summary(
        moved=sum(None not in (line.start, line.end) and line.start != line.end for line in lines),
        waiting=sum(line.state == WAITING != line.was for line in lines),
        served=sum(line.start is None and line.end is not None for line in lines),
        late=sum(line.late_days > 0 for line in lines),
        earlier=sum(after < before for before, after in days),
        later=sum(after > before for before, after in days),
    )


def _harm(line: LineChange) -> tuple[bool, int, str]:
    return (line.state != WAITING, -line.late_days, line.orderid)


def _told(line: LineChange) -> ChangedLine:
    return ChangedLine(*line[:9])

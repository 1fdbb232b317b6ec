"""The answer to a preview: the same over HTTP, in the console and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from allocation.domain.errors import Refusal
from allocation.domain.figures import Figures
from allocation.domain.lines import NO_DAY, WAITING
from allocation.entrypoints.answers import answer
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.previewing.line_changes import LineChange
from allocation.service_layer.previewing.preview import Preview, Previews
from allocation.service_layer.previewing.stock_changes import StockChange, totals
from allocation.views import DEFAULT_PAGE

MAX_LINES = 10_000  # of a list of events that are previewed together
MOST_SHOWN = 200  # lines, on a page


class ChangedLine(msgspec.Struct):
    """A line with its present and its new batch, and its present and new promised day; null: it waits, or has no day.

    Stock in the warehouse is promised for today. ``state`` is the new state of the line. With ``late`` and not
    ``late_before`` it is newly late.
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
    late: bool
    late_before: bool


class Summary(msgspec.Struct):
    """The numbers of lines that would move, wait, be served, be late, and be promised for an earlier or a later day.

    Of the late lines, ``newly_late`` are not late now.
    """

    moved: int
    waiting: int
    served: int
    late: int
    earlier: int
    later: int
    newly_late: int


class Quantities(msgspec.Struct):
    """The figures of a batch, or of several in sum."""

    purchased_quantity: int
    allocated_quantity: int
    available_quantity: int
    on_hand_quantity: int
    incoming_quantity: int
    blocked_quantity: int
    overdue_quantity: int
    shipped_quantity: int


class ChangedBatch(msgspec.Struct):
    """A batch that the event names or changes; ``before`` is null if it is new."""

    batchref: str
    sku: str
    before: Quantities | None
    after: Quantities | None


class StockEffect(msgspec.Struct):
    """The stock of the batches that the event names or changes, in sum and one by one.

    ``more``: there are more batches than are listed; the sums cover all.
    """

    before: Quantities
    after: Quantities
    batches: list[ChangedBatch]
    more: bool


class Effect(msgspec.Struct):
    """The lines that would change, and the stock; ``more``: there are more lines than are listed."""

    summary: Summary
    lines: list[ChangedLine]
    more: bool
    stock: StockEffect


class EventPreview(msgspec.Struct):
    """The answer, the lines that would change, and the stock before and after. Nothing was changed."""

    answer: Mapping[str, Any]
    summary: Summary
    lines: list[ChangedLine]
    more: bool
    stock: StockEffect


async def preview_event(previews: Previews, message: Message, limit: int = DEFAULT_PAGE) -> EventPreview:
    """The effect of the message; raises the refusal that the message would get."""
    preview = await previews.preview([message])
    [outcome] = preview.outcomes
    if isinstance(outcome, Refusal):
        raise outcome
    return EventPreview(answer(outcome), *msgspec.structs.astuple(effect_of(preview, limit)))


def effect_of(preview: Preview, limit: int) -> Effect:
    lines = preview.lines
    stock = stock_effect(preview.stock, limit)
    return Effect(_summary(lines), [_told(line) for line in lines[:limit]], len(lines) > limit, stock)


def stock_effect(changes: Sequence[StockChange], limit: int) -> StockEffect:
    before, after = totals(changes)
    batches = [ChangedBatch(ref, sku, _figures(was), _figures(now)) for ref, sku, was, now in changes[:limit]]
    return StockEffect(Quantities(*before), Quantities(*after), batches, len(changes) > limit)


def effect_for_pages(lines: Sequence[LineChange], stock: Sequence[StockChange] | None) -> Effect:
    """Lines that start to wait come first, then the latest, then all others by order id; counts cover all lines."""
    return effect_of(Preview((), sorted(lines, key=_harm), {}, stock or ()), MOST_SHOWN)


def repeats(item: Message | Refusal, outcome: Outcome | Refusal) -> bool:
    """Whether the outcome is the first one of a message that was in the ledger already."""
    return isinstance(outcome, Outcome) and outcome.message is not item


def _summary(lines: Sequence[LineChange]) -> Summary:
    days = [(line.before, line.after) for line in lines if line.before is not None and line.after is not None]
    return Summary(
        moved=sum(None not in (line.start, line.end) and line.start != line.end for line in lines),
        waiting=sum(line.state == WAITING != line.was for line in lines),
        served=sum(line.start is None and line.end is not None for line in lines),
        late=sum(line.late for line in lines),
        earlier=sum(after < before for before, after in days),
        later=sum(after > before for before, after in days),
        newly_late=sum(line.late and not line.was_late for line in lines),
    )


def _harm(line: LineChange) -> tuple[bool, int, str]:
    return (line.state != WAITING, -line.late_days, line.orderid)


def _told(line: LineChange) -> ChangedLine:
    before, after = (None if day == NO_DAY else day for day in (line.before, line.after))
    told = (line.late_days, line.state, line.late, line.was_late)
    return ChangedLine(line.orderid, line.sku, line.qty, line.start, line.end, before, after, *told)


def _figures(known: Figures | None) -> Quantities | None:
    return None if known is None else Quantities(*known)

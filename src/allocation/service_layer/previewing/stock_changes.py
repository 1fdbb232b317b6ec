"""The figures of batches before a message and after it: for previews and outcome pages alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from allocation.domain.events import Event, StockTransferred
from allocation.domain.figures import Figures, figures, in_sum
from allocation.domain.lines import Today
from allocation.domain.standing import transferred_as
from allocation.service_layer.previewing.line_changes import Batches

NAMING = ("ref", "batchref")  # the fields of an event that name a batch


class StockChange(NamedTuple):
    """The figures of a batch; ``before`` is None for a new batch, ``after`` for a batch that would not be there."""

    ref: str
    sku: str
    before: Figures | None
    after: Figures | None


def named_batches(told: Iterable[Event]) -> list[str]:
    """The batches that events name, in the order named. Every batch that they change is among them."""
    names: list[str | None] = []
    for event in told:
        names += [getattr(event, name, None) for name in NAMING]
        if isinstance(event, StockTransferred):
            names.append(transferred_as(event))
    return list(dict.fromkeys(filter(None, names)))


def stock_changes(refs: Iterable[str], before: Batches, after: Batches, today: Today) -> list[StockChange]:
    """The batches of these references that there were or are."""
    return [
        StockChange(
            ref,
            (after.get(ref) or before[ref]).sku,
            figures(before[ref], today) if ref in before else None,
            figures(after[ref], today) if ref in after else None,
        )
        for ref in refs
        if ref in before or ref in after
    ]


def totals(changes: Sequence[StockChange]) -> tuple[Figures, Figures]:
    """The sums over these batches, before and after."""
    return in_sum(each.before for each in changes if each.before), in_sum(each.after for each in changes if each.after)

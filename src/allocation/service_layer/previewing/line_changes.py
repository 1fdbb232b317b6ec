"""Where each line was before a message and is after it: for answers, previews and outcome pages alike.

The lines are followed through the facts by the table of `allocation.domain.standing`. If it is not known how a line was
before, its first fact says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Final, NamedTuple

from allocation.domain.events import (
    Cancelled,
    Deallocated,
    Event,
    HoldEnded,
    PromiseChanged,
    Returned,
    Served,
    Shipped,
    Split,
)
from allocation.domain.lines import (
    ASKED,
    FREED,
    LOST,
    SHIPPED,
    OrderLine,
    Promise,
    Today,
    is_late,
    late_by,
    state_of,
)
from allocation.domain.standing import LINES, NAME_OF, cut_off, follow
from allocation.domain.stock import Stock

Key = tuple[str, str]  # of a line: its order id, or the id of its hold, and its SKU
Batches = Mapping[str, Stock]  # by reference

_MOVED: Final = frozenset({None, FREED, LOST})  # how a line ends that is elsewhere without being closed on purpose


class Way(NamedTuple):
    """A line before and after; ``start`` is None for a new line. A new part has the start of its line."""

    start: Promise | None
    end: Promise
    is_part: bool

    @property
    def is_move(self) -> bool:
        """Whether the line is elsewhere now, and nobody closed it. A hold that was lost is elsewhere, too."""
        start = None if self.start is None else self.start.batchref
        return start != self.end.batchref and self.end.closed in _MOVED


class LineChange(NamedTuple):
    """A line that changes. ``start`` and ``end`` are its batches, ``before`` and ``after`` the promised days.

    They are None while it waits, was not ordered yet, or is closed. Stock in the warehouse is promised for today, and
    stock that is due on no known day for `NO_DAY`. ``late`` and ``was_late`` say whether it is late after and before.
    """

    orderid: str
    sku: str
    qty: int
    start: str | None
    end: str | None
    before: date | None
    after: date | None
    late_days: int
    state: str
    was: str | None  # its state before; None: it is new
    late: bool = False
    was_late: bool = False


def keys_of(told: Iterable[Event]) -> set[Key]:
    """The lines that events tell of."""
    return {key for event in told if (key := _key(event)) is not None}


def ways(told: Iterable[Event], before: Mapping[Key, Promise] | None = None) -> dict[Key, Way]:
    """The way of each line, in the order first touched; lines that get no place are left out."""
    starts: dict[Key, Promise | None] = {}
    ends: dict[Key, Promise | None] = {}
    parts: set[Key] = set()
    for event in told:
        key = _key(event)
        if key is None:
            continue
        if key not in ends:
            starts[key] = ends[key] = _origin(event) if before is None else before.get(key)
        if isinstance(event, PromiseChanged):
            continue
        end = ends[key] = follow(ends[key], event)
        if isinstance(event, Split):
            part = event.next_part, event.sku
            parts.add(part)
            starts[part], ends[part] = starts[key], cut_off(end, event)
    return {key: Way(starts[key], end, key in parts) for key, end in ends.items() if end and end.closed != ASKED}


def line_changes(
    told: Iterable[Event], lines: Mapping[Key, Promise], before: Batches, after: Batches, today: Today
) -> list[LineChange]:
    """The lines that change, in the order first touched: place, state, day or quantity, and every line that is new.

    ``lines`` are as they were ``before``, as were these batches. Lines of a delivery that is overdue now were promised
    for its ETA: that is the day of their first `PromiseChanged`.
    """
    found = []
    told = list(told)
    promised: dict[Key, date | None] = {}
    for event in told:
        if isinstance(event, PromiseChanged):
            promised.setdefault((event.orderid, event.sku), event.before)
    for (orderid, sku), (start, end, is_part) in ways(told, lines).items():
        was = start and _state(start)
        day_before, day = start and _day(start, before, today), _day(end, after, today)
        if day_before is not None:
            day_before = promised.get((orderid, sku), day_before)
        change = LineChange(
            orderid,
            sku,
            end.line.qty,
            start and start.batchref,
            end.batchref,
            day_before,
            day,
            late_by(end.line.need_by, day, today) if end.closed is None else 0,
            _state(end),
            was,
            _is_late(end, day, today),
            start is not None and _is_late(start, day_before, today),
        )
        is_same = (was, change.start, day_before) == (change.state, change.end, day)
        if is_part or not is_same or (start and start.line.qty) != end.line.qty:
            found.append(change)
    return found


def _key(event: Any) -> Key | None:
    """The line that an event tells of; None: it tells of none."""
    name = NAME_OF[type(event)](event)
    tells = type(event) in LINES or isinstance(event, PromiseChanged)
    return (name, event.sku) if tells and name is not None else None


def _origin(event: Event) -> Promise | None:
    """How the line was before, as far as its first fact says it."""
    match event:
        case Deallocated(orderid, sku, qty, ref) | Cancelled(orderid, sku, qty, ref) | Shipped(orderid, sku, qty, ref):
            return Promise(OrderLine(orderid, sku, qty), ref)
        case HoldEnded(holdid, sku, qty, ref):
            return Promise(OrderLine(holdid, sku, qty), ref)
        case Returned(orderid, sku, qty, ref, kept):
            return Promise(OrderLine(orderid, sku, qty + kept), ref, SHIPPED)
        case Served(orderid, sku, qty, ref, arrived):
            return Promise(OrderLine(orderid, sku, qty, arrived=not arrived), ref)
    return None


def _state(promise: Promise) -> str:
    return state_of(promise.batchref, promise.closed, promise.line.priority)


def _is_late(promise: Promise, day: date | None, today: Today) -> bool:
    return promise.closed is None and is_late(promise.line.need_by, day, today)


def _day(promise: Promise, batches: Batches, today: Today) -> date | None:
    """The day the line's stock is there."""
    return None if promise.batchref is None else batches[promise.batchref].source_of(promise.line).day(today)

"""Previews: what messages would set off, found out beside the writer. Nothing is written, locked or told to anybody.

A preview handles the messages as the writer would, one after the other, on what there is at one moment. It works in a
thread with a connection of its own, so that the writer waits for none, however many lines would move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import NamedTuple, TypeVar

from allocation.domain.errors import Refusal
from allocation.domain.events import Event, PromiseChanged, Split
from allocation.domain.harm import Solver, no_solver
from allocation.domain.lines import days_late, state_of, stock_day
from allocation.domain.rules import USUAL, Rules
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.writing.group import GroupUnitOfWork, SpoiledGroup, wanted_by
from allocation.service_layer.writing.store import BatchRow, Changes, LineRow, Lookout, Session, Wanted
from allocation.service_layer.writing.writer import Unavailable

T = TypeVar("T", bound=Event)

MAX_PREVIEWS = 4

Key = tuple[str, str]  # of a line: its order id and SKU


class LineChange(NamedTuple):
    """What would become of a line. ``start`` and ``end`` are batches, ``before`` and ``after`` the promised days.

    They are None while it waits, was not taken yet, or is a promise no more. Stock in the warehouse is promised for
    today. A part that would be cut off a line was what that line was.
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


class Preview(NamedTuple):
    """What each message would be answered, and all lines that would change, in the order they find their place.

    ``versions`` are those of the products that were looked at: a message for this version is applied as previewed.
    """

    outcomes: Sequence[Outcome | Refusal]
    lines: Sequence[LineChange]
    versions: Mapping[str, int]


class Previews:
    """Finds out what messages would set off."""

    def __init__(
        self,
        open_lookout: Callable[[], Lookout],
        *,
        max_previews: int = MAX_PREVIEWS,
        usual_rules: Rules = USUAL,
        solve: Solver = no_solver,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``open_lookout`` is called for each preview, in the thread that it works in."""
        self._open_lookout = open_lookout
        self._max_previews = max_previews
        self._usual_rules = usual_rules
        self._solve = solve
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_previews, thread_name_prefix="preview")
        self._under_way = 0

    async def preview(self, messages: Sequence[Message | Refusal]) -> Preview:
        """What the messages would set off, one after the other; those that are no messages stay refused.

        Raises `Unavailable` while there are as many previews under way as there may be.
        """
        if self._under_way >= self._max_previews:
            raise Unavailable(f"{self._max_previews} previews are under way already")
        self._under_way += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, asyncio.run, self._look(messages))
        work.add_done_callback(self._end)
        return await asyncio.shield(work)  # a caller who has gone leaves the thread at work

    def close(self) -> None:
        """Wait for those under way."""
        self._threads.shutdown()

    def _end(self, work: asyncio.Future[Preview]) -> None:
        self._under_way -= 1
        if not work.cancelled():
            work.exception()  # which its caller was told, unless it has gone

    async def _look(self, messages: Sequence[Message | Refusal]) -> Preview:
        lookout = self._open_lookout()
        try:
            return await lookout.look(lambda session: self._handle(messages, session))
        finally:
            await lookout.close()

    def _handle(self, messages: Sequence[Message | Refusal], session: Session) -> Preview:
        items = list(messages)
        now = self._clock()
        while True:
            uow = GroupUnitOfWork(session, now, usual_rules=self._usual_rules, solve=self._solve)
            uow.load(wanted_by([item for item in items if isinstance(item, Message)], check_ids=False))
            try:
                outcomes = [_handled(item, uow) for item in items]
            except _Spoiled as spoiled:  # again, without the one that was refused after a part of it was done
                items[items.index(spoiled.message)] = spoiled.refusal
            else:
                lines = line_changes(session, uow.changes(), outcomes, now.date())
                return Preview(outcomes, lines, uow.products.loaded_versions)


class _Spoiled(Exception):
    """A message was refused, and left behind what the others must not see."""

    def __init__(self, message: Message, refusal: Refusal) -> None:
        super().__init__(message.id)
        self.message = message
        self.refusal = refusal


def _handled(item: Message | Refusal, uow: GroupUnitOfWork) -> Outcome | Refusal:
    if isinstance(item, Refusal):
        return item
    try:
        return uow.handle(item)
    except Refusal as refusal:
        if uow.has_accepted:
            raise _Spoiled(item, refusal) from refusal
        return refusal
    except SpoiledGroup as spoiled:
        if isinstance(spoiled.__context__, Refusal):
            raise _Spoiled(item, spoiled.__context__) from spoiled
        raise


def line_changes(
    session: Session, changes: Changes, outcomes: Sequence[Outcome | Refusal], today: date
) -> list[LineChange]:
    """How the lines that would change stand before and after; the session still has them as they are."""
    after = {row[:2]: row for row in (*changes.new_lines, *changes.lines)}
    told = [(event.orderid, event.sku) for event in _raised(PromiseChanged, outcomes)]
    lines = session.load(Wanted(lines={*after, *told})).lines
    before: dict[Key, LineRow] = {(row.orderid, row.sku): row for row in lines}
    for cut in _raised(Split, outcomes):
        if (cut.orderid, cut.sku) in before:
            before.setdefault((cut.next_part, cut.sku), before[cut.orderid, cut.sku])
    refs = {row.batchref for row in (*after.values(), *lines) if row.batchref is not None}
    batches = {row.ref: row for row in session.load(Wanted(refs=refs)).batches}
    changed = (*changes.new_batches, *changes.batches, *changes.rewritten_batches)
    batches_after = batches | {row.ref: row for row in changed}
    found = [
        _change(before.get(key), after.get(key) or before[key], batches, batches_after, today)
        for key in dict.fromkeys([*after, *told])
    ]
    return [
        change
        for change in found
        if (change.was, change.start, change.before) != (change.state, change.end, change.after)
        or before[change.orderid, change.sku].qty != change.qty
    ]


def _raised(kind: type[T], outcomes: Sequence[Outcome | Refusal]) -> list[T]:
    raised = [event for outcome in outcomes if isinstance(outcome, Outcome) for event in outcome.raised]
    return [event for event in raised if isinstance(event, kind)]


def _change(
    before: LineRow | None,
    after: LineRow,
    batches: Mapping[str, BatchRow],
    batches_after: Mapping[str, BatchRow],
    today: date,
) -> LineChange:
    day = _day(after, batches_after, today)
    return LineChange(
        after.orderid,
        after.sku,
        after.qty,
        before and before.batchref,
        after.batchref,
        before and _day(before, batches, today),
        day,
        days_late(after.need_by, day),
        state_of(after.batchref, after.closed, after.priority),
        before and state_of(before.batchref, before.closed, before.priority),
    )


def _day(line: LineRow, batches: Mapping[str, BatchRow], today: date) -> date | None:
    """The day the line's stock is there."""
    return None if line.batchref is None else stock_day(batches[line.batchref].eta, today)

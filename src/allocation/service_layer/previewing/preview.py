"""Previews: the effect of messages, computed beside the writer. Nothing is written, locked or sent.

A preview handles the messages as the writer would, one after the other, on the data of one moment. It works in a thread
with a connection of its own, so that the writer never waits for it, however many lines would move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

from allocation.domain.days import UTC_DAYS, Calendar
from allocation.domain.errors import Refusal
from allocation.domain.events import Event
from allocation.domain.harm import Solver, no_solver
from allocation.domain.lines import Promise, Today
from allocation.domain.records import NO_RECORDS
from allocation.domain.rules import USUAL, Rules
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.previewing.line_changes import Batches, Key, LineChange, keys_of, line_changes
from allocation.service_layer.previewing.stock_changes import StockChange, named_batches, stock_changes
from allocation.service_layer.writing.group import GroupUnitOfWork, SpoiledGroup, wanted_by
from allocation.service_layer.writing.look_alikes import named_by_session
from allocation.service_layer.writing.rows import batch_of, promise_of
from allocation.service_layer.writing.store import Changes, Lookout, Session, Wanted
from allocation.service_layer.writing.writer import Unavailable

MAX_PREVIEWS = 4


class Preview(NamedTuple):
    """The answer to each message, and all lines that would change, in the order of their placement.

    ``versions`` are those of the previewed products: a message for this version is applied as previewed. ``stock`` has
    the batches that they and their consequences name.
    """

    outcomes: Sequence[Outcome | Refusal]
    lines: Sequence[LineChange]
    versions: Mapping[str, int]
    stock: Sequence[StockChange] = ()


class Previews:
    """Computes the effect of messages."""

    def __init__(
        self,
        open_lookout: Callable[[], Lookout],
        *,
        max_previews: int = MAX_PREVIEWS,
        usual_rules: Rules = USUAL,
        solve: Solver = no_solver,
        calendar: Calendar = UTC_DAYS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``open_lookout`` is called for each preview, in the thread that it works in."""
        self._open_lookout = open_lookout
        self._max_previews = max_previews
        self._usual_rules = usual_rules
        self._solve = solve
        self._calendar = calendar
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_previews, thread_name_prefix="preview")
        self._under_way = 0

    async def preview(self, messages: Sequence[Message | Refusal]) -> Preview:
        """The effect of the messages, one after the other; items that are refusals stay refused.

        Raises `Unavailable` while the maximum number of previews is under way.
        """
        if self._under_way >= self._max_previews:
            raise Unavailable(f"{self._max_previews} previews are under way already")
        self._under_way += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, asyncio.run, self._look(messages))
        work.add_done_callback(self._end)
        return await asyncio.shield(work)  # if the caller disconnects, the thread continues

    def close(self) -> None:
        """Wait for those under way."""
        self._threads.shutdown()

    def _end(self, work: asyncio.Future[Preview]) -> None:
        self._under_way -= 1
        if not work.cancelled():
            work.exception()  # its caller got this error, unless it disconnected

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
            uow = GroupUnitOfWork(
                session, now, usual_rules=self._usual_rules, solve=self._solve, calendar=self._calendar
            )
            uow.load(wanted_by([item for item in items if isinstance(item, Message)], check_ids=False))
            try:
                outcomes = [_handled(item, uow) for item in items]
            except _Spoiled as spoiled:  # again, without the message that was refused halfway
                items[items.index(spoiled.message)] = spoiled.refusal
            else:
                told = _told(items, outcomes)
                look = _Look.at(session, told, uow.changes())
                lines, stock = look.lines_changed(told, uow.today), look.stock_changed(told, uow.today)
                return Preview(named_by_session(outcomes, session), lines, uow.products.loaded_versions, stock)


class _Spoiled(Exception):
    """A message was refused halfway, and the others must not see its changes."""

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


def _told(items: Sequence[Message | Refusal], outcomes: Sequence[Outcome | Refusal]) -> list[Event]:
    """The messages and all they would set off; a message that is in the ledger already sets nothing off."""
    new = [out for item, out in zip(items, outcomes, strict=True) if isinstance(out, Outcome) and out.message is item]
    return [event for outcome in new for event in (outcome.message.event, *outcome.raised)]


class _Look(NamedTuple):
    """The touched lines and batches as they are, which the session still has, and the batches as they would be."""

    lines: Mapping[Key, Promise]
    before: Batches
    after: Batches

    @classmethod
    def at(cls, session: Session, told: Sequence[Event], changes: Changes) -> _Look:
        after = [*changes.new_lines, *changes.lines]
        lines = session.load(Wanted(lines={*keys_of(told), *(row[:2] for row in after)})).lines
        changed = {row.ref: row for row in (*changes.new_batches, *changes.batches, *changes.rewritten_batches)}
        refs = {row.batchref for row in (*after, *lines) if row.batchref is not None}
        found = session.load(Wanted(refs={*refs, *changed, *named_batches(told)})).batches
        before = {row.ref: batch_of(row, NO_RECORDS) for row in found}
        return cls(
            {row[:2]: promise_of(row) for row in lines},
            before,
            before | {ref: batch_of(row, NO_RECORDS) for ref, row in changed.items()},
        )

    def lines_changed(self, told: Sequence[Event], today: Today) -> Sequence[LineChange]:
        return line_changes(told, self.lines, self.before, self.after, today)

    def stock_changed(self, told: Sequence[Event], today: Today) -> Sequence[StockChange]:
        return stock_changes(named_batches(told), self.before, self.after, today)

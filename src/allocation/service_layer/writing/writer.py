"""The writer: makes messages durable, a group at a time.

Messages that arrive while one group is written form the next group. So each message gets cheaper under load, and a
single caller never waits for others. As soon as enough messages are pending, they are read and handled on the expected
result of the group before, so that Python and the database work in parallel. Guarantees:

- Messages are handled in the order of arrival.
- A message and all its consequences are committed together or not at all, and answered only after the commit.
- A refusal answers its own caller. After an unexpected error the messages of the group are handled one by one, so that
  only the message that causes the error fails.
- A group is read without a lock, except products that are in memory already, and written only if no other process
  changed the products meanwhile. Lines ordered of products in memory are expected to be new and are not looked up: an
  existing line cannot be written twice. A group with an event that needs more than the rows it names
  (`handlers.NEEDS`) is handled in a transaction that locks its products; so is a group that could not be written.
  After a lost connection the group is done again with every message id looked up in the ledger, which shows whether the
  lost commit was made. If it was, its answers are kept, and refused messages are not handled again.
- The timeout for a lost database counts from its loss, not for each group: later callers are answered immediately.
- While other processes change the same products, all of them write in turns of several groups.
- The queue is bounded. Closing handles all accepted messages.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from allocation.domain.days import UTC_DAYS, Calendar
from allocation.domain.errors import Refusal
from allocation.domain.harm import Solver, no_solver
from allocation.domain.rules import USUAL, Rules
from allocation.service_layer.handlers import NEEDS, Needs
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.writing.ahead import NotReadAhead, ReadAhead
from allocation.service_layer.writing.group import (
    GroupUnitOfWork,
    Outcomes,
    SpoiledGroup,
    expected_new,
    handle_again,
    handle_each,
    is_refused,
    wanted_by,
)
from allocation.service_layer.writing.ledger import EffectsOf, declared_effects
from allocation.service_layer.writing.look_alikes import named_by_store
from allocation.service_layer.writing.meter import Meter
from allocation.service_layer.writing.patience import Patience
from allocation.service_layer.writing.products import NOTHING_WARM, WarmProduct
from allocation.service_layer.writing.store import Changes, Loaded, Session, Store, StoreConflict, StoreUnavailable
from allocation.service_layer.writing.taken import Entries, Flight, Handled, Nothing, Reply, Taken, ToLock, messages_of
from allocation.service_layer.writing.turns import OwnTurns, Turns
from allocation.service_layer.writing.warm import WarmProducts

MAX_GROUP = 1_000
MAX_QUEUED = 20_000
PILE = 16  # minimum of pending messages to handle a group ahead: small groups cost more than they save
PILE_SHARE = 0.5  # and minimum as a share of the group that is being written
LOCKING_S = 1.0  # after an event needed more than its rows, such events get the lock immediately for this time
REPEATING_S = 1.0  # after a repeated order line, lines are looked up first for this time
MAX_CONFLICTS = 10
RECONNECT_TIMEOUT_S = 10.0
RECONNECT_DELAY_S = 0.05
MIN_TRIES = 2  # of a group, however long the database has been away: a connection from before is found dead by using it
RETRY_AFTER_S = 1

log = structlog.get_logger(__name__)


class Unavailable(Exception):
    """The message was not accepted, or its outcome is unknown; repeating it later with the same id is safe."""

    retry_after_s = RETRY_AFTER_S


class Writer:
    """Takes messages from any number of callers of one event loop, and answers each when its outcome is durable."""

    def __init__(  # noqa: PLR0913 - the store, its limits, and parameters for tests
        self,
        store: Store,
        *,
        max_queued: int = MAX_QUEUED,
        max_group: int = MAX_GROUP,
        pile: int = PILE,
        pile_share: float = PILE_SHARE,
        reconnect_timeout_s: float = RECONNECT_TIMEOUT_S,
        turns: Turns | None = None,
        effects_of: EffectsOf = declared_effects,
        usual_rules: Rules = USUAL,
        solve: Solver = no_solver,
        calendar: Calendar = UTC_DAYS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._effects_of = effects_of
        self.usual_rules = usual_rules
        self._solve = solve
        self._calendar = calendar
        self._max_queued = max_queued
        self.max_group = max_group
        self._pile = pile
        self._pile_share = pile_share
        self._clock = clock
        self._warm = WarmProducts()
        self._queue: deque[tuple[Message, Reply]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._enough = 1  # pending messages that are enough for a group
        self._due = asyncio.Event()  # enough messages are pending, or another event needs attention
        self._closing = False
        self._locking_until = 0.0
        self._repeating_until = 0.0
        self._turn = OwnTurns(turns)
        self._patience = Patience(reconnect_timeout_s)
        self._committed: list[Callable[[], None]] = []
        self.meter = Meter()

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._task = asyncio.create_task(self._work(), name="writer")

    async def close(self) -> None:
        """Refuse new messages, handle all accepted ones, and stop."""
        self._closing = True
        self._due.set()
        if self._task is not None:
            await self._task

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each group: a hint that the ledger may have grown, never the only one."""
        self._committed.append(listener)

    @property
    def has_room(self) -> bool:
        """Whether a message handed in now would be taken."""
        return len(self._queue) < self._max_queued and not self._closing

    @property
    def trouble(self) -> Unavailable | None:
        """Why the last messages could not be written, a short while ago; None: they were, or another try is due."""
        reason = self._patience.trouble
        return None if reason is None else Unavailable(reason)

    def submit(self, message: Message, reply: Reply) -> None:
        """Queue a message; ``reply`` is called once, with its outcome or the exception that says why there is none.

        Raises `Unavailable` when the queue is full or the writer is closing; the message is then not queued.
        """
        if self._closing:
            raise Unavailable("The service is shutting down")
        if len(self._queue) >= self._max_queued:
            raise Unavailable(f"{self._max_queued} messages are waiting already")
        self._queue.append((message, reply))
        if len(self._queue) >= self._enough:
            self._due.set()

    async def handle(self, message: Message) -> Outcome:
        """Queue a message and wait for its outcome; raises its refusal, or `Unavailable`."""
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def reply(outcome: Outcome | Exception) -> None:
            if answered.done():  # the caller disconnected
                return
            if isinstance(outcome, Exception):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        self.submit(message, reply)
        return await answered

    async def _work(self) -> None:
        """Take a group, end the one before, and begin to write or lock; until the writer closes and nothing is left."""
        flight: Flight | None = None  # None: nothing is being written
        while flight or self._queue or not self._closing:
            await self._pile_up(flight)
            group = await self._next_group(flight)
            landed = flight is None or await self._has_landed(flight)
            if isinstance(group, Handled) and not landed:
                group = ToLock(group.entries)  # it was handled on data that were not written
            following = self._take_off(group) if isinstance(group, Handled) else None
            if flight and following:
                await asyncio.sleep(0)  # let the database begin on it before the others are answered
            if flight:
                await self._settle(flight.group, landed=landed)
            if isinstance(group, ToLock):
                outcomes = await self._commit(messages_of(group.entries))
                self._answer(group.entries, await named_by_store(outcomes, self._store))
            flight = following
        await self._turn.end()

    async def _next_group(self, before: Flight | None) -> Taken:
        """Take a group, and handle it ahead where that may be done."""
        entries = self._take(before) if await self._may_take(before) else []
        if not entries:
            return Nothing()
        if self._needs_lock(entries):
            return ToLock(entries)
        return await self._handle_ahead(entries, before)

    def _needs_lock(self, entries: Entries) -> bool:
        """Whether others may change the same products now, or an event needs more than the rows that it names."""
        if self._turn.others_expected and not self._turn.is_ours:
            return True
        needs = {NEEDS.get(kind, Needs.MORE) for kind in {type(message.event) for message, _ in entries}}
        return Needs.MORE in needs or (
            Needs.MORE_AT_TIMES in needs and asyncio.get_running_loop().time() < self._locking_until
        )

    async def _pile_up(self, before: Flight | None) -> None:
        """Wait for a message; while a group is written, for a share of as many as are in it, or until it is written."""
        self._enough = max(self._pile, int(self._pile_share * len(before.group.entries))) if before else 1
        while len(self._queue) < self._enough and not self._closing and not (before and before.written.done()):
            self._due.clear()
            await (self._due.wait() if before else self._turn.wait(self._due))

    async def _may_take(self, before: Flight | None) -> bool:
        """Whether to take a group now; first the one before is answered, where our turn is over or has to come.

        A group is taken when our turn begins, so that it includes all messages that arrived while waiting.
        """
        if self._turn.is_ours:
            if not self._turn.is_over:
                return True
            if before:
                await asyncio.wait([before.written])
            await self._turn.end()
        if not self._turn.is_needed:
            return True
        if before or not self._queue:
            return False
        await self._turn.take()
        self._warm.clear()  # others had theirs meanwhile
        return True

    def _take(self, before: Flight | None) -> Entries:
        """All pending messages; of many at most half, counting those being written, so that there is a next group.

        Otherwise callers that send again after each answer would all be in one group, which is handled while nothing is
        written, and written while nothing is handled.
        """
        being_written = len(before.group.entries) if before else 0
        most = min(self.max_group, max(2 * self._pile, (len(self._queue) + being_written) // 2))
        return [self._queue.popleft() for _ in range(min(len(self._queue), most))]

    async def _handle_ahead(self, entries: Entries, before: Flight | None) -> Handled | ToLock:
        """Read and handle a group on the expected result of the groups before, if possible."""
        messages = messages_of(entries)
        wanted = wanted_by(messages, check_ids=False)
        kept = self._warm.take(wanted)
        new = expected_new(messages, kept) if asyncio.get_running_loop().time() >= self._repeating_until else set()
        asked = replace(wanted, lines=wanted.lines - new)
        unwritten = before.group.changes if before and not before.written.done() else None  # else they can be read
        try:
            session = ReadAhead(await self._store.read(asked) if asked else Loaded(), unwritten)
            uow = self._unit_of_work(session, kept)
            uow.load(wanted)
            outcomes = handle_each(messages, uow)
            if new and is_refused(messages, outcomes, new):  # it may have been taken before
                self._expect_repeats()
                return ToLock(entries)
            group = Handled(entries, outcomes, uow.changes(), fresh=not kept, expected=bool(new))
            self._warm.forget(uow.products.skus)
            self._warm.keep(uow.products.leave())
        except Exception as error:  # noqa: BLE001 - the error occurs again in the transaction, which handles it
            self._note(error, messages)
            return ToLock(entries)
        return group

    def _note(self, error: Exception, messages: Sequence[Message]) -> None:
        """A group could not be handled ahead."""
        match error:
            case NotReadAhead() | SpoiledGroup(__context__=NotReadAhead()):
                self.meter.in_vain += 1
                self._locking_until = asyncio.get_running_loop().time() + LOCKING_S
            case StoreUnavailable():
                self._warm.clear()  # the next one to answer may be a server that has lost commits

    def _expect_repeats(self) -> None:
        self._repeating_until = asyncio.get_running_loop().time() + REPEATING_S

    def _take_off(self, group: Handled) -> Flight:
        written = asyncio.create_task(self._write(group.changes))
        written.add_done_callback(lambda _: self._due.set())
        return Flight(group, written)

    async def _write(self, changes: Changes) -> None:
        if changes.messages:
            await self._store.write(changes)

    async def _has_landed(self, flight: Flight) -> bool:
        """Wait until the group is written. After any failure it is unknown whether it was written."""
        try:
            await flight.written
        except StoreConflict:
            if flight.group.expected:
                self._expect_repeats()
            if flight.group.fresh:  # else somebody may have changed a warm product long ago
                self._turn.expect_others()
        except Exception as error:  # noqa: BLE001 - it is done again, where it is dealt with
            log.info("group is done again", messages=len(flight.group.entries), reason=repr(error))
        else:
            self._patience.renew()
            return True
        self._warm.clear()
        return False

    async def _settle(self, group: Handled, *, landed: bool) -> None:
        """Answer a group that was written, and do it again if it was not."""
        outcomes = group.outcomes
        if not landed:
            outcomes = await self._commit(messages_of(group.entries), check_ids=True, before=outcomes)
        self._answer(group.entries, await named_by_store(outcomes, self._store))

    def _answer(self, entries: Entries, outcomes: Outcomes) -> None:
        for (message, reply), outcome in zip(entries, outcomes, strict=True):
            try:
                reply(outcome)
            except Exception:
                log.exception("reply failed", message_id=message.id)
        self.meter.count(len(entries))
        for listener in self._committed:
            _tell(listener)

    async def _commit(self, messages: Sequence[Message], *, check_ids: bool = False, before: Outcomes = ()) -> Outcomes:
        """Handle and write messages in a transaction that locks their products, with all retries.

        ``check_ids``: they may have been written already, and then with these outcomes from ``before``, if any.
        """
        try:
            return await self._commit_together(messages, check_ids=check_ids, before=before)
        except StoreUnavailable as error:
            log.warning("database unavailable", messages=len(messages), reason=str(error))
            reason = f"The database is unavailable: {error}"
            self._patience.give_up(reason)
            return [Unavailable(reason)] * len(messages)
        except Exception as error:
            if len(messages) > 1:
                log.info("group is handled one by one", messages=len(messages), reason=repr(error))
                return await self._commit_one_by_one(messages, check_ids=check_ids)
            if isinstance(error, SpoiledGroup) and isinstance(error.__context__, Refusal):
                return [error.__context__]  # it left changes behind, which were rolled back
            if isinstance(error, StoreConflict):
                return [Unavailable(f"Other writers changed the same products too often: {error}")]
            log.exception("message failed", message_id=messages[0].id, message=repr(messages[0].event))
            return [error]

    async def _commit_one_by_one(
        self, messages: Sequence[Message], *, check_ids: bool
    ) -> Sequence[Outcome | Exception]:
        """A transaction for each; none is tried any more once the database has become unavailable."""
        outcomes: list[Outcome | Exception] = []
        for message in messages:
            outcomes += await self._commit([message], check_ids=check_ids)
            if isinstance(outcomes[-1], Unavailable):
                return outcomes + [outcomes[-1]] * (len(messages) - len(outcomes))
        return outcomes

    async def _commit_together(self, messages: Sequence[Message], *, check_ids: bool, before: Outcomes) -> Outcomes:
        """One transaction for all; done again after a conflict or a lost connection, within limits."""
        conflicts = 0
        outcomes = [*before]  # of the last attempt, successful or not
        for tries in itertools.count(1):
            try:
                work = functools.partial(self._handle, messages, outcomes, check_ids=check_ids or tries > 1)
                await self._store.run(work)
            except StoreConflict:
                conflicts += 1
                if conflicts > MAX_CONFLICTS:
                    raise
            except StoreUnavailable:
                self._warm.clear()
                if tries >= MIN_TRIES and self._patience.is_over():
                    raise
                await asyncio.sleep(RECONNECT_DELAY_S)
            else:
                self._patience.renew()
                break
        return outcomes

    def _handle(
        self, messages: Sequence[Message], outcomes: list[Outcome | Exception], session: Session, *, check_ids: bool
    ) -> None:
        """Replace the ``outcomes`` from before by the new ones."""
        uow = self._unit_of_work(session)
        uow.load(wanted_by(messages, check_ids=check_ids))
        outcomes[:] = handle_again(messages, uow, outcomes) if outcomes else handle_each(messages, uow)
        changes = uow.changes()
        self._warm.forget(uow.products.skus)
        if changes.messages:
            session.save(changes)

    def _unit_of_work(self, session: Session, kept: Mapping[str, WarmProduct] = NOTHING_WARM) -> GroupUnitOfWork:
        about = (self._effects_of, self.usual_rules, self._solve, kept)
        return GroupUnitOfWork(session, self._clock(), *about, calendar=self._calendar)


def _tell(listener: Callable[[], None]) -> None:
    """Call a listener. Its errors are its own failure: the writer continues for all others."""
    try:
        listener()
    except Exception:
        log.exception("listener failed")

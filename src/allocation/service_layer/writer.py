"""The writer: makes messages durable, a group at a time.

While one group commits, the next piles up, so that the busier it is the less each message costs, and a caller alone
waits for nobody. Where the store can have several transactions under way, as many lanes work side by side, each on
products of its own: one is handled in memory while the database writes the other. What the writer promises:

- The messages of a product are handled in the order they came in.
- A message and all it sets off are committed together or not at all, and nobody is answered before that.
- A refusal answers its own caller. An unexpected error makes the group be handled one by one, so that it harms
  only the message that causes it.
- Work that another process got in between is done again. After a lost connection it is done again with every
  message id looked up in the ledger, which tells whether the lost commit had happened.
- The patience with a lost database counts from its loss, not anew for each group: who asks later is told at once.
- The queue is bounded. Closing handles everything that was accepted.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from allocation.domain.errors import Refusal
from allocation.service_layer.group import GroupUnitOfWork, SpoiledGroup, product_of
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.store import Session, Store, StoreConflict, StoreUnavailable

MAX_GROUP = 1_000
MAX_QUEUED = 20_000
PILE = 32  # messages that must wait before a second lane starts on them: small groups cost more than they hurry
MAX_CONFLICTS = 10
RECONNECT_TIMEOUT_S = 10.0
RECONNECT_DELAY_S = 0.05
MIN_TRIES = 2  # of a group, however long the database has been away: a connection from before is found dead by using it
RETRY_AFTER_S = 1

Reply = Callable[[Outcome | Exception], None]

log = structlog.get_logger(__name__)


class _Group(NamedTuple):
    """Messages handled in one transaction, and their products; None stands for one that only storage knows."""

    entries: list[tuple[Message, Reply]]
    skus: set[str | None]


class Unavailable(Exception):
    """The message was not taken, or what became of it is not known; asking again later, under the same id, is safe."""

    retry_after_s = RETRY_AFTER_S


class Writer:
    """Takes messages from any number of callers of one event loop, and answers each when its outcome is durable."""

    def __init__(
        self,
        store: Store,
        *,
        max_queued: int = MAX_QUEUED,
        max_group: int = MAX_GROUP,
        pile: int = PILE,
        reconnect_timeout_s: float = RECONNECT_TIMEOUT_S,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._max_queued = max_queued
        self._max_group = max_group
        self._pile = pile
        self._reconnect_timeout_s = reconnect_timeout_s
        self._clock = clock
        self._queue: deque[tuple[Message, Reply]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()  # lanes that wait for a message
        self._under_way: list[_Group] = []
        self._lanes: list[asyncio.Task[None]] = []
        self._closing = False
        self._lost_at: float | None = None  # since when no transaction has succeeded; None: the last one did
        self._committed: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._lanes = [asyncio.create_task(self._work(), name=f"writer-{n}") for n in range(self._store.lanes)]

    async def close(self) -> None:
        """Refuse new messages, handle all that were accepted, and stop."""
        self._closing = True
        self._wake_one()
        await asyncio.gather(*self._lanes)

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each group: a hint that the ledger may have grown, never the only one."""
        self._committed.append(listener)

    @property
    def has_room(self) -> bool:
        """Whether a message handed in now would be taken."""
        return len(self._queue) < self._max_queued and not self._closing

    def submit(self, message: Message, reply: Reply) -> None:
        """Queue a message; ``reply`` is called once, with its outcome or the exception that says why there is none.

        Raises `Unavailable` when the queue is full or the writer is closing; the message is then not queued.
        """
        if self._closing:
            raise Unavailable("The service is shutting down")
        if len(self._queue) >= self._max_queued:
            raise Unavailable(f"{self._max_queued} messages are waiting already")
        self._queue.append((message, reply))
        if self._idle:
            self._wake_one()

    async def handle(self, message: Message) -> Outcome:
        """Queue a message and wait for its outcome; raises its refusal, or `Unavailable`."""
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def reply(outcome: Outcome | Exception) -> None:
            if answered.done():  # the caller has gone
                return
            if isinstance(outcome, Exception):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        self.submit(message, reply)
        return await answered

    def _wake_one(self) -> None:
        while self._idle:
            lane = self._idle.popleft()
            if not lane.done():
                lane.set_result(None)
                return

    async def _work(self) -> None:
        """One lane: take a group, commit it, answer, until the writer closes and nothing is left to take."""
        while not (self._closing and not self._queue):
            group = self._take_group()
            if not group:
                idle = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle
                continue
            self._under_way.append(group)
            outcomes = await self._commit([message for message, _ in group.entries])
            self._under_way.remove(group)
            for (message, reply), outcome in zip(group.entries, outcomes, strict=True):
                _tell(reply, outcome, message_id=message.id)
            for listener in self._committed:
                _tell(listener)
        self._wake_one()  # so that the other lanes see the end too

    def _take_group(self) -> _Group | None:
        """What can be handled now, in the order of the queue; nothing, if that is better left to the lane at work.

        What a lane at work has in hand stays in the queue, so that a product's messages keep their order. A message
        whose product only storage knows is taken while no other lane works, and none is taken beside it.
        """
        held = {sku for group in self._under_way for sku in group.skus}
        if self._under_way and (len(self._queue) < self._pile or None in held):
            return None
        entries: list[tuple[Message, Reply]] = []
        skus: set[str | None] = set()
        left: deque[tuple[Message, Reply]] = deque()
        while self._queue and len(entries) + len(left) < self._max_group:
            entry = self._queue.popleft()
            sku = product_of(entry[0].event)
            if sku is None and held:
                left.append(entry)
                break
            if sku in held:
                left.append(entry)
                continue
            skus.add(sku)
            entries.append(entry)
        self._queue.extendleft(reversed(left))
        return _Group(entries, skus) if entries else None

    async def _commit(self, messages: Sequence[Message]) -> Sequence[Outcome | Exception]:
        try:
            return await self._commit_together(messages)
        except StoreUnavailable as error:
            log.warning("database unavailable", messages=len(messages), reason=str(error))
            unavailable = Unavailable(f"The database is unavailable: {error}")
            return [unavailable] * len(messages)
        except Exception as error:
            if len(messages) > 1:
                log.info("group is handled one by one", messages=len(messages), reason=repr(error))
                return await self._commit_one_by_one(messages)
            if isinstance(error, SpoiledGroup) and isinstance(error.__context__, Refusal):
                return [error.__context__]  # it left changes behind, which were rolled back
            if isinstance(error, StoreConflict):
                return [Unavailable(f"Other writers kept getting in between: {error}")]
            log.exception("message failed", message_id=messages[0].id, message=repr(messages[0].event))
            return [error]

    async def _commit_one_by_one(self, messages: Sequence[Message]) -> Sequence[Outcome | Exception]:
        """A transaction for each; none is tried any more once the database has become unavailable."""
        outcomes: list[Outcome | Exception] = []
        for message in messages:
            outcomes += await self._commit([message])
            if isinstance(outcomes[-1], Unavailable):
                return outcomes + [outcomes[-1]] * (len(messages) - len(outcomes))
        return outcomes

    async def _commit_together(self, messages: Sequence[Message]) -> Sequence[Outcome | Exception]:
        """One transaction for all; done again after a conflict or a lost connection, within limits."""
        conflicts = 0
        for tries in itertools.count(1):
            try:
                outcomes = await self._store.run(functools.partial(self._handle, messages, check_ids=tries > 1))
            except StoreConflict:
                conflicts += 1
                if conflicts > MAX_CONFLICTS:
                    raise
            except StoreUnavailable:
                if tries >= MIN_TRIES and self._has_been_lost_too_long():
                    raise
                await asyncio.sleep(RECONNECT_DELAY_S)
            else:
                self._lost_at = None
                break
        return outcomes

    def _has_been_lost_too_long(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._lost_at is None:
            self._lost_at = now
        return now > self._lost_at + self._reconnect_timeout_s

    def _handle(
        self, messages: Sequence[Message], session: Session, *, check_ids: bool
    ) -> Sequence[Outcome | Exception]:
        uow = GroupUnitOfWork(session, self._clock())
        uow.load(messages, check_ids=check_ids)
        outcomes: list[Outcome | Exception] = []
        for message in messages:
            try:
                outcomes.append(uow.handle(message))
            except Refusal as refusal:
                if uow.has_accepted:
                    raise SpoiledGroup(f"{message.id} was refused after a part of it was done") from refusal
                outcomes.append(refusal)
        uow.save()
        return outcomes


def _tell(listener: Callable[..., None], *news: object, **about: str) -> None:
    """Call a listener. Whatever it raises is its own failure: the writer goes on for all others."""
    try:
        listener(*news)
    except Exception:
        log.exception("listener failed", **about)

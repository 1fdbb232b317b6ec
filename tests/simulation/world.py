"""Plays a history: the real writer, handlers and domain, on tables in memory, in a world where things go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from allocation.adapters.memory import MemoryStore, MemoryTables
from allocation.domain.errors import Refusal
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.store import Changes, Loaded, Session, StoreConflict, StoreUnavailable, Wanted
from allocation.service_layer.writer import Unavailable, Writer
from tests.simulation.loop import SimulatedLoop, StoodStill
from tests.simulation.plan import Plan, Send

T = TypeVar("T")

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONGEST_S = 60.0  # of made-up time; whoever is not answered by then never is
RECONNECT_TIMEOUT_S = 0.3
OUTAGE_S = 0.5
RETRY_S = 0.1
CALL_S = (0.0, 0.001, 0.001, 0.004, 0.02)  # how long half a call of the store takes
LONG_S = 0.2
SHARE_OF_VERY_LATE = 0.5
LATE = frozenset({"lost late", "crash late"})

Work = Callable[[], Coroutine[Any, Any, T]]


class Gone(Exception):
    """The process died, and with it the answer."""


@dataclass
class Attempt:
    """One message handed to one process. Moments are numbers of what happened in the world, one after the other."""

    send: Send
    process: int
    sent: int
    answered: int | None = None
    answer: Outcome | Exception | None = None
    committed: bool = False  # when it was answered


@dataclass
class Played:
    """What a history left: the rows, what every sender was told, and what stopped it, if anything did."""

    tables: MemoryTables
    attempts: list[Attempt] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    stuck: str | None = None
    of_every_kind: bool = False  # not only the seed's events, which the naive model knows


def play(plan: Plan) -> Played:
    """Play the history to its end."""
    loop = SimulatedLoop()
    world = World(plan)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(asyncio.wait_for(world.run(), LONGEST_S))
    except StoodStill:
        world.played.stuck = "everybody waits for ever"
    except TimeoutError:
        world.played.stuck = f"not done after {LONGEST_S:g} s"
    finally:
        _end(loop)
    return world.played


def _end(loop: SimulatedLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
    asyncio.set_event_loop(None)


class World:
    """Senders, processes, and the tables that outlive them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dice = random.Random(plan.seed)
        self.database = MemoryStore()
        self.played = Played(self.database.tables, of_every_kind=plan.seed % 2 == 1)
        self.away_until = 0.0
        self._faults = {fault.call: fault.kind for fault in plan.faults}
        self._calls = itertools.count(1)
        self._moments = itertools.count(1)
        self._numbers = itertools.count(1)
        self._processes: list[Process] = []

    async def run(self) -> None:
        self._processes = [Process(self, next(self._numbers)) for _ in range(self.plan.processes)]
        senders = sorted({send.sender for send in self.plan.sends})
        async with asyncio.TaskGroup() as group:
            for sender in senders:
                group.create_task(self._send_all([send for send in self.plan.sends if send.sender == sender]))
        await asyncio.sleep(2 * LONG_S)  # until the last late commit has happened
        for process in self._processes:
            await process.writer.close()

    async def _send_all(self, sends: list[Send]) -> None:
        async with asyncio.TaskGroup() as group:
            for send in sends:
                await asyncio.sleep(send.pause_s)
                on_its_way = group.create_task(self._send(send))
                if send.waits:
                    await on_its_way

    async def _send(self, send: Send) -> None:
        """Until it is answered; without a key there is only one try."""
        while True:
            answer = await self._try(send)
            if isinstance(answer, Outcome | Refusal) or not send.keyed:
                return
            await asyncio.sleep(RETRY_S)

    async def _try(self, send: Send) -> Outcome | Exception:
        process = self.dice.choice(self._processes)
        attempt = Attempt(send, process.number, next(self._moments))
        self.played.attempts.append(attempt)
        return await process.handle(Message(send.event, send.id, f"sender {send.sender}", send.keyed), attempt)

    def answered(self, attempt: Attempt, answer: Outcome | Exception) -> None:
        attempt.answered, attempt.answer = next(self._moments), answer
        attempt.committed = attempt.send.id in self.database.tables.messages

    def next_fault(self) -> str | None:
        """What goes wrong at the call that begins now."""
        kind = self._faults.get(next(self._calls))
        if kind is not None:
            self.played.faults[kind] += 1
        if kind == "outage":
            self.away_until = asyncio.get_running_loop().time() + OUTAGE_S
        return kind

    def replace(self, process: Process) -> None:
        """Start another process where this one was, unless that has happened."""
        if process in self._processes:
            self._processes[self._processes.index(process)] = Process(self, next(self._numbers))

    async def pause(self, kind: str | None = None) -> None:
        await asyncio.sleep(LONG_S if kind == "overtaken" else self.dice.choice(CALL_S))


class Process:
    """A writer with its connection. When it dies nothing of it goes on, and whoever waited for it is told nothing."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self._world = world
        self._alive = True
        self._waiting: list[asyncio.Future[Outcome | Exception]] = []
        self.writer = Writer(
            Connection(world, self),
            max_queued=world.plan.max_queued,
            max_group=world.plan.max_group,
            pile=world.plan.pile,
            reconnect_timeout_s=RECONNECT_TIMEOUT_S,
            clock=lambda: BEGIN + timedelta(seconds=asyncio.get_running_loop().time()),
        )
        self.writer.start()

    async def handle(self, message: Message, attempt: Attempt) -> Outcome | Exception:
        answer: asyncio.Future[Outcome | Exception] = asyncio.get_running_loop().create_future()

        def reply(outcome: Outcome | Exception) -> None:
            if self._alive:
                self._world.answered(attempt, outcome)
                answer.set_result(outcome)

        try:
            self.writer.submit(message, reply)
        except Unavailable as refused:
            return refused
        self._waiting.append(answer)
        return await answer

    def die(self) -> None:
        self._alive = False
        self._world.replace(self)
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(Gone())

    def restart(self) -> None:
        if self._alive:
            self._world.replace(self)
            self._closed = asyncio.create_task(self.writer.close())

    async def go_on(self) -> None:
        """Return if the process lives; otherwise never."""
        if not self._alive:
            await asyncio.get_running_loop().create_future()


class Connection:
    """The store as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def run(self, work: Callable[[Session], T]) -> T:
        return await self._call(lambda: self._world.database.run(work), locks=True)

    async def write(self, changes: Changes) -> None:
        await self._call(lambda: self._world.database.write(changes))

    async def read(self, wanted: Wanted) -> Loaded:
        return await self._call(lambda: self._world.database.read(wanted))

    async def close(self) -> None:
        """Nothing to give back."""

    async def _call(self, work: Work[T], *, locks: bool = False) -> T:
        """Begin, work at one moment, and come back. What holds locks is never late: whoever comes next waits for it."""
        await self._process.go_on()
        kind = self._world.next_fault()
        await self._world.pause(kind)
        await self._process.go_on()
        await self._fail_before(kind)
        if kind in LATE and not locks:
            self._late = asyncio.create_task(self._happen_late(work))
            await self._fail_after(kind)
        result = await work()
        await self._fail_after(kind)
        await self._world.pause(kind)
        await self._process.go_on()
        return result

    async def _fail_before(self, kind: str | None) -> None:
        if kind == "lost before" or asyncio.get_running_loop().time() < self._world.away_until:
            raise StoreUnavailable("connection lost")
        if kind == "conflict":
            raise StoreConflict("somebody was faster")
        if kind == "error":
            raise ZeroDivisionError("nobody expects this")
        if kind == "crash before":
            await self._die()

    async def _fail_after(self, kind: str | None) -> None:
        if kind in {"lost after", "lost late"}:
            raise StoreUnavailable("connection lost while committing")
        if kind in {"crash after", "crash late"}:
            await self._die()
        if kind == "restart":
            self._process.restart()

    async def _happen_late(self, work: Work[T]) -> None:
        await self._world.pause("overtaken" if self._world.dice.random() < SHARE_OF_VERY_LATE else None)
        with contextlib.suppress(StoreConflict):
            await work()

    async def _die(self) -> None:
        self._process.die()
        await self._process.go_on()

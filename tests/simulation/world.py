"""Plays a history: the real writer, handlers, domain and relay, on tables in memory, while things go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from allocation.adapters.memory import MemoryStore, MemoryTables
from allocation.domain.errors import Refusal
from allocation.service_layer.delivering.dead_letters import Which
from allocation.service_layer.delivering.relay import Policy, Relay
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.writing.store import Changes, Loaded, Session, StoreConflict, StoreUnavailable, Wanted
from allocation.service_layer.writing.writer import Unavailable, Writer
from tests.simulation.deliveries import (
    LATE,
    LEFT,
    Deliveries,
    Mark,
    SimulatedConnection,
    SimulatedDeadLetters,
    SimulatedOutbox,
)
from tests.simulation.loop import SimulatedLoop, StoodStill
from tests.simulation.plan import PLACES, Plan, Send
from tests.simulation.targets import STOPPED_LEASES, Targets, Telling, effects_of

T = TypeVar("T")

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONGEST_S = 100.0  # of made-up time; what is not done by then never is
LOOK_S = 0.5
SHORTEST_S = 0.001  # what is left of a wait, rounded, may be too short for time to pass
RECONNECT_TIMEOUT_S = 0.3
OUTAGE_S = 0.5
RETRY_S = 0.1
CALL_S = (0.0, 0.001, 0.001, 0.004, 0.02)  # how long half a call of the store takes
LONG_S = 0.2
SHARE_OF_VERY_LATE = 0.5
CLOCK_LEASES = 2  # by so many times as long as a lease lasts the database's clock jumps
KEPT_S = 3_600.0

Work = Callable[[str | None], Coroutine[Any, Any, T]]  # is told what goes wrong meanwhile


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
    """What a history left: the rows, what everybody was told, and what stopped it, if anything did."""

    plan: Plan
    tables: MemoryTables
    attempts: list[Attempt] = field(default_factory=list)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    tellings: Sequence[Telling] = ()
    marks: Sequence[Mark] = ()
    left: Sequence[object] = ()  # deliveries that were not made in the end
    stuck: str | None = None
    of_every_kind: bool = False  # not only those that the naive model knows


def play(plan: Plan) -> Played:
    """Play the history to its end."""
    loop = SimulatedLoop()
    world = World(plan)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(world.run())
    except StoodStill:
        world.played.stuck = "everybody waits for ever"
    except TimeoutError:
        world.played.stuck = f"not all were {world.waits_for} after {LONGEST_S:g} s"
    finally:
        _end(loop)
        world.owed.close()
    return world.played


def _end(loop: SimulatedLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
    asyncio.set_event_loop(None)


class World:
    """Senders, processes, targets, and the tables that outlive them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dice = random.Random(plan.seed)
        self.other_dice = random.Random(f"effects of {plan.seed}")
        self.database = MemoryStore()
        self.owed = Deliveries(self.database.tables.deliveries, self.now, self.next_moment)
        self.targets = Targets(self, self.other_dice)
        self.played = Played(
            plan,
            self.database.tables,
            tellings=self.targets.tellings,
            marks=self.owed.marks,
            of_every_kind=plan.is_of_every_kind,
        )
        self.away_until = 0.0
        self.stopped_until = 0.0  # no process stands still after it
        self.waits_for = "answered"
        self.mended = False
        self._faults = {(place, call): kind for place, kind, call in plan.faults}
        self._calls = {place: itertools.count(1) for place in PLACES}
        self._moments = itertools.count(1)
        self._numbers = itertools.count(1)
        self._processes: list[Process] = []

    async def run(self) -> None:
        """Send everything; see it told, as far as that goes while things go wrong; and then the rest."""
        self._processes = [Process(self, next(self._numbers)) for _ in range(self.plan.processes)]
        await asyncio.wait_for(self._send_everything(), LONGEST_S)
        await asyncio.sleep(2 * LONG_S)  # until the last late commit has happened
        self.waits_for = "told or given up"
        await asyncio.wait_for(self._until_told(), LONGEST_S)
        self._mend()
        await SimulatedDeadLetters(self.owed).retry(Which())
        self.waits_for = "told in the end"
        await asyncio.wait_for(self._until_told(), LONGEST_S)
        self.played.left = self.owed.execute(LEFT).fetchall()
        self.waits_for = "closed"
        await asyncio.wait_for(self._close(), LONGEST_S)

    async def _close(self) -> None:
        for process in self._processes:
            await process.close()

    def _mend(self) -> None:
        """From now on nothing goes wrong."""
        self.mended = True
        self.away_until = 0.0
        self.targets.mend()

    async def _until_told(self) -> None:
        """Also until whoever stands still has gone on, with what it knew."""
        clock = asyncio.get_running_loop().time
        hold = self.plan.relays.dead_letters_hold
        while self.owed.are_due(dead_letters_hold=hold) or clock() < self.stopped_until + LOOK_S:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)

    async def _send_everything(self) -> None:
        senders = sorted({send.sender for send in self.plan.sends})
        async with asyncio.TaskGroup() as group:
            for sender in senders:
                group.create_task(self._send_all([send for send in self.plan.sends if send.sender == sender]))

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
        attempt = Attempt(send, process.number, self.next_moment())
        self.played.attempts.append(attempt)
        return await process.handle(Message(send.event, send.id, f"sender {send.sender}", send.keyed), attempt)

    def answered(self, attempt: Attempt, answer: Outcome | Exception) -> None:
        attempt.answered, attempt.answer = self.next_moment(), answer
        attempt.committed = attempt.send.id in self.database.tables.messages

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    def next_moment(self) -> int:
        return next(self._moments)

    def next_fault(self, place: str) -> str | None:
        """What goes wrong at the call that begins now."""
        kind = None if self.mended else self._faults.get((place, next(self._calls[place])))
        if kind is not None:
            self.played.faults[place, kind] += 1
        if kind == "outage":
            self.away_until = asyncio.get_running_loop().time() + OUTAGE_S
        if kind in {"clock ahead", "clock back"}:
            self.owed.ahead_s += CLOCK_LEASES * self.plan.relays.lease_s * (1 if kind == "clock ahead" else -1)
        return kind

    def replace(self, process: Process) -> None:
        """Start another process where this one was, unless that has happened."""
        if process in self._processes:
            self._processes[self._processes.index(process)] = Process(self, next(self._numbers))


class Process:
    """A writer and a relay, each with its connection. When it dies nothing of it goes on, and nobody is told."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.name = f"relay {number}"
        self.lives = True
        self._world = world
        self._stopped_until = 0.0
        self._waiting: list[asyncio.Future[Outcome | Exception]] = []
        plan = world.plan
        self.writer = Writer(
            Connection(world, self),
            max_queued=plan.max_queued,
            max_group=plan.max_group,
            pile=plan.pile,
            reconnect_timeout_s=RECONNECT_TIMEOUT_S,
            effects_of=effects_of,
            clock=world.now,
        )
        lease_s, max_attempts, dead_letters_hold, keeps_done = plan.relays
        self.relay = Relay(
            SimulatedOutbox(SimulatedConnection(world.owed, self.name, Wire(world, self, "outbox").call), self.name),
            world.targets.finder(self),
            Policy(lease_s, max_attempts, dead_letters_hold, keep_done_s=KEPT_S if keeps_done else 0.0),
            random.Random(f"{plan.seed} {number}"),
            asyncio.get_running_loop().time,
        )
        self.writer.on_commit(self.relay.wake)
        self.writer.start()
        self.relay.start()

    async def handle(self, message: Message, attempt: Attempt) -> Outcome | Exception:
        answer: asyncio.Future[Outcome | Exception] = asyncio.get_running_loop().create_future()

        def reply(outcome: Outcome | Exception) -> None:
            if self.lives:
                self._world.answered(attempt, outcome)
                answer.set_result(outcome)

        try:
            self.writer.submit(message, reply)
        except Unavailable as refused:
            return refused
        self._waiting.append(answer)
        return await answer

    def die(self) -> None:
        if self._world.mended:
            return
        self.lives = False
        self._world.replace(self)
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(Gone())

    def stop(self, seconds: float) -> None:
        """It stands still, and does not know of it."""
        self._stopped_until = asyncio.get_running_loop().time() + seconds
        self._world.stopped_until = max(self._world.stopped_until, self._stopped_until)

    def restart(self) -> None:
        if self.lives:
            self._world.replace(self)
            self._closed = asyncio.create_task(self.close())

    async def close(self) -> None:
        await self.writer.close()
        await self.relay.close()

    async def go_on(self) -> None:
        """Return when the process does not stand still; never, if it is dead."""
        clock = asyncio.get_running_loop().time
        while self.lives and clock() < self._stopped_until:  # noqa: ASYNC110 - it may be stopped again
            await asyncio.sleep(max(self._stopped_until - clock(), SHORTEST_S))
        if not self.lives:
            await asyncio.get_running_loop().create_future()


class Wire:
    """What lies between a process and the database."""

    def __init__(self, world: World, process: Process, place: str) -> None:
        self._world = world
        self._process = process
        self._place = place
        self._dice = world.dice if place == "store" else world.other_dice
        self._late: list[asyncio.Task[None]] = []

    async def call(self, work: Work[T], *, locks: bool = False) -> T:
        """Begin, work at one moment, and come back. What holds locks is never late: whoever comes next waits for it."""
        await self._process.go_on()
        kind = self._world.next_fault(self._place)
        await self._pause(kind)
        await self._process.go_on()
        await self._fail_before(kind)
        if kind in LATE and not locks:
            self._late.append(asyncio.create_task(self._happen_late(work, kind)))
            await self._fail_after(kind)
        result = await work(kind)
        await self._fail_after(kind)
        await self._pause(kind)
        await self._process.go_on()
        return result

    async def _pause(self, kind: str | None = None) -> None:
        await asyncio.sleep(LONG_S if kind == "overtaken" else self._dice.choice(CALL_S))

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
        if kind == "stopped":
            self._process.stop(STOPPED_LEASES * self._world.plan.relays.lease_s)

    async def _happen_late(self, work: Work[T], kind: str | None) -> None:
        await self._pause("overtaken" if self._dice.random() < SHARE_OF_VERY_LATE else None)
        with contextlib.suppress(StoreConflict):
            await work(kind)

    async def _die(self) -> None:
        self._process.die()
        await self._process.go_on()


class Connection:
    """The store as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        self._database = world.database
        self._wire = Wire(world, process, "store")

    async def run(self, work: Callable[[Session], T]) -> T:
        return await self._wire.call(lambda _: self._database.run(work), locks=True)

    async def write(self, changes: Changes) -> None:
        await self._wire.call(lambda _: self._database.write(changes))

    async def read(self, wanted: Wanted) -> Loaded:
        return await self._wire.call(lambda _: self._database.read(wanted))

    async def close(self) -> None:
        """Nothing to give back."""

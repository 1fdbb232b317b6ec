"""A process that works like the service and kills itself at one point; or, without a point, finishes what is left.

It runs the real writer, store, outbox and effect runner; what it wraps around them is here, in the process that dies.
All that a sender or a reader of mail would know of it stands in its journal, which survives the kill.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import asyncpg
from sqlalchemy import event

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.outbox import Outbox
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    DeliveryEtaChanged,
    Event,
    HoldConfirmed,
    LinePinned,
    LineQuantityChanged,
    LineShipped,
    OutOfStock,
    StockHeld,
)
from allocation.service_layer.delivering import relay
from allocation.service_layer.delivering.effects import among
from allocation.service_layer.delivering.relay import Policy, Relay
from allocation.service_layer.handlers import EFFECTS
from allocation.service_layer.messages import Message, Outcome, new_message
from allocation.service_layer.writing.store import Changes, Loaded, Session, Store, Wanted
from allocation.service_layer.writing.writer import Writer
from tests.builders import select
from tests.waiting import until

T = TypeVar("T")

GROUPS = (1, 2, 3)
GROUP_SIZE = 13
ANSWERED = 2  # of a group, when the process is killed between two answers
COUNTED = 30
DUE, LATE = date(2035, 1, 31), date(2035, 2, 28)
HELD_UNTIL = datetime(2030, 1, 31, 12, tzinfo=UTC)
LOOK_INTERVAL_S = 0.01
LEASE_S = 0.5  # what the next process waits for what the killed one had
PATIENCE_S = 15.0
ACTOR = "sender"
PENDING = "SELECT number FROM deliveries"
ORDERED = ("left", "cancelled", "changed", "pinned")
EFFECT_POINTS = ("untold", "told", "marked")


class Crash(NamedTuple):
    """Where the process kills itself: at ``point`` of the group numbered from 1, which is written in this way."""

    way: str
    point: str
    group: int


class Task(NamedTuple):
    """What a process has to do. ``sabotage`` is a fault built in on purpose, for the checks to find."""

    url: str
    journal: Path
    way: str
    keys: Collection[str]  # of the messages to send
    crash: Crash | None = None
    sabotage: str = ""


def stock() -> Sequence[Event]:
    """What is there before: plenty of chairs, ordered and held; a full batch; for each group what is due or scarce."""
    return [
        BatchCreated("plenty", "CHAIR", 1_000),
        BatchCreated("some", "CHAIR", 100),
        *(AllocationRequired(f"{what}-{group}", "CHAIR", 2) for what in ORDERED for group in GROUPS),
        *(StockHeld(f"cart-{group}", "CHAIR", 2, HELD_UNTIL) for group in GROUPS),
        *(BatchCreated(f"due-{group}", f"SOFA-{group}", 10, DUE, delivery=f"po-{group}") for group in GROUPS),
        *(BatchCreated(f"parts-{group}", f"TABLE-{group}", 10, DUE, delivery=f"po-{group}") for group in GROUPS),
        *(AllocationRequired(f"served-{group}", f"TABLE-{group}", 2) for group in GROUPS),
        *(AllocationRequired(f"early-{group}", f"SOFA-{group}", 2) for group in GROUPS),
        BatchCreated("counted", "TABLE", COUNTED),
        *(AllocationRequired(f"earlier-{number}", "TABLE", 10) for number in GROUPS),
        BatchCreated("other", "TABLE", 1_000),
        *(BatchCreated(f"few-{number}", f"GONE-{number}", 1) for number in GROUPS),
    ]


def messages(way: str) -> Sequence[Message]:
    """All groups, one after the other.

    A count, a receipt in parts, another day of a delivery, a hold or a pin needs lines that are not read ahead: it
    makes a group lock and run.
    """
    return [
        new_message(each, ACTOR, key=f"{group}-{place}")
        for group in GROUPS
        for place, each in enumerate(_group(way, group))
    ]


def group_of(name: str) -> int:
    """Of a key, or of the product that runs out."""
    return int(name.removeprefix("GONE-")[0])


def _group(way: str, group: int) -> Sequence[Event]:
    run = [
        BatchQuantityChanged("counted", COUNTED - 10 * group),
        BatchReceived(f"parts-{group}", 3),
        DeliveryEtaChanged(f"po-{group}", LATE),
        HoldConfirmed(f"cart-{group}", f"{group}-cart"),
        StockHeld(f"{group}-hold", "CHAIR", 1, HELD_UNTIL),
        LinePinned(f"pinned-{group}", "CHAIR", "some", "a friend"),
    ]
    skus = ("TABLE", "CHAIR", f"TABLE-{group}", *(f"SOFA-{each}" for each in GROUPS))
    write = [AllocationRequired(f"{group}-{sku}", sku, 1) for sku in skus]
    return [
        BatchCreated(f"bought-{group}", f"LAMP-{group}", 5),
        AllocationRequired(f"{group}-lamp", f"LAMP-{group}", 2),
        AllocationRequired(f"{group}-chair", "CHAIR", 3),
        AllocationRequired(f"{group}-gone", f"GONE-{group}", 2),
        LineShipped(f"left-{group}", "CHAIR"),
        AllocationCancelled(f"cancelled-{group}", "CHAIR"),
        LineQuantityChanged(f"changed-{group}", "CHAIR", 3),
        *(run if way == "run" else write),
    ]


def main(task: Task) -> None:
    """What the process runs."""
    relay.LOOK_INTERVAL_S = LOOK_INTERVAL_S
    asyncio.run(_Child(task).run())


class Journal:
    """Lines that are out of the process as soon as they are written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def write(self, what: str, *words: object) -> None:
        os.write(self._file, json.dumps([what, *words]).encode() + b"\n")


class Bomb:
    """Kills the process, as the operating system would, at the point it is set to."""

    def __init__(self, crash: Crash | None, journal: Journal) -> None:
        self._crash = crash
        self._journal = journal

    def is_set_to(self, way: str, point: str, group: int) -> bool:
        return self._crash == (way, point, group)

    def reach(self, way: str, point: str, group: int) -> None:
        if self.is_set_to(way, point, group):
            self.explode()

    def explode(self) -> None:
        self._journal.write("killed")
        os.kill(os.getpid(), signal.SIGKILL)


class _Child:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._url = parse_url(task.url)
        self._journal = Journal(task.journal)
        self._bomb = Bomb(task.crash, self._journal)
        self._answered: Counter[int] = Counter()
        self._told: set[int] = set()

    async def run(self) -> None:
        store = self._store()
        writer = Writer(store, max_group=GROUP_SIZE, pile=GROUP_SIZE)
        runner = self._runner()
        writer.on_commit(runner.wake)
        sent = [message for message in messages(self._task.way) if message.id in self._task.keys]
        for message in sent:
            writer.submit(self._envelope(message), self._reply_to(message))
        writer.start()
        runs_effects = self._task.crash is None or self._task.crash.point in EFFECT_POINTS
        if runs_effects:
            runner.start()
        await writer.close()
        if runs_effects:
            await self._wait_until_told()
        await runner.close()
        await store.close()

    def _envelope(self, message: Message) -> Message:
        if self._task.sabotage == "other keys":
            return message._replace(id=f"again-{message.id}")
        return message

    def _reply_to(self, message: Message) -> Callable[[Outcome | Exception], None]:
        def reply(outcome: Outcome | Exception) -> None:
            if isinstance(outcome, Exception):
                self._journal.write("refused", message.id, repr(outcome))
                return
            self._journal.write("acknowledged", message.id, outcome.result)
            group = group_of(message.id)
            self._answered[group] += 1
            if self._answered[group] == ANSWERED:
                self._bomb.reach(self._task.way, "answered", group)

        return reply

    def _tell(self, event: Event) -> None:
        """The effect: whatever it writes has reached the outside world."""
        assert isinstance(event, OutOfStock)
        group = group_of(event.sku)
        self._bomb.reach(self._task.way, "untold", group)
        if self._task.sabotage != "silent effects":
            self._journal.write("told", event.sku)
        self._told.add(group)
        self._bomb.reach(self._task.way, "told", group)

    def _runner(self) -> Relay:
        """The real one; the process may die when deliveries have been marked as done."""
        child = self

        class CrashingOutbox(Outbox):
            async def settle(self, *arguments: Any, **named: Any) -> int:
                told = set(child._told)
                settled = await super().settle(*arguments, **named)
                for group in told if settled else ():  # else the lease was lost, and they are told again
                    child._bomb.reach(child._task.way, "marked", group)
                return settled

        names = [effect.__name__ for several in EFFECTS.values() for effect in several]
        return Relay(CrashingOutbox(self._url), among(dict.fromkeys(names, self._tell)), Policy(lease_s=LEASE_S))

    async def _wait_until_told(self) -> None:
        async def all_is_told() -> bool:
            return not await select(self._url, PENDING)

        await until(all_is_told, PATIENCE_S)

    def _store(self) -> Store:
        store: SqliteStore | PostgresStore
        if is_sqlite(self._url):
            store = SqliteStore(self._url)
            _crash_in_the_file(store, self._bomb, self._task.way)
        else:
            store = PostgresStore(self._url)
            _crash_on_the_wire(self._bomb)
        if self._task.sabotage == "early answers":
            return _HastyStore(store, self._bomb, self._journal)
        return _CrashingStore(store, self._bomb)


class _CrashingStore:
    """A store with a bomb before and after each of its calls; a group is in one `read`, and in one `write` or `run`."""

    def __init__(self, store: Store, bomb: Bomb) -> None:
        self.store = store
        self.bomb = bomb
        self.calls: Counter[str] = Counter()

    async def read(self, wanted: Wanted) -> Loaded:
        group = self._count("read")
        self.bomb.reach("write", "queued", group)
        loaded = await self.store.read(wanted)
        self.bomb.reach("write", "read", group)
        return loaded

    async def write(self, changes: Changes) -> None:
        group = self._count("write")
        self.bomb.reach("write", "handled", group)
        await self.store.write(changes)
        self.bomb.reach("write", "committed", group)

    async def run(self, work: Callable[[Session], T]) -> T:
        group = self._count("run")
        self.bomb.reach("run", "queued", group)
        result = await self.store.run(
            lambda session: work(cast("Session", _CrashingSession(session, self.bomb, group)))
        )
        self.bomb.reach("run", "committed", group)
        return result

    async def close(self) -> None:
        await self.store.close()

    def _count(self, call: str) -> int:
        self.calls[call] += 1
        return self.calls[call]


class _HastyStore(_CrashingStore):
    """Sabotage: it answers before it has written."""

    def __init__(self, store: Store, bomb: Bomb, journal: Journal) -> None:
        super().__init__(store, bomb)
        self._journal = journal

    async def write(self, changes: Changes) -> None:
        for row in changes.messages:
            if row.step == 0:
                self._journal.write("acknowledged", row.correlation_id, json.loads(row.result or "null"))
        await super().write(changes)


class _CrashingSession:
    def __init__(self, session: Session, bomb: Bomb, group: int) -> None:
        self._session = session
        self._bomb = bomb
        self._group = group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def load(self, wanted: Wanted) -> Loaded:
        loaded = self._session.load(wanted)
        self._bomb.reach("run", "read", self._group)
        return loaded

    def save(self, changes: Changes) -> None:
        self._bomb.reach("run", "handled", self._group)
        self._session.save(changes)
        self._bomb.reach("run", "saved", self._group)


def _crash_in_the_file(store: SqliteStore, bomb: Bomb, way: str) -> None:
    """Before the commit; or in it, from the event loop, which runs while the commit's thread waits for the disk."""
    loop = asyncio.get_running_loop()
    commits = itertools.count(1)

    class CrashingConnection(sqlite3.Connection):
        def commit(self) -> None:
            group = next(commits)
            bomb.reach(way, "saved", group)
            if bomb.is_set_to(way, "committing", group):
                loop.call_soon_threadsafe(bomb.explode)
            super().commit()

    def use_it(_dialect: object, _record: object, _arguments: object, named: dict[str, Any]) -> None:
        named["factory"] = CrashingConnection

    event.listen(store._engine, "do_connect", use_it)


def _crash_on_the_wire(bomb: Bomb) -> None:
    """Once the bytes of a statement are on their way, and before the answer can have come."""
    driver: Any = asyncpg.Connection
    fetch, execute = driver.fetch, driver.execute
    calls: Counter[str] = Counter()

    async def crashing_fetch(self: Any, statement: str, *arguments: Any) -> Any:
        if statement.startswith("WITH write_"):
            calls["save"] += 1
            point = ("run", "sent") if self.is_in_transaction() else ("write", "committing")
            if bomb.is_set_to(*point, calls["save"]):
                await self._get_statement(statement, None)  # what is left to send is the work itself
                await _send_and_explode(fetch(self, statement, *arguments))
        return await fetch(self, statement, *arguments)

    async def crashing_execute(self: Any, statement: str) -> Any:
        if statement == "COMMIT":
            calls["commit"] += 1
            if bomb.is_set_to("run", "committing", calls["commit"]):
                await _send_and_explode(execute(self, statement))
        return await execute(self, statement)

    async def _send_and_explode(call: Any) -> None:
        sending = asyncio.ensure_future(call)
        await asyncio.sleep(0)
        assert not sending.done()
        bomb.explode()

    driver.fetch, driver.execute = crashing_fetch, crashing_execute

"""Closed lines are removed beside whoever writes, by several processes at once, and by one that is killed."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from allocation.domain.errors import UnknownLine
from allocation.domain.events import AllocationRequired, BatchCreated, Event, LineReturned, LineShipped
from allocation.service_layer.messages import Outcome
from allocation.service_layer.proving import retention
from allocation.service_layer.proving.retention import Retention, Tidied
from allocation.service_layer.writing.store import Changes
from tests.closing import KEEP, Shop, shop_at
from tests.lives import BEGIN
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SKU = "LAMP"
LINES = 7
TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 3)
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)


async def shipped_long_ago(shop: Shop, lines: int = LINES) -> None:
    await shop.send(BatchCreated("b1", SKU, 1_000))
    for number in range(lines):
        await shop.send(AllocationRequired(f"o{number}", SKU, 2), LineShipped(f"o{number}", SKU))
    await shop.pass_days(31)


def test_who_changes_a_line_that_goes_meanwhile_is_handled_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shipped_long_ago(shop)
            write = held_back(shop.store.write)
            monkeypatch.setattr(shop.store, "write", write)
            answer = asyncio.create_task(shop.send(LineReturned("o1", SKU)))
            await write.begun.wait()
            assert (await shop.tidy()).lines == LINES
            write.go_on.set()
            [refused] = await answer
            assert isinstance(refused, UnknownLine)
            assert await shop.differences() == []

    asyncio.run(play())


def test_who_changes_other_lines_does_not_notice(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its product is in memory, and what it knows of it is right still."""

    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shipped_long_ago(shop)
            await shop.send(AllocationRequired("warm", SKU, 1))
            assert (await shop.tidy()).lines == LINES
            read = held_back(shop.store.run)
            monkeypatch.setattr(shop.store, "run", read)  # which would be what is done after a conflict
            [allocated] = await shop.send(AllocationRequired("new", SKU, 1))
            assert isinstance(allocated, Outcome)
            assert not read.begun.is_set()
            assert await shop.differences() == []

    asyncio.run(play())


class held_back:  # noqa: N801 - used as a function
    """A call that waits until it may go on."""

    def __init__(self, call: Callable[..., Awaitable[None]]) -> None:
        self._call = call
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, *arguments: Changes) -> None:
        self.begun.set()
        await self.go_on.wait()
        await self._call(*arguments)


def test_two_at_once_remove_each_line_once(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as one, shop_at(database_url, lambda: one.now) as other:
            await shipped_long_ago(one, 20)
            both = await asyncio.gather(one.tidy(), other.tidy())
            assert sum(each.lines for each in both) == 20
            assert await one.lines() == []
            assert await one.differences() == []

    asyncio.run(play())


@pytest.mark.parametrize("seed", range(3))
def test_beside_writers_the_books_are_right_at_any_moment(database_url: str, seed: int) -> None:
    """Two processes write, ship, return and remove at once, while the books are audited again and again."""
    now = BEGIN

    def clock() -> datetime:
        return now

    async def write(shop: Shop, name: str, dice: random.Random) -> None:
        nonlocal now
        for number in range(60):
            now += timedelta(days=4)
            old = f"{name}{dice.randrange(number + 1)}"
            events: list[Event] = [
                AllocationRequired(f"{name}{number}", SKU, dice.randint(1, 3)),
                LineShipped(f"{name}{dice.randrange(number + 1)}", SKU),
                LineReturned(old, SKU, 1, dice.random() < 0.5),
                AllocationRequired(old, SKU, 1),
            ]
            for event in events:
                await shop.send(event)

    async def tidy(shop: Shop, done: asyncio.Event) -> Tidied:
        total = Tidied()
        while not done.is_set():
            total.add(await shop.tidy())
            assert await shop.differences() == []
        return total

    async def play() -> int:
        done = asyncio.Event()
        dice = random.Random(seed)
        async with shop_at(database_url, clock) as one, shop_at(database_url, clock) as other:
            await one.send(BatchCreated("b1", SKU, 1_000))
            tidying = [asyncio.create_task(tidy(shop, done)) for shop in (one, other)]
            await asyncio.gather(write(one, "a", dice), write(other, "b", dice))
            done.set()
            total = await asyncio.gather(*tidying, one.tidy())
            assert await one.differences() == []
            return sum(each.lines for each in total)

    assert asyncio.run(play()) > 10


KILLED = """
import asyncio, os, signal, sys
from datetime import datetime, timedelta
from sqlalchemy import make_url
from allocation.adapters.closed_lines import SqlClosedLines
from allocation.adapters.connection import Statements
from allocation.service_layer.proving import retention

url, moment, left = make_url(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), int(sys.argv[3])
retention.BATCH_SIZE, do = 3, Statements.do

def die_in_the_end(self, statement, **values):
    global left
    done = do(self, statement, **values)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

Statements.do = die_in_the_end
asyncio.run(retention.Retention(SqlClosedLines(url), None, lambda: moment).tidy(timedelta(days=30)))
"""
STATEMENTS = 8  # that change something, for each batch of lines


@pytest.mark.parametrize(("statements", "left"), [(1, 7), (5, 7), (STATEMENTS, 7), (STATEMENTS + 2, 4), (20, 1)])
def test_who_is_killed_has_removed_whole_batches(database_url: str, statements: int, left: int) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shipped_long_ago(shop)
            url = make_url(database_url).render_as_string(hide_password=False)
            command = [sys.executable, "-c", KILLED, url, shop.now.isoformat(), str(statements)]
            killed = await asyncio.to_thread(subprocess.run, command, timeout=TIMEOUT_S, check=False, cwd=ROOT)
            assert killed.returncode == -signal.SIGKILL
            assert len(await shop.lines()) == left
            assert await shop.differences() == []
            assert (await shop.tidy()).lines == left
            assert await shop.differences() == []

    asyncio.run(play())


def test_it_looks_by_itself_now_and_then(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOK_INTERVAL_S", 0.01)

    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shipped_long_ago(shop)
            shop.retention.start()

            async def all_gone() -> bool:
                return not await shop.lines()

            await until(all_gone)
            assert await shop.differences() == []

    asyncio.run(play())


def test_unless_days_are_named_it_does_not_look(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOK_INTERVAL_S", 0.0)

    async def play() -> None:
        async with shop_at(database_url) as shop:
            tasks = len(asyncio.all_tasks())
            Retention(shop.retention._closed_lines, None).start()
            assert len(asyncio.all_tasks()) == tasks
            Retention(shop.retention._closed_lines, KEEP).start()
            assert len(asyncio.all_tasks()) == tasks + 1

    asyncio.run(play())

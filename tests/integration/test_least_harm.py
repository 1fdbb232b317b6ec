"""The least harmful plan is the same whatever the machine does meanwhile, and a preview names it beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from allocation.adapters.least_harm import solve
from allocation.adapters.memory import MemoryStore
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    Event,
    RulesChanged,
)
from allocation.domain.harm import Place, Plan, Task, fewest, kinds_of
from allocation.domain.lines import OrderLine
from allocation.service_layer.previewing.preview import Previews
from allocation.service_layer.writing.writer import Writer
from tests.builders import message

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TODAY = NOW.date()
CASES = 24
PAUSE_S = 1.5  # longer than any limit of the solver in seconds ever was
DEADLINE_S = 60.0
SOLVE_IN_ANOTHER_PROCESS = """
import sys
from tests.integration.test_least_harm import hard_task, solve
import highspy
print("ready", flush=True)
print(solve(hard_task()))
"""


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


def hard_task() -> Task:
    """One that the solver is busy with for a while, and that it does not finish within its limits."""
    dice = random.Random(1)
    lines = [
        OrderLine(
            str(number), "SOFA", dice.randint(1, 60), need_by=day(dice.randint(0, 40)), priority=dice.randint(0, 9)
        )
        for number in range(120)
    ]
    missing = sum(line.qty for line in lines) // 2
    places = [Place(f"b{number}", dice.randint(40, 160), day(dice.randint(0, 60))) for number in range(7)]
    leaving = fewest(lines, missing)
    assert leaving is not None
    return Task(kinds_of(lines), places, leaving, missing, None)


@pytest.fixture(scope="module")
def plan() -> Plan:
    found = solve(hard_task())
    assert found is not None
    return found


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Programs that take all the time of all processors."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for each in burners:
            each.kill()
            each.wait()


def test_a_plan_is_the_same_beside_a_busy_machine(plan: Plan) -> None:
    with busy_machine():
        assert solve(hard_task()) == plan


def test_a_plan_is_the_same_when_the_process_is_held_up_meanwhile(plan: Plan) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SOLVE_IN_ANOTHER_PROCESS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        assert process.poll() is None, "it was finished before it could be held up"
        process.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate(timeout=DEADLINE_S)
    assert told == f"{plan}\n"


def stocked(dice: random.Random) -> list[Event]:
    """A product by the least harm, with many lines on one batch and others that have some room."""
    orders = [
        AllocationRequired(
            f"o{number}",
            "SOFA",
            dice.randint(1, 30),
            need_by=dice.choice((None, day(dice.randint(0, 40)))),
            priority=dice.randint(0, 9),
        )
        for number in range(dice.randint(5, 60))
    ]
    total = sum(order.qty for order in orders)
    others = [
        BatchCreated(f"b{number}", "SOFA", dice.randint(1, max(1, total // 6)), day(dice.randint(6, 60)))
        for number in range(dice.randint(0, 8))
    ]
    rules = RulesChanged("SOFA", least_harm=True, most_moved=dice.choice((None, None, 5)))
    return [BatchCreated("changed", "SOFA", total, day(5)), rules, *orders, *others]


def trouble(dice: random.Random, total: int) -> Event:
    if dice.random() < 0.5:
        return BatchQuantityChanged("changed", dice.randint(0, total))
    return BatchEtaChanged("changed", day(dice.randint(6, 60)))


async def previewed_and_done(seed: int) -> tuple[object, object]:
    dice = random.Random(seed)
    store = MemoryStore()
    writer = Writer(store, clock=lambda: NOW, solve=solve)
    previews = Previews(lambda: store, clock=lambda: NOW, solve=solve)
    writer.start()
    beginning = stocked(dice)
    for event in beginning:
        await writer.handle(message(event))
    assert isinstance(beginning[0], BatchCreated)
    change = message(trouble(dice, beginning[0].qty))
    preview = await previews.preview([change])
    foreseen = stands(store) | {line.orderid: line.end for line in preview.lines}
    outcome = await writer.handle(change)
    previews.close()
    await writer.close()
    return (preview.outcomes, foreseen), ([outcome], stands(store))


def stands(store: MemoryStore) -> dict[str, str | None]:
    return {orderid: line.batchref for (orderid, _), line in store.tables.lines.items()}


def test_a_change_does_what_its_preview_said_beside_a_busy_machine() -> None:
    with busy_machine():
        for seed in range(CASES):
            previewed, done = asyncio.run(previewed_and_done(seed))
            assert previewed == done, f"seed {seed}"

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

import httpx
import pytest
import structlog

from allocation.adapters.least_harm import solve
from allocation.adapters.memory import MemoryStore
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    Deallocated,
    Event,
    RulesChanged,
)
from allocation.domain.harm import Place, Plan, Task, fewest, kinds_of
from allocation.domain.lines import OrderLine
from allocation.entrypoints.http.app import create_app
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


@pytest.fixture
def without_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)  # so that importing it fails, and looking for it finds nothing


@pytest.mark.usefixtures("without_solver")
def test_without_the_solver_the_rule_is_refused_and_the_cure_named(sqlite_url: str) -> None:
    async def ask() -> list[httpx.Response]:
        service = bootstrap(Settings(database_url=sqlite_url))
        transport = httpx.ASGITransport(create_app(service))
        async with service, httpx.AsyncClient(transport=transport, base_url="http://allocation") as client:
            await client.post("/add_batch", json={"ref": "b1", "sku": "SOFA", "qty": 10})
            with_it = {"sku": "SOFA", "safety_stock": 2, "least_harm": True}
            refused = [await client.post(path, json=with_it) for path in ("/change_rules", "/preview/change_rules")]
            return [*refused, await client.post("/change_rules", json=with_it | {"least_harm": False})]

    refused, previewed, taken = asyncio.run(ask())
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/solver-missing")
    assert refused.json()["message"] == "least_harm cannot be true for SOFA: the solver is not installed"
    assert "pip install 'allocation[least-harm]'" in refused.json()["detail"]
    assert "the solver is not installed" in previewed.text
    assert taken.status_code == 201


def test_a_product_that_has_the_rule_from_before_loses_its_newest_lines_and_the_log_says_why_once(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost_by(*sent: Event) -> list[list[str]]:
        async with bootstrap(Settings(database_url=sqlite_url)) as service:
            raised = [(await service.writer.handle(message(event))).raised for event in sent]
            return [[each.orderid for each in events if isinstance(each, Deallocated)] for events in raised]

    orders = [AllocationRequired("large", "SOFA", 10), *[AllocationRequired(each, "SOFA", 1) for each in "abc"]]
    rules = RulesChanged("SOFA", least_harm=True)
    asyncio.run(lost_by(BatchCreated("cut", "SOFA", 13), BatchCreated("other", "SOFA", 20, day(90)), rules, *orders))
    monkeypatch.setitem(sys.modules, "highspy", None)
    with structlog.testing.capture_logs() as log:
        lost = asyncio.run(lost_by(BatchQuantityChanged("cut", 11), BatchQuantityChanged("cut", 10)))
    assert lost == [["c", "b"], ["a"]], "with the solver, only the large one would have moved"
    assert [line["event"] for line in log if "least_harm" in line["event"]] == [
        "least_harm is ignored: its solver is not installed"
    ]

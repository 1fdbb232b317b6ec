"""Two processes work on one product at once: nothing is sold twice, nothing is lost, and both get the same answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from sqlalchemy import make_url

from allocation.adapters.database import is_sqlite
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.adapters.turns import PostgresTurns
from allocation.domain.events import AllocationRequired, BatchCreated, BatchQuantityChanged, Event
from allocation.service_layer.messages import new_message
from allocation.service_layer.writing.store import Store
from allocation.service_layer.writing.writer import Writer
from tests.builders import Contents, contents

ROOT = Path(__file__).resolve().parents[2]
SKU = "HOT-PRODUCT"
PROCESSES = 2
CALLERS = 32
OWN_ORDERS = 400
SHARED_ORDERS = 200  # ordered in every process
BATCHES = 12
BATCH_SIZE = 80
COUNTS = 10
TIMEOUT_S = 60


def store_at(url: str) -> Store:
    parsed = make_url(url)
    return SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)


def quantity(orderid: str) -> int:
    """The same in every process: the last digit and one."""
    return int(orderid[-1]) % 3 + 1


def events_of(number: int) -> list[Event]:
    """What one process is told, in an order of its own: lines, the same lines as the others, and counts of batches."""
    orderids = [f"own-{number}-{n}" for n in range(OWN_ORDERS)] + [f"shared-{n}" for n in range(SHARED_ORDERS)]
    lines: list[Event] = [AllocationRequired(orderid, SKU, quantity(orderid)) for orderid in orderids]
    counted = range(number, BATCHES, PROCESSES)
    counts: list[Event] = [BatchQuantityChanged(f"b{n}", BATCH_SIZE // 2 + n) for n in counted for _ in range(COUNTS)]
    random.Random(number).shuffle(lines)
    return [*lines[:100], *random.Random(number).sample([*lines[100:], *counts], len(lines) + len(counts) - 100)]


async def hammer(url: str, number: int) -> None:
    """Run by each process: all its callers at once, each asking again as soon as it was answered."""
    store = store_at(url)
    turns = None if is_sqlite(make_url(url)) else PostgresTurns(make_url(url))
    writer = Writer(store, turns=turns)
    writer.start()
    left = iter(events_of(number))
    answers: list[tuple[str, str | None]] = []

    async def call() -> None:
        for event in left:
            outcome = await writer.handle(new_message(event, f"process {number}"))
            if isinstance(event, AllocationRequired):
                answers.append((event.orderid, outcome.result))

    await asyncio.gather(*[call() for _ in range(CALLERS)])
    await writer.close()
    if turns is not None:
        await turns.close()
    await store.close()
    sys.stdout.write(json.dumps(answers))


def test_two_processes_on_one_product_never_oversell_and_lose_nothing(database_url: str) -> None:
    asyncio.run(buy_batches(database_url))
    answers = run_processes(database_url)
    kept = asyncio.run(contents(make_url(database_url)))
    check_no_oversell(kept)
    check_nothing_lost(kept, answers)
    check_ledger_tells_the_same(kept)


async def buy_batches(url: str) -> None:
    store = store_at(url)
    writer = Writer(store)
    writer.start()
    for n in range(BATCHES):
        await writer.handle(new_message(BatchCreated(f"b{n}", SKU, BATCH_SIZE), "test"))
    await writer.close()
    await store.close()


def run_processes(url: str) -> list[list[tuple[str, str | None]]]:
    program = "import asyncio, sys; from tests.integration.test_two_processes import hammer;"
    program += "asyncio.run(hammer(sys.argv[1], int(sys.argv[2])))"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url, str(number)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for number in range(PROCESSES)
    ]
    printed = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    return [[tuple(answer) for answer in json.loads(text)] for text in printed]


def check_no_oversell(kept: Contents) -> None:
    held: Counter[str] = Counter()
    for _, _, qty, batchref, *_ in kept.lines:
        if batchref is not None:
            held[batchref] += qty
    for ref, _, _, purchased, allocated, *_ in kept.batches:
        assert held[ref] == allocated <= purchased
    room = max(row[3] - row[4] for row in kept.batches)
    waiting = [qty for _, _, qty, batchref, *_ in kept.lines if batchref is None]
    assert waiting, "the test must sell out"
    assert min(waiting) > room
    assert kept.products[0][2] == len(waiting)


def check_nothing_lost(kept: Contents, answers: list[list[tuple[str, str | None]]]) -> None:
    asked = [orderid for process in answers for orderid, _ in process]
    assert len(asked) == PROCESSES * (OWN_ORDERS + SHARED_ORDERS)
    assert {row[0]: row[2] for row in kept.lines} == {orderid: quantity(orderid) for orderid in asked}
    positions = [row[4] for row in kept.lines] + [row[5] for row in kept.batches]
    assert len(positions) == len(set(positions))
    received = Counter(row[3] for row in kept.ledger if row[1] == 0)
    counts = BATCHES * COUNTS
    assert received == {"BatchCreated": BATCHES, "AllocationRequired": len(asked), "BatchQuantityChanged": counts}
    assert {row[8] for row in kept.ledger} == {"test", "process 0", "process 1"}


def check_ledger_tells_the_same(kept: Contents) -> None:
    """Played again from the first row, the facts lead to where every line stands."""
    stands: dict[str, str | None] = {}
    sums: dict[str, int] = defaultdict(int)
    for kind, body in ((row[3], json.loads(row[6])) for row in kept.ledger):
        match kind:
            case "Allocated":
                assert stands.get(body["orderid"]) is None
                stands[body["orderid"]] = body["batchref"]
                sums[body["batchref"]] += body["qty"]
            case "Deallocated":
                assert stands[body["orderid"]] == body["batchref"]
                stands[body["orderid"]] = None
                sums[body["batchref"]] -= body["qty"]
            case "Backordered":
                assert stands.setdefault(body["orderid"], None) is None
    assert stands == {row[0]: row[3] for row in kept.lines}
    assert sums == {row[0]: row[4] for row in kept.batches}
    for id_, cascade in itertools.groupby(sorted(row[:2] for row in kept.ledger), key=lambda row: row[0]):
        steps = [step for _, step in cascade]
        assert steps == list(range(len(steps))), id_

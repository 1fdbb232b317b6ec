"""One round: a load, an attack on whatever serves it, and then what is stored, read from outside and checked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.e2e.program import run_program
from tests.torture.arena import Attack, MakeArena, Tidier
from tests.torture.checker import check
from tests.torture.history import Batch, Json, Line, Stored
from tests.torture.load import Load
from tests.torture.tidier import tidy_once

PAGE = 1_000
READ_TIMEOUT_S = 60.0
LOOKED_UP = 100  # orders that are also asked for one by one


class Result(NamedTuple):
    """How a round went: what was done, and the faults by kind, of which there must be none."""

    counts: Mapping[str, int]
    faults: Mapping[str, Sequence[str]]

    @property
    def found(self) -> list[str]:
        return [f"{kind}: {fault}" for kind, faults in self.faults.items() for fault in faults]


async def play(arena_of: MakeArena, attack: Attack, later: Attack, folder: Path, seed: int) -> Result:
    """One round: a load for as long as two attacks go on, and what it takes to end it.

    During the later one, what was closed before it is removed.
    """
    async with arena_of(folder, seed) as arena:
        load = Load(arena.ports, seed)
        await load.start()
        await attack(arena)
        await load.stop()
        earlier = await asyncio.to_thread(_read_events, arena.ports[0])
        arena.tidier = Tidier(arena.behind, folder / "tidier.log")
        load.go_on("b")
        await later(arena)
        await load.stop()
        arena.tidier.kill()
        await tidy_once(arena.database_url, arena.tidier.moment)
        stored = await asyncio.to_thread(_read, arena.ports[0], arena.database_url)
        stored.earlier = earlier
    faults = dict(check(load.history, stored))
    sent = Counter(
        sent=len(load.history),
        acknowledged=sum(message.acknowledged_at is not None for message in load.history),
        retried=sum(message.attempts > len(message.answers) for message in load.history),
        messages=len(stored.events),
        removed=len({event["id"] for event in earlier} - {event["id"] for event in stored.events}),
    )
    return Result(load.counts + arena.counts + sent, faults)


def _read_events(port: int) -> Sequence[Json]:
    """The whole ledger."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=READ_TIMEOUT_S) as client:
        return [event for page in _pages(client, "/events", "after") for event in page["events"]]


def _read(port: int, database_url: str) -> Stored:
    """All that is stored, as it is told over HTTP, and the verdict of `allocation verify`."""
    events = _read_events(port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=READ_TIMEOUT_S) as client:
        batches: list[Batch] = []
        lines: list[Line] = []
        for sku in [product["sku"] for page in _pages(client, "/products", "after") for product in page["products"]]:
            for page in _pages(client, f"/products/{sku}", "batches_after"):
                for each in page["batches"]:
                    held = each["allocated_quantity"] + each["shipped_quantity"]
                    batches.append(Batch(each["batchref"], sku, each["purchased_quantity"], held))
                    lines += _lines_of(client, each["batchref"], sku)
            for page in _pages(client, f"/products/{sku}", "waiting_after"):
                lines += [Line(each["orderid"], sku, each["qty"], None, each["state"]) for each in page["waiting"]]
        orders = [line for line in lines if line.state != "held"]
        looked_up = [_looked_up(client, line) for line in orders[:: max(1, len(orders) // LOOKED_UP)]]
    done = run_program("verify", "--json", database=database_url)
    different = json.loads(done.output)["left"] + sum(not same for same in looked_up)
    return Stored(events, lines, batches, different)


def _lines_of(client: httpx.Client, ref: str, sku: str) -> Iterator[Line]:
    for page in _pages(client, f"/batches/{ref}", "before"):
        yield from (Line(each["orderid"], sku, each["qty"], ref, each["state"]) for each in page["lines"])


def _looked_up(client: httpx.Client, line: Line) -> bool:
    """Whether the order itself tells the same of its line."""
    told = client.get(f"/allocations/{line.orderid}").json()
    return bool(
        [(each["sku"], each["qty"], each["batchref"]) for each in told] == [(line.sku, line.qty, line.batchref)]
    )


def _pages(client: httpx.Client, path: str, cursor: str) -> Iterator[Json]:
    parameters: dict[str, Any] = {"limit": PAGE}
    while True:
        response = client.get(path, params=parameters)
        assert response.status_code == httpx.codes.OK, response.text
        page = response.json()
        yield page
        if page[f"next_{cursor}"] is None:
            return
        parameters[cursor] = page[f"next_{cursor}"]

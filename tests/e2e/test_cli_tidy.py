"""``allocation tidy`` as people run it, and what it leaves to be seen."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import make_url

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.events import AllocationRequired, BatchCreated, LineShipped
from allocation.entrypoints.http.app import create_app
from allocation.service_layer.proving import retention
from tests.builders import change, select
from tests.e2e.program import given, run
from tests.waiting import until

CLOSED = "SELECT orderid FROM order_lines WHERE closed IS NOT NULL"
LONG_AGO = (datetime.now(UTC) - timedelta(days=100)).isoformat()


@pytest.fixture
def shop(database_url: str) -> str:
    """Two lines that were shipped a hundred days ago, and one that was taken then and stands."""
    shipped = [LineShipped("o1", "LAMP"), LineShipped("o2", "LAMP")]
    given(database_url, BatchCreated("b1", "LAMP", 10), *(AllocationRequired(f"o{n}", "LAMP", 2) for n in (1, 2, 3)))
    given(database_url, *shipped, BatchCreated("b2", "RUG", 1))
    url = make_url(database_url)
    asyncio.run(change(url, f"UPDATE ledger SET recorded_at = '{LONG_AGO}'"))
    asyncio.run(change(url, f"UPDATE order_lines SET closed_at = '{LONG_AGO}' WHERE closed IS NOT NULL"))
    return database_url


def test_closed_lines_go_and_the_books_are_right(shop: str) -> None:
    would = run("tidy", "--older-than", "30d", "--dry-run", database=shop)
    assert (would.code, would.output, would.errors) == (0, "2 closed lines would be removed\n", "")
    assert run("tidy", "--older-than", "101d", database=shop).output == "0 closed lines and 0 messages removed\n"
    done = run("tidy", database=shop, ALLOCATION_KEEP_CLOSED_DAYS="99")
    assert (done.code, done.output, done.errors) == (0, "2 closed lines and 8 messages removed\n", "")
    verified = run("verify", database=shop)
    assert verified.code == 0
    assert verified.output.startswith("2 products, 2 batches and 1 lines against 3 messages in ")
    shown = json.loads(run("show", "b1", "--json", database=shop).output)["batch"]
    assert (shown["allocated_quantity"], shown["shipped_quantity"]) == (2, 4)
    assert run("show", "o1", database=shop).code == 3


def test_it_is_told_for_machines_too(shop: str) -> None:
    told = {"lines": 2, "messages": 0, "undelivered": 0, "doubted": 0, "dry_run": True}
    assert json.loads(run("tidy", "--older-than=30d", "--dry-run", "--json", database=shop).output) == told
    told |= {"messages": 8, "dry_run": False}
    assert json.loads(run("tidy", "--older-than=30d", "--json", database=shop).output) == told


def test_what_stays_is_told_with_the_reason(shop: str) -> None:
    url = make_url(shop)
    owed = (
        "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body, state)"
        " SELECT correlation_id, step, 'mail', sku, type, body, 'dead' FROM messages"
        " WHERE type = 'Shipped' AND orderid = 'o1'"
    )
    asyncio.run(change(url, owed))
    asyncio.run(change(url, "UPDATE order_lines SET qty = 1 WHERE orderid = 'o2'"))
    assert run("tidy", "--older-than=30d", database=shop).output.splitlines() == [
        "0 closed lines and 0 messages removed",
        "1 closed line kept: messages about them have deliveries left",
        "1 closed line kept: their messages do not lead to their state; see allocation verify",
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ([], {}, ["closed lines are never deleted by default", "--older-than 400d", "ALLOCATION_KEEP_CLOSED_DAYS"]),
        (["--older-than", "29d"], {}, ["--older-than is 29d", "Use 30d or more", "still recognised"]),
        (["--older-than", "long"], {}, ["older_than is 'long'", "a number and s, m, h or d"]),
        ([], {"ALLOCATION_KEEP_CLOSED_DAYS": "7"}, ["ALLOCATION_KEEP_CLOSED_DAYS is '7': use 30 or more"]),
    ],
)
def test_less_than_what_repeats_need_is_refused(
    shop: str, arguments: list[str], environment: dict[str, Any], words: list[str]
) -> None:
    done = run("tidy", *arguments, database=shop, **environment)
    assert done.code == 2
    assert all(word in done.errors for word in words), done.errors
    assert run("tidy", "--older-than=30d", "--dry-run", database=shop).output.startswith("2 ")


def test_a_service_that_is_told_how_long_removes_them_by_itself(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOK_INTERVAL_S", 0.01)
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    started = asyncio.Event()

    async def send(_: Any) -> None:
        started.set()

    async def all_gone() -> bool:
        return not await select(make_url(shop), CLOSED)

    async def serve() -> None:
        app = create_app(bootstrap(Settings(database_url=shop, keep_closed_days=30)))
        await told.put({"type": "lifespan.startup"})
        serving = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, told.get, send))
        await started.wait()
        await until(all_gone)
        await told.put({"type": "lifespan.shutdown"})
        await serving

    asyncio.run(serve())
    assert run("verify", database=shop).code == 0


def test_the_past_before_it_is_refused(shop: str) -> None:
    run("tidy", "--older-than=30d", database=shop)
    early = run("at", "2020-01-01T00:00Z", "show", "LAMP", database=shop)
    assert early.code == 3
    assert f"error: The history of LAMP starts at {LONG_AGO}" in early.errors
    assert "Ask for that moment or a later one." in early.errors
    now = json.loads(run("at", datetime.now(UTC).isoformat(), "show", "LAMP", "--json", database=shop).output)
    assert now["product"]["allocated_quantity"] == 2

"""What a running service does by its settings, and by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import AllocationRequired, BatchCreated
from allocation.service_layer.writing.writer import Writer
from tests.builders import message, new_database
from tests.services import StartServer
from tests.waiting import wait_until


def test_holds_end_by_themselves(start_server: StartServer) -> None:
    server = start_server()
    server.add_batch("b1", "LAMP", 10)
    soon = datetime.now(UTC) + timedelta(seconds=1)
    asked = {"holdid": "cart", "sku": "LAMP", "qty": 10, "expires_at": soon.isoformat()}
    assert server.post("/hold_stock", asked).status_code == 201
    wait_until(lambda: server.get("/products/LAMP")["available_quantity"])
    last = server.get("/events", orderid="cart")["events"][-1]
    assert (last["type"], last["body"]["how"], last["actor"]) == ("HoldEnded", "expired", "clock")
    assert server.errors() == []


def test_a_day_is_that_of_the_time_zone(start_server: StartServer) -> None:
    """At any moment, two days are a day apart at the ends of the world."""
    today = {}
    for zone in ("Etc/GMT+12", "Pacific/Kiritimati"):
        server = start_server(ALLOCATION_TIME_ZONE=zone)
        server.add_batch("b1", "LAMP", 10)
        [now] = server.get("/availability/LAMP")["timeline"]
        told = server.post("/preview/allocate", {"orderid": "o1", "sku": "LAMP", "qty": 1}).json()
        assert told["lines"][0]["after"] == now["date"]
        today[zone] = date.fromisoformat(now["date"])
    west, east = today.values()
    assert timedelta(days=1) <= east - west <= timedelta(days=2)


def test_an_overdue_delivery_is_promised_for_as_many_days_later_as_the_settings_say(start_server: StartServer) -> None:
    today = datetime.now(UTC).date()
    server = start_server(ALLOCATION_OVERDUE_DAYS="3")
    server.add_batch("b1", "LAMP", 10, (today - timedelta(days=9)).isoformat())
    asked = server.get("/availability/LAMP", qty=1, by=today.isoformat())
    assert asked["timeline"][-1]["date"] == asked["earliest"] >= (today + timedelta(days=3)).isoformat()
    assert asked["can_promise"] is False
    body = {"orderid": "o1", "sku": "LAMP", "qty": 1, "need_by": (today + timedelta(days=1)).isoformat()}
    assert server.post("/allocate", body).status_code == 201
    [line] = server.get("/allocations/o1")
    assert line["late_days"] >= 2
    assert line["promised"] == asked["earliest"]


def test_days_that_began_while_no_server_ran_are_made_up_for(start_server: StartServer, tmp_path: Path) -> None:
    url = new_database(f"sqlite:///{tmp_path / 'old.db'}")
    long_ago = datetime.now(UTC) - timedelta(days=20)
    day = long_ago.date() + timedelta(days=5)

    async def fill() -> None:
        store = SqliteStore(url)
        writer = Writer(store, clock=lambda: long_ago)
        writer.start()
        await writer.handle(message(BatchCreated("milk", "MILK", 5, expires_on=day)))
        await writer.handle(message(AllocationRequired("m1", "MILK", 5)))
        await writer.handle(message(BatchCreated("ship", "LAMP", 5, day)))
        await writer.handle(message(AllocationRequired("o1", "LAMP", 3)))
        await writer.handle(message(AllocationRequired("o2", "LAMP", 3, day)))
        await writer.close()
        await store.close()

    asyncio.run(fill())
    database = str(url)
    for _ in range(2):
        server = start_server(ALLOCATION_DATABASE_URL=database)
        wait_until(lambda: server.get("/events", orderid="o2")["events"][-1]["type"] == "LineBecameLate")  # noqa: B023
        told = server.get("/events")["events"]
        by_the_clock = [each["type"] for each in told if each["actor"] == "clock" and each["causation_id"] is None]
        assert by_the_clock == ["BatchExpired", "DeliveryOverdue", "LineBecameLate"]
        assert server.get("/allocations/m1")[0]["batchref"] is None
        assert server.errors() == []
        server.stop()


def test_products_without_rules_of_their_own_go_by_the_strategy_of_the_settings(start_server: StartServer) -> None:
    server = start_server(ALLOCATION_STRATEGY="first-expired")
    for sku in ("SOUP", "BREAD"):
        server.add_batch(f"{sku}-keeps", sku, 10)
        body = {"ref": f"{sku}-spoils", "sku": sku, "qty": 10, "eta": None, "expires_on": "2035-01-31"}
        assert server.post("/add_batch", body).status_code == 201
    assert server.post("/change_rules", {"sku": "BREAD", "strategy": "warehouse-first"}).status_code == 201
    assert server.allocate("o1", "SOUP", 1) == "SOUP-spoils"
    assert server.allocate("o1", "BREAD", 1) == "BREAD-keeps"
    told = server.post("/preview/allocate", {"orderid": "o2", "sku": "SOUP", "qty": 1}).json()
    assert told["answer"] == {"batchref": "SOUP-spoils"}

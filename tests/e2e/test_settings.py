"""What a running service does by its settings, and by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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


def test_products_without_rules_of_their_own_go_by_the_strategy_of_the_settings(start_server: StartServer) -> None:
    server = start_server(ALLOCATION_STRATEGY="first-expired")
    for sku in ("SOUP", "BREAD"):
        server.add_batch(f"{sku}-keeps", sku, 10)
        body = {"ref": f"{sku}-spoils", "sku": sku, "qty": 10, "eta": None, "expires_on": "2099-01-31"}
        assert server.post("/add_batch", body).status_code == 201
    assert server.post("/change_rules", {"sku": "BREAD", "strategy": "warehouse-first"}).status_code == 201
    assert server.allocate("o1", "SOUP", 1) == "SOUP-spoils"
    assert server.allocate("o1", "BREAD", 1) == "BREAD-keeps"
    told = server.post("/preview/allocate", {"orderid": "o2", "sku": "SOUP", "qty": 1}).json()
    assert told["answer"] == {"batchref": "SOUP-spoils"}

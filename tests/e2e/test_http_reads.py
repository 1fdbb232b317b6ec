"""What can be read over HTTP, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.services import Server, unique

TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def mattress(server: Server) -> dict[str, str]:
    """A product with a batch in the warehouse, two inbound, a line on each but the last, and two that wait."""
    names = {name: unique(name) for name in ("sku", "later", "sooner", "warehouse", "o1", "o2", "o3", "o4")}
    sku = names["sku"]
    server.add_batch(names["later"], sku, 3, "2027-02-01")
    server.add_batch(names["sooner"], sku, 20, "2027-01-01")
    server.add_batch(names["warehouse"], sku, 10)
    for orderid, qty in (("o1", 10), ("o2", 20), ("o3", 30), ("o4", 40)):
        server.allocate(names[orderid], sku, qty)
    return names


def figures(*, on_hand: int, incoming: int) -> dict[str, int]:
    """The figures of stock that is neither blocked, overdue nor shipped."""
    others = dict.fromkeys(("blocked_quantity", "overdue_quantity", "shipped_quantity"), 0)
    return {"on_hand_quantity": on_hand, "incoming_quantity": incoming, **others}


def test_a_product_has_its_batches_by_preference_and_its_waiting_lines_by_age(
    server: Server, mattress: dict[str, str]
) -> None:
    def batch(name: str, eta: str | None, purchased: int, allocated: int) -> dict[str, Any]:
        return figures(on_hand=0 if eta else purchased, incoming=purchased if eta else 0) | {
            "batchref": mattress[name],
            "eta": eta,
            "purchased_quantity": purchased,
            "allocated_quantity": allocated,
            "available_quantity": purchased - allocated,
        }

    found = server.get(f"/products/{mattress['sku']}")
    positions = [line.pop("position") for line in found["waiting"]]
    assert positions == sorted(positions)
    assert found == {
        "sku": mattress["sku"],
        "purchased_quantity": 33,
        "allocated_quantity": 30,
        "available_quantity": 3,
        **figures(on_hand=10, incoming=23),
        "waiting_lines": 2,
        "retired": False,
        "batches": [
            batch("warehouse", None, 10, 10),
            batch("sooner", "2027-01-01", 20, 20),
            batch("later", "2027-02-01", 3, 0),
        ],
        "next_batches_after": None,
        "waiting": [
            {"orderid": mattress["o3"], "qty": 30, "state": "waiting"},
            {"orderid": mattress["o4"], "qty": 40, "state": "waiting"},
        ],
        "next_waiting_after": None,
    }


def test_the_batches_and_waiting_lines_of_a_product_come_in_pages(server: Server, mattress: dict[str, str]) -> None:
    path = f"/products/{mattress['sku']}"
    batches = [page["batches"] for page in server.pages(path, "batches_after", limit=1)]
    waiting = [page["waiting"] for page in server.pages(path, "waiting_after", limit=1)]
    assert [batch["batchref"] for (batch,) in batches] == [mattress[name] for name in ("warehouse", "sooner", "later")]
    assert [line["orderid"] for (line,) in waiting] == [mattress["o3"], mattress["o4"]]


def test_all_products_come_in_pages(server: Server, mattress: dict[str, str]) -> None:
    server.add_batch(unique("b"), unique("sku"), 1)
    found = [product for page in server.pages("/products", "after", limit=1) for product in page["products"]]
    by_sku = {product["sku"]: product for product in found}
    assert len(by_sku) == len(found) >= 2
    assert by_sku[mattress["sku"]] == {
        "sku": mattress["sku"],
        "purchased_quantity": 33,
        "allocated_quantity": 30,
        "available_quantity": 3,
        **figures(on_hand=10, incoming=23),
        "waiting_lines": 2,
        "retired": False,
    }
    assert server.get("/products", limit=1_000) == {"products": found, "next_after": None}


def test_a_batch_has_its_lines_newest_first_in_pages(server: Server) -> None:
    sku, ref = unique("sku"), unique("b")
    orders = [unique("o") for _ in range(5)]
    server.add_batch(ref, sku, 5)
    for orderid in orders:
        server.allocate(orderid, sku, 1)
    page = server.get(f"/batches/{ref}", limit=2)
    assert (page["sku"], page["batchref"], page["eta"]) == (sku, ref, None)
    assert (page["purchased_quantity"], page["allocated_quantity"], page["available_quantity"]) == (5, 5, 0)
    pages = [page["lines"] for page in server.pages(f"/batches/{ref}", "before", limit=2)]
    assert [len(lines) for lines in pages] == [2, 2, 1]
    found = [(line["orderid"], line["qty"]) for lines in pages for line in lines]
    assert found == [(orderid, 1) for orderid in reversed(orders)]


def test_an_order_has_all_its_lines_by_sku_and_a_link_to_the_next_page(server: Server) -> None:
    orderid, skus = unique("an order/ü"), sorted(unique("sku/ü") for _ in range(3))
    for sku in skus:
        server.add_batch(unique("b"), sku, 1)
        server.allocate(orderid, sku, 2)
    path = f"/allocations/{quote(orderid, safe='')}"
    assert server.get(path) == [{"sku": sku, "qty": 2, "batchref": None, "state": "waiting"} for sku in skus]
    found = []
    response = server.client.get(path, params={"limit": 2})
    while "next" in response.links:
        assert response.status_code == 200
        found += response.json()
        response = server.client.get(response.links["next"]["url"])
    assert [line["sku"] for line in found + response.json()] == skus


def test_the_ledger_tells_what_each_message_set_off(server: Server) -> None:
    sku, ref, old, new, key = unique("sku"), unique("b"), unique("o"), unique("o"), unique("key")
    server.add_batch(ref, sku, 10)
    server.allocate(old, sku, 5)
    server.allocate(new, sku, 5)
    server.post("/change_batch_quantity", {"ref": ref, "qty": 5}, Idempotency_Key=key)
    events = server.get("/events", correlation_id=key)["events"]
    told = [(each["type"], each["id"], each["causation_id"]) for each in events]
    assert told == [
        ("BatchQuantityChanged", key, None),
        ("Deallocated", f"{key}~1", key),
        ("AllocationRequired", f"{key}~2", key),
        ("Backordered", f"{key}~3", f"{key}~2"),
        ("PromiseChanged", f"{key}~4", f"{key}~2"),
        ("OutOfStock", f"{key}~5", f"{key}~2"),
    ]
    assert {(each["correlation_id"], each["sku"], each["actor"]) for each in events} == {(key, sku, "http")}
    assert events[1]["body"] == {"orderid": new, "sku": sku, "qty": 5, "batchref": ref}
    assert [server.get(f"/events/{each['id']}") for each in events] == events


def test_events_are_found_by_sku_and_order_page_by_page(server: Server) -> None:
    sku, orderid = unique("sku"), unique("o")
    server.add_batch(unique("b"), sku, 10)
    server.allocate(orderid, sku, 1)
    server.allocate(unique("o"), sku, 1)
    types = [each["type"] for each in server.get("/events", sku=sku)["events"]]
    assert types == ["BatchCreated", "AllocationRequired", "Allocated", "AllocationRequired", "Allocated"]
    pages = server.pages("/events", "after", sku=sku, limit=1)
    told = [[each["type"] for each in page["events"]] for page in pages]
    assert told == [["BatchCreated"], *2 * [["AllocationRequired", "Allocated"]]]
    of_order = server.get("/events", sku=sku, orderid=orderid)["events"]
    assert [(each["type"], each["body"]["orderid"]) for each in of_order] == [
        ("AllocationRequired", orderid),
        ("Allocated", orderid),
    ]


def test_times_are_iso_8601_in_utc(server: Server) -> None:
    sku = unique("sku")
    server.add_batch(unique("b"), sku, 10)
    recorded_at = server.get("/events", sku=sku)["events"][0]["recorded_at"]
    assert recorded_at.endswith("Z")
    moment = datetime.fromisoformat(recorded_at)
    assert abs(datetime.now(moment.tzinfo) - moment) < timedelta(minutes=1)


def test_names_with_any_character_are_found_in_paths(server: Server) -> None:
    for name in ("a/b", "a//b/", "/", "..", ".", "a b", "ü/鍵", "?#%2F&+'\"<b>", "x" * 243, "100%", "a~1"):
        sku = unique(name)
        ref = unique(name)
        server.add_batch(ref, sku, 7)
        assert server.get(f"/products/{quote(sku, safe='')}")["sku"] == sku
        assert server.get(f"/batches/{quote(ref, safe='')}")["batchref"] == ref
        assert server.get("/products", after=sku[:-1], limit=1)["products"][0]["sku"] <= sku


@pytest.mark.parametrize("path", ["/products", "/events", "/healthz", "/readyz", "/docs", "/openapi.json"])
def test_head_tells_what_get_would(server: Server, path: str) -> None:
    head, get = server.client.head(path), server.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))


def test_it_is_alive_and_ready(server: Server) -> None:
    assert server.get("/healthz") == {"status": "alive"}
    assert server.get("/readyz") == {"status": "ready"}


@pytest.fixture
def life(server: Server) -> dict[str, str]:
    """A product with a line in every state: in the warehouse until it expires, and due in March."""
    names = {name: unique(name) for name in ("sku", "home", "ship", "early", "late", "gone", "pinned", "cart", "back")}
    sku = names["sku"]

    def line(name: str, **more: Any) -> dict[str, Any]:
        return {"orderid": names[name], "sku": sku, **more}

    for path, body in [
        ("/add_batch", {"ref": names["home"], "sku": sku, "qty": 20, "expires_on": "2035-06-30", "location": "north"}),
        ("/add_batch", {"ref": names["ship"], "sku": sku, "qty": 20, "eta": "2035-03-01"}),
        ("/allocate", line("early", qty=5, need_by="2035-01-01", priority=3)),
        ("/allocate", line("gone", qty=4)),
        ("/allocate", line("pinned", qty=2)),
        ("/allocate", line("back", qty=1)),
        ("/allocate", line("late", qty=15, need_by="2035-02-01")),
        ("/ship_line", line("gone")),
        ("/ship_line", line("back")),
        ("/return_line", line("back")),
        ("/pin_line", line("pinned", batchref=names["ship"], reason="asked for")),
        ("/hold_stock", {"holdid": names["cart"], "sku": sku, "qty": 3, "expires_at": TOMORROW}),
        ("/change_rules", {"sku": sku, "safety_stock": 1}),
    ]:
        response = server.post(path, body)
        assert response.status_code == 201, response.text
    return names


def test_a_line_tells_what_it_is_and_when_its_stock_is_due(server: Server, life: dict[str, str]) -> None:
    home, ship = life["home"], life["ship"]
    expected: dict[str, dict[str, Any]] = {
        "early": {"qty": 5, "batchref": home, "state": "allocated", "need_by": "2035-01-01", "priority": 3},
        "gone": {"qty": 4, "batchref": home, "state": "shipped"},
        "back": {"qty": 1, "batchref": None, "state": "returned"},
        "pinned": {"qty": 2, "batchref": ship, "state": "pinned", "promised": "2035-03-01"},
        "cart": {"qty": 3, "batchref": home, "state": "held", "expires_at": TOMORROW},
        "late": {
            "qty": 15,
            "batchref": ship,
            "state": "allocated",
            "promised": "2035-03-01",
            "need_by": "2035-02-01",
            "late_days": 28,
            "late": True,
        },
    }
    for name, line in expected.items():
        assert server.get(f"/allocations/{life[name]}") == [{"sku": life["sku"], **line}]


def test_a_product_and_a_batch_tell_what_is_held_late_shipped_and_not_for_sale(
    server: Server, life: dict[str, str]
) -> None:
    product = server.get(f"/products/{life['sku']}")
    assert product["rules"] == {"strategy": "warehouse-first", "safety_stock": 1}
    assert (product["held_quantity"], product["late_lines"]) == (3, 1)
    batch = server.get(f"/batches/{life['home']}")
    told = {name: batch[name] for name in ("shipped_quantity", "on_hand_quantity", "location", "expires_on")}
    assert told == {"shipped_quantity": 4, "on_hand_quantity": 16, "location": "north", "expires_on": "2035-06-30"}
    assert [(each["orderid"], each["state"]) for each in batch["lines"]] == [
        (life["cart"], "held"),
        (life["gone"], "shipped"),
        (life["early"], "allocated"),
    ]
    server.post("/quarantine_batch", {"ref": life["home"], "reason": "damp", "keep_lines": True})
    assert server.get(f"/batches/{life['home']}")["quarantine"] == "damp"


def test_retired_products_are_listed_when_they_are_asked_for(server: Server) -> None:
    sku = unique("RETIRED")
    server.add_batch(unique("b"), sku, 1)
    assert server.post("/retire_product", {"sku": sku}).status_code == 201

    def listed(**parameters: str) -> list[bool]:
        pages = server.pages("/products", "after", **parameters)
        return [each["retired"] for page in pages for each in page["products"] if each["sku"] == sku]

    assert listed() == []
    assert listed(retired="false") == []
    assert listed(retired="true") == [True]
    assert server.get(f"/products/{sku}")["retired"] is True
    assert server.client.get("/products", params={"retired": "maybe"}).json()["message"] == "retired is 'maybe'"
    assert server.post("/reinstate_product", {"sku": sku}).status_code == 201
    assert listed() == [False]

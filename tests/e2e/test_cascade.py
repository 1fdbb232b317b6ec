"""The cascade of a message: a tree of causes, with the effects it still has to have."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from allocation.domain.events import AllocationRequired, BatchCreated
from tests.e2e.program import given, run
from tests.services import Server, unique
from tests.waiting import wait_until


def cut(server: Server, key: str) -> str:
    """A batch counted to nothing: one line moves, one waits."""
    sku, ref = unique("sku"), unique("b")
    server.add_batch(ref, sku, 10)
    server.add_batch(unique("b"), sku, 5, "2035-01-31")
    for qty in (5, 4):
        server.allocate(unique("o"), sku, qty)
    answer = server.post("/change_batch_quantity", {"ref": ref, "qty": 0}, Idempotency_Key=key)
    assert answer.status_code == 201
    return key


def test_a_cascade_is_a_tree_whichever_message_of_it_is_asked_for(server: Server) -> None:
    key = cut(server, unique("key/with/slashes"))
    found = wait_until(lambda: done_cascade(server, key))
    assert found is not None
    messages = found["messages"]
    assert (found["correlation_id"], found["next_after"]) == (key, None)
    known: set[str] = set()
    for each in messages:
        assert each["causation_id"] in known or (each["causation_id"] is None and not known)
        known.add(each["id"])
        assert (each["actor"], each["recorded_at"][-1]) == ("http", "Z")
    types = [each["type"] for each in messages]
    assert types[0] == "BatchQuantityChanged"
    assert sorted(types[1:]) == sorted(
        ["Deallocated", "AllocationRequired"] * 2 + ["Allocated", "Backordered", "OutOfStock"] + ["PromiseChanged"] * 2
    )
    for each in messages:
        assert server.get(f"/events/{quote(each['id'], safe='')}/cascade") == found
    assert pages(server, key) == messages


def done_cascade(server: Server, key: str) -> Any:
    """None until its effects are done: before that, each look may tell something else of them."""
    found = server.get(f"/events/{quote(key, safe='')}/cascade")
    owed = [delivery for each in found["messages"] for delivery in each["deliveries"]]
    return None if any(delivery["state"] == "pending" for delivery in owed) else found


def pages(server: Server, key: str) -> list[Any]:
    path = f"/events/{quote(key, safe='')}/cascade"
    return [each for page in server.pages(path, "after", limit=1) for each in page["messages"]]


def test_a_message_nobody_knows_has_no_cascade(server: Server) -> None:
    for id_ in ("unknown", "unknown~1", "%00"):
        assert server.client.get(f"/events/{id_}/cascade").status_code == 404
    assert server.client.post("/events/unknown/cascade").status_code == 405


def test_a_message_may_be_called_cascade(server: Server) -> None:
    server.post("/add_batch", {"ref": unique("b"), "sku": unique("s"), "qty": 1}, Idempotency_Key="a/cascade")
    assert server.get("/events/a%2Fcascade")["id"] == "a/cascade"


def test_the_command_line_draws_it_with_the_effects_that_are_owed(database_url: str) -> None:
    given(database_url, BatchCreated("b1", "LAMP", 3), AllocationRequired("anna", "LAMP", 5))
    told = json.loads(run("export", "ledger", "--format=jsonl", database=database_url).output.splitlines()[-1])
    done = run("cascade", told["id"], database=database_url)
    assert (done.code, done.errors) == (0, "")
    first, second, third, fourth = [line.rstrip() for line in done.output.splitlines()]
    assert first.startswith("AllocationRequired: orderid anna, sku LAMP, qty 5  (")
    assert second == "├── Backordered: orderid anna, sku LAMP, qty 5"
    assert third == "└── OutOfStock: sku LAMP"
    assert fourth == "    └── → send_out_of_stock_notification: pending"
    found = json.loads(run("cascade", told["id"], "--json", database=database_url).output)
    assert found["messages"][-1]["deliveries"] == [
        {"effect": "send_out_of_stock_notification", "state": "pending", "attempts": 0}
    ]
    assert run("cascade", "unknown", database=database_url).code == 3

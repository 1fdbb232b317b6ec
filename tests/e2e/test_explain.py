"""Explanations over HTTP and on the command line."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from urllib.parse import quote

import pytest

from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchQuarantined,
    LinePinned,
    RulesChanged,
)
from tests.e2e.program import given, run
from tests.services import Server, unique

BOTH = {"location": "south", "expires_on": "2035-06-30"}


def explain(server: Server, orderid: str, sku: str) -> Any:
    return server.get(f"/allocations/{quote(orderid, safe='')}/{quote(sku, safe='')}/explain")


def test_each_batch_tells_why_it_was_passed_over(server: Server) -> None:
    sku, orderid, other = unique("sku/ü"), unique("o/ü"), unique("o")
    full, damp, spoils, late, good = (unique(name) for name in ("full", "damp", "spoils", "late", "good"))
    for body in [
        {"ref": full, "qty": 5},
        {"ref": damp, "qty": 50},
        {"ref": spoils, "qty": 50, "expires_on": "2034-01-31"},
        {"ref": good, "qty": 50, "eta": "2035-01-15"},
        {"ref": late, "qty": 50, "eta": "2035-03-01"},
    ]:
        assert server.post("/add_batch", {**body, "sku": sku}).status_code == 201
    server.post("/quarantine_batch", {"ref": damp, "reason": "damp"})
    server.allocate(other, sku, 4)
    server.post("/allocate", {"orderid": orderid, "sku": sku, "qty": 3, "need_by": "2035-01-31"})
    found = explain(server, orderid, sku)
    assert [(each["batchref"], each["obstacle"], each["chosen"]) for each in found["considered"]] == [
        (full, "no room", False),
        (damp, "quarantined", False),
        (spoils, "expires too early", False),
        (good, None, True),
    ]
    assert found["considered"][0]["held_by"] == [{"orderid": other, "qty": 4, "state": "allocated"}]
    assert (found["rule"], found["rules"], found["promised"]) == ("warehouse-first", {}, "2035-01-15")
    assert [(each["type"], each["cause"] is None) for each in found["history"]] == [
        ("AllocationRequired", True),
        ("Allocated", False),
    ]
    assert found["as_of"] == found["decision"]["id"] == found["history"][-1]["id"]
    server.post("/quarantine_batch", {"ref": good, "reason": "recalled"})
    moved = explain(server, orderid, sku)
    assert [each["obstacle"] for each in moved["considered"]][-2:] == ["quarantined", "too late"]
    assert (moved["batchref"], moved["late_days"]) == (late, 29)
    assert moved["decision"]["first_cause"]["type"] == "BatchQuarantined"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (
            {"strategy": "preferred-location", "location": "south"},
            [
                {"location": "south", "expires_on": "2035-06-30"},
                {"location": "north"},
                {"expires_on": "2035-01-31"},
                {},
            ],
        ),
        (
            {"strategy": "first-expired"},
            [
                {"expires_on": "2035-01-31"},
                {"location": "south", "expires_on": "2035-06-30"},
                {"location": "north"},
                {},
            ],
        ),
    ],
)
def test_what_batches_are_ordered_by_can_be_read_off(server: Server, rules: Any, expected: list[Any]) -> None:
    sku, orderid = unique("sku"), unique("o")
    told: list[dict[str, str]] = [{"location": "north"}, {"expires_on": "2035-01-31"}, {}, BOTH]
    for each in told:
        assert server.post("/add_batch", {"ref": unique("b"), "sku": sku, "qty": 1, **each}).status_code == 201
    assert server.post("/change_rules", {"sku": sku, **rules}).status_code == 201
    server.allocate(orderid, sku, 2)
    considered = explain(server, orderid, sku)["considered"]
    names = ("location", "expires_on")
    assert [{name: each[name] for name in names if name in each} for each in considered] == expected


def test_what_nobody_ordered_has_no_explanation(server: Server) -> None:
    server.add_batch(unique("b"), sku := unique("sku"), 5)
    for path in (f"/allocations/nobody/{sku}/explain", "/allocations/a/b/explain", "/allocations/%00/b/explain"):
        refused = server.client.get(path)
        assert (refused.status_code, refused.json()["type"]) == (404, "/problems/unknown-line")


def test_an_order_may_have_any_name(server: Server) -> None:
    sku = unique("sku")
    server.add_batch(unique("b"), sku, 5)
    server.allocate("a/b/explain", sku, 1)
    assert server.get("/allocations/a%2Fb%2Fexplain")[0]["sku"] == sku


def test_the_command_line_tells_it(database_url: str) -> None:
    given(
        database_url,
        BatchCreated("b1", "LAMP", 3),
        BatchCreated("b2", "LAMP", 9, date(2035, 3, 1)),
        RulesChanged("LAMP", safety_stock=1),
        AllocationRequired("anna", "LAMP", 3),
        AllocationRequired("ben", "LAMP", 2),
        LinePinned("anna", "LAMP", "b1", "she asked for it"),
        BatchQuarantined("b2", "damp", keep_lines=True),
    )
    done = run("explain", "anna", "LAMP", database=database_url)
    assert (done.code, done.errors) == (0, "")
    assert "Order anna, 3 of LAMP: " in done.output
    assert done.output.splitlines()[4].split() == ["batch", "due", "available", "held", "by"]
    ben = run("explain", "ben", "LAMP", "--json", database=database_url)
    told = json.loads(ben.output)
    assert (told["rule"], told["rules"]["safety_stock"]) == ("warehouse-first", 1)
    first = told["considered"][0]
    assert (first["batchref"], first["obstacle"], first["held_by"][0]["orderid"]) == ("b1", "no room", "anna")
    by_hand = json.loads(run("explain", "anna", "LAMP", "--json", database=database_url).output)
    assert by_hand["rule"] is None
    assert by_hand["decision"]["cause"]["type"] == "LinePinned"
    assert run("explain", "carla", "LAMP", database=database_url).code == 3


def test_the_command_line_tells_where_batches_are_and_until_when_they_last(sqlite_url: str) -> None:
    milk = BatchCreated("b1", "MILK", 3, expires_on=date(2035, 1, 31), location="north")
    given(sqlite_url, milk, BatchCreated("b2", "MILK", 9), AllocationRequired("anna", "MILK", 4))
    lines = run("explain", "anna", "MILK", database=sqlite_url).output.splitlines()
    assert [lines[number].split() for number in (4, 6, 7)] == [
        ["batch", "due", "location", "expires", "available", "held", "by"],
        ["b1", "in", "the", "warehouse", "north", "2035-01-31", "3", "no", "room"],
        ["b2", "in", "the", "warehouse", "–", "–", "9", "taken"],
    ]

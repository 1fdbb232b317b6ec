"""What can be promised, over HTTP and on the command line."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from allocation.domain.events import BatchCreated
from allocation.views.availability import MAX_SKUS
from tests.e2e.program import given, run
from tests.services import Server, unique


def today() -> str:
    return datetime.now(UTC).date().isoformat()


@pytest.fixture
def sku(server: Server) -> str:
    """Ten in the warehouse of which four are sold, five and eight due; some damp, some spoiled, two kept back."""
    sku = unique("sku/ü")
    for name, qty, more in [
        ("home", 10, {}),
        ("march", 5, {"eta": "2035-03-01"}),
        ("june", 8, {"eta": "2035-06-01"}),
        ("damp", 50, {}),
        ("spoiled", 50, {"expires_on": "2020-01-01"}),
    ]:
        response = server.post("/add_batch", {"ref": unique(name), "sku": sku, "qty": qty, **more})
        assert response.status_code == 201
        if name == "damp":
            server.post("/quarantine_batch", {"ref": response.json()["batchref"], "reason": "damp"})
    server.allocate(unique("o"), sku, 4)
    server.post("/change_rules", {"sku": sku, "safety_stock": 2})
    return sku


def expected(sku: str, earliest: str | None = None, *, can_promise: bool | None = None) -> dict[str, Any]:
    timeline = [(today(), 4), ("2035-03-01", 9), ("2035-06-01", 17)]
    return {
        "sku": sku,
        "available_now": 4,
        "timeline": [{"date": day, "quantity": quantity} for day, quantity in timeline],
        "earliest": earliest,
        "can_promise": can_promise,
        "available_quantity": 19,
    }


def test_it_is_told_now_by_day_and_for_a_quantity(server: Server, sku: str) -> None:
    path = f"/availability/{sku.replace('/', '%2F')}"
    assert server.get(path) == expected(sku)
    assert server.get(path, qty=4) == expected(sku, today(), can_promise=True)
    assert server.get(path, qty=5, by="2035-02-28") == expected(sku, "2035-03-01", can_promise=False)
    assert server.get(path, qty=5, by="2035-03-01") == expected(sku, "2035-03-01", can_promise=True)
    assert server.get(path, qty=9) == expected(sku, None, can_promise=False)


def test_many_products_are_told_in_one_call(server: Server, sku: str) -> None:
    other, unknown = unique("sku"), unique("sku")
    server.add_batch(unique("b"), other, 3)
    server.allocate(unique("o"), other, 3)
    found = server.get("/availability", sku=[other, unknown, sku, other])
    exhausted = {"sku": other, "available_now": 0, "timeline": [{"date": today(), "quantity": 0}]}
    assert found == {
        "products": [{**exhausted, "earliest": None, "can_promise": None, "available_quantity": 0}, expected(sku)],
        "unknown": [unknown],
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "0 SKUs are asked about"),
        ("&".join(f"sku={number}" for number in range(MAX_SKUS + 1)), f"{MAX_SKUS + 1} SKUs are asked about"),
        ("sku=a&qty=0", "qty is '0'"),
        ("sku=a&qty=1&by=2026-02-30", "by is '2026-02-30'"),
        ("sku=a&qty=1&by=20260131", "by is '20260131'"),
        ("sku=a&by=2026-01-31", "by is given without qty"),
        ("sku=a&qty=1&qty=2", "qty is given twice"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(server: Server, query: str, message: str) -> None:
    refused = server.client.get(f"/availability?{query}")
    assert (refused.status_code, refused.json()["message"]) == (400, message)


def test_a_product_nobody_knows_is_refused(server: Server) -> None:
    assert server.client.get("/availability/nothing").status_code == 404


def test_the_command_line_tells_the_same(database_url: str) -> None:
    given(database_url, BatchCreated("b1", "LAMP", 3), BatchCreated("b2", "LAMP", 9, date(2035, 3, 1)))
    told = json.loads(run("availability", "LAMP", "--qty=5", "--by=2035-02-28", "--json", database=database_url).output)
    assert (told["products"][0]["earliest"], told["products"][0]["can_promise"]) == ("2035-03-01", False)
    done = run("availability", "LAMP", "SOFA", "--qty=5", "--by=2035-02-28", database=database_url)
    assert done.code == 3
    assert "SOFA: unknown" in done.errors
    assert "3 available now\nA line of 5: from 2035-03-01; by 2035-02-28: no" in done.output
    assert run("availability", "LAMP", "--by=monday", "--qty=1", database=database_url).code == 2

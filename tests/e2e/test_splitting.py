"""Lines that may be split: over HTTP, in the console and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.program import run
from tests.e2e.test_console_changes import apply, effect_in, look, visitor
from tests.services import Server, unique

__all__ = ["visitor"]

CONFLICT = 409


class Split:
    """Six on one batch, three on the next, and an order of eleven, of which two wait."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.sku, self.orderid, self.first, self.second = (unique(name) for name in ("SOFA", "o", "b1", "b2"))
        server.add_batch(self.first, self.sku, 6)
        server.add_batch(self.second, self.sku, 3, "2035-01-31")
        self.line = {"orderid": self.orderid, "sku": self.sku, "qty": 11, "split": True}
        self.answer = self.post("allocate", **self.line)

    def post(self, name: str, **fields: Any) -> Any:
        response = self._server.post(f"/{name}", fields)
        assert response.status_code == 201, response.text
        return response.json()

    def part(self, number: int, qty: int, batchref: str | None) -> dict[str, Any]:
        return {"orderid": self.named(number), "qty": qty, "batchref": batchref}

    def named(self, number: int) -> str:
        return self.orderid if number == 1 else f"{self.orderid}/{number}"


def test_a_line_is_answered_with_its_parts_however_often_it_is_asked(server: Server) -> None:
    split = Split(server)
    parts = [split.part(1, 6, split.first), split.part(2, 3, split.second), split.part(3, 2, None)]
    assert split.answer == {"batchref": split.first, "parts": parts}
    assert split.post("allocate", **split.line) == split.answer
    whole = unique("o")
    server.add_batch(unique("b3"), split.sku, 9, "2035-03-31")
    assert "parts" not in split.post("allocate", orderid=whole, sku=split.sku, qty=2, split=True)
    refused = server.post("/allocate", {**split.line, "split": False})
    assert (refused.status_code, refused.json()["type"]) == (CONFLICT, "/problems/line-conflict")


def test_an_order_shows_its_parts_and_a_part_its_line(server: Server) -> None:
    split = Split(server)
    sku = split.sku
    second = {"orderid": split.named(2), "part_of": split.orderid}
    third = {"sku": sku, "qty": 2, "batchref": None, "state": "waiting"}
    third |= {"orderid": split.named(3), "part_of": split.orderid}
    due = {"promised": "2035-01-31"}
    assert server.get(f"/allocations/{split.orderid}") == [
        {"sku": sku, "qty": 6, "batchref": split.first, "state": "allocated", "rest": 5},
        {"sku": sku, "qty": 3, "batchref": split.second, "state": "allocated", "rest": 2, **due, **second},
        third,
    ]
    assert server.get(f"/allocations/{split.named(3)}") == [third]


def stock_of_two(server: Server) -> tuple[str, str, str, str]:
    """A line of five on a batch of five, which may be split, and three more on another batch."""
    sku, orderid, first, second = (unique(name) for name in ("SOFA", "o", "b1", "b2"))
    server.add_batch(first, sku, 5)
    server.post("/allocate", {"orderid": orderid, "sku": sku, "qty": 5, "split": True})
    server.add_batch(second, sku, 3, "2035-01-31")
    return sku, orderid, first, second


def test_a_change_is_answered_with_what_was_cut_off(server: Server) -> None:
    sku, orderid, first, second = stock_of_two(server)
    answer = server.post("/change_batch_quantity", {"ref": first, "qty": 1}).json()
    assert answer["moved"] == [
        {"orderid": f"{orderid}/2", "sku": sku, "qty": 3, "from": first, "to": second},
        {"orderid": f"{orderid}/3", "sku": sku, "qty": 1, "from": first, "to": None},
    ]


def test_parts_leave_by_themselves_and_are_cancelled_together(server: Server) -> None:
    split = Split(server)
    assert split.post("ship_line", orderid=split.orderid, sku=split.sku) == {"batchref": split.first}
    refused = server.post("/change_line_quantity", {"orderid": split.named(2), "sku": split.sku, "qty": 1})
    assert (refused.status_code, refused.json()["type"]) == (CONFLICT, "/problems/line-was-split")
    assert f"Change {split.named(3)}, which is its last part" in refused.json()["detail"]
    split.post("cancel_allocation", orderid=split.orderid, sku=split.sku)
    states = [line["state"] for line in server.get(f"/allocations/{split.orderid}")]
    assert states == ["shipped", "cancelled", "cancelled"]


def test_a_part_is_explained_like_any_line(server: Server) -> None:
    split = Split(server)
    found = server.get(f"/allocations/{split.named(2).replace('/', '%2F')}/{split.sku}/explain")
    assert [(each["batchref"], each["obstacle"]) for each in found["considered"]] == [
        (split.first, "no room"),
        (split.second, None),
    ]
    assert [each["type"] for each in found["history"]] == ["Split", "Allocated"]
    assert found["decision"]["cause"]["type"] == "AllocationRequired"


def test_what_was_looked_at_in_the_console_is_what_happens_to_parts(server: Server, visitor: Any) -> None:
    _, orderid, first, _ = stock_of_two(server)
    seen = look(visitor, "change_batch_quantity", ref=first, qty="1")
    done = apply(visitor, "change_batch_quantity", seen.sent)
    assert effect_in(visitor.get(done.headers["location"]).text) == seen.effect
    page = visitor.get(f"/console/orders/{orderid}").text
    for number in (2, 3):
        assert f"<bdi>{orderid}/{number}</bdi>" in page


def test_lines_are_split_on_the_command_line_and_from_files(database_url: str, tmp_path: Path) -> None:
    def told(*command: str) -> Any:
        done = run(*command, "--json", database=database_url)
        assert (done.code, done.errors) == (0, "")
        return json.loads(done.output)

    run("add-batch", "--ref=b1", "--sku=RUG", "--qty=4", database=database_url)
    run("add-batch", "--ref=b2", "--sku=RUG", "--qty=4", database=database_url)
    line = ("allocate", "--orderid=anna", "--sku=RUG", "--qty=6", "--split=true")
    parts = [
        {"orderid": "anna", "qty": 4, "batchref": "b1"},
        {"orderid": "anna/2", "qty": 2, "batchref": "b2"},
    ]
    foretold = told(*line, "--preview")
    assert foretold["answer"] == {"batchref": "b1", "parts": parts}
    assert [(each["orderid"], each["qty"], each["to"]) for each in foretold["lines"]] == [
        ("anna", 4, "b1"),
        ("anna/2", 2, "b2"),
    ]
    assert told(*line)["answer"] == foretold["answer"]
    orders = tmp_path / "orders.csv"
    orders.write_text("orderid,sku,qty,split\nben,RUG,3,true\ncarla,RUG,3,false\n")
    assert run("import", str(orders), "--type=AllocationRequired", database=database_url).code == 0
    shown = run("show", "anna", database=database_url).output
    assert "anna/2" in shown
    assert told("show", "anna/2")["order"][0]["part_of"] == "anna"
    past = told("at", "2035-01-01T12:00Z", "show", "anna")["order"]
    assert past == told("show", "anna")["order"]
    exported = run("export", "allocations", "--format=csv", database=database_url).output
    assert exported.splitlines()[1:] == [
        "anna,RUG,4,b1,allocated,,0,,,false,0",
        "anna/2,RUG,2,b2,allocated,,0,,anna,false,0",
        "ben,RUG,2,b2,allocated,,0,,,false,0",
    ]
    exported = run("export", "backorders", "--format=csv", database=database_url).output
    assert [(row.split(",")[0], row.split(",")[6]) for row in exported.splitlines()[1:]] == [
        ("ben/2", "ben"),
        ("carla", ""),
    ]
    assert run("verify", database=database_url).code == 0

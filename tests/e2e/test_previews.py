"""Previews over HTTP and on the command line: the answer of the real thing, what would become of lines, no change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allocation.domain.events import AllocationRequired, BatchCreated
from allocation.entrypoints.cli.exits import DONE, PARTLY
from allocation.entrypoints.previews import MAX_LINES
from tests.e2e.program import given, run
from tests.services import Server, unique

NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
def names(server: Server) -> dict[str, str]:
    """Ten in the warehouse and as many due in a year, with two lines of five on the first batch."""
    names = {name: unique(name) for name in ("sku", "stock", "ship", "old", "new")}
    server.add_batch(names["stock"], names["sku"], 10)
    server.add_batch(names["ship"], names["sku"], 10, "2035-01-31")
    for name in ("old", "new"):
        server.allocate(names[name], names["sku"], 5)
    return names


def preview(server: Server, path: str, body: Any, **parameters: Any) -> Any:
    """The answer, which has to leave everything as it is."""
    position = server.ledger_position()
    response = server.client.post(f"/preview{path}", json=body, params=parameters)
    assert response.status_code == 200, response.text
    assert server.ledger_position() == position
    return response.json()


def test_a_preview_has_the_answer_and_what_becomes_of_each_line(server: Server, names: dict[str, str]) -> None:
    cut = {"ref": names["stock"], "qty": 7}
    told = preview(server, "/change_batch_quantity", cut)
    [line] = told["lines"]
    today = line.pop("before")
    assert today < "2035-01-31"
    assert line == {
        "orderid": names["new"],
        "sku": names["sku"],
        "qty": 5,
        "from": names["stock"],
        "to": names["ship"],
        "after": "2035-01-31",
        "late_days": 0,
        "state": "allocated",
        "late": False,
        "late_before": False,
    }
    summary = {"moved": 1, "waiting": 0, "served": 0, "late": 0, "earlier": 0, "later": 1, "newly_late": 0}
    assert told["summary"] == summary
    assert told["more"] is False
    assert server.post("/change_batch_quantity", cut).json() == told["answer"]


def test_who_waits_and_who_is_served_is_told_and_who_is_late(server: Server, names: dict[str, str]) -> None:
    orderid, sku = unique("o"), names["sku"]
    waits = preview(server, "/allocate", {"orderid": orderid, "sku": sku, "qty": 50})
    assert (waits["answer"], waits["summary"]["waiting"], waits["lines"][0]["state"]) == (
        {"batchref": None},
        1,
        "waiting",
    )
    server.post("/allocate", {"orderid": orderid, "sku": sku, "qty": 50, "need_by": "2035-02-01"})
    more = {"ref": unique("b"), "sku": sku, "qty": 60, "eta": "2035-02-05"}
    served = preview(server, "/add_batch", more)
    assert (served["summary"]["served"], served["summary"]["late"]) == (1, 1)
    assert served["lines"][0]["late_days"] == 4


def test_a_page_has_as_many_lines_as_asked_for_and_tells_of_more(server: Server, names: dict[str, str]) -> None:
    told = preview(server, "/change_batch_quantity", {"ref": names["stock"], "qty": 0}, limit=1)
    assert (len(told["lines"]), told["more"], told["summary"]["moved"]) == (1, True, 2)


def test_a_preview_is_refused_as_the_real_thing_is(server: Server, names: dict[str, str]) -> None:
    for path, body in {
        "/change_batch_quantity": {"ref": unique("unknown"), "qty": 7},
        "/allocate": {"orderid": names["old"], "sku": names["sku"], "qty": 6},
        "/add_batch": {"ref": "r", "sku": "s", "qty": 0},
    }.items():
        foretold, real = server.post(f"/preview{path}", body), server.post(path, body)
        assert real.status_code >= 400
        assert (foretold.status_code, foretold.json()) == (real.status_code, real.json())
    assert server.post("/preview/dance", {}).status_code == 404


def test_a_preview_under_a_key_that_was_used_has_the_first_answer(server: Server, names: dict[str, str]) -> None:
    key, cut = unique("key"), {"ref": names["stock"], "qty": 7}
    first = server.post("/change_batch_quantity", cut, Idempotency_Key=key).json()
    told = server.post("/preview/change_batch_quantity", cut, Idempotency_Key=key).json()
    assert (told["answer"], told["lines"]) == (first, [])
    reused = server.post("/preview/change_batch_quantity", {**cut, "qty": 3}, Idempotency_Key=key)
    assert reused.status_code == 422


def test_a_list_is_previewed_one_after_the_other(server: Server, names: dict[str, str]) -> None:
    lines = [
        {"type": "BatchQuantityChanged", "ref": names["stock"], "qty": 0},
        {"type": "BatchQuantityChanged", "ref": "nowhere", "qty": 0},
        {"type": "BatchQuantityChanged", "ref": names["ship"], "qty": 5},
    ]
    body = "\n".join(map(json.dumps, lines))
    position = server.ledger_position()
    told = server.client.post("/preview", content=f"{body}\n\nnonsense\n", headers=NDJSON).json()
    assert server.ledger_position() == position
    assert [(each["line"], each["status"]) for each in told["answers"]] == [(1, 201), (2, 404), (3, 201), (5, 400)]
    assert told["summary"] == {
        "moved": 1,
        "waiting": 1,
        "served": 0,
        "late": 0,
        "earlier": 0,
        "later": 1,
        "newly_late": 0,
    }
    real = server.client.post("/bulk", content=body, headers=NDJSON).text.splitlines()
    assert list(map(json.loads, real)) == told["answers"][:3]


def test_a_list_has_an_end(server: Server) -> None:
    body = b"{}\n" * (MAX_LINES + 1)
    refused = server.client.post("/preview", content=body, headers=NDJSON)
    assert (refused.status_code, refused.json()["message"]) == (413, f"The body has {MAX_LINES + 1} events")


@pytest.fixture
def books(database_url: str) -> str:
    given(
        database_url,
        BatchCreated("stock", "LAMP", 10),
        AllocationRequired("anna", "LAMP", 5),
        AllocationRequired("ben", "LAMP", 5),
    )
    return database_url


def test_every_command_of_an_event_can_be_previewed(books: str) -> None:
    cut = ("change-batch-quantity", "--ref=stock", "--qty=7")
    done = run(*cut, "--preview", database=books)
    assert (done.code, done.errors) == (DONE, "")
    assert "moved: order ben, 5 of LAMP: stock → waiting" in done.output
    assert "Lines: 1 waiting. Nothing was changed." in done.output
    told = json.loads(run(*cut, "--preview", "--json", database=books).output)
    assert told["answer"] == json.loads(run(*cut, "--json", database=books).output)["answer"]
    refused = run("change-batch-quantity", "--ref=nowhere", "--qty=7", "--preview", database=books)
    assert (refused.code, refused.output) == (3, "")
    assert "Unknown batch nowhere" in refused.errors


def test_no_database_is_made_for_a_preview(tmp_path: Path) -> None:
    done = run("change-batch-quantity", "--ref=b", "--qty=7", "--preview", database=f"sqlite:///{tmp_path}/none.db")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])


def test_an_import_can_be_previewed(books: str, tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    file.write_text("ref,qty\nstock,7\nnowhere,1\n")
    asked = ("import", str(file), "--type=BatchQuantityChanged")
    done = run(*asked, "--preview", database=books)
    assert (done.code, done.errors) == (PARTLY, "")
    assert done.output.startswith("2 lines: 1 would be taken, 0 were imported before, 1 refused\n")
    assert "line 3: Unknown batch nowhere" in done.output
    assert list(tmp_path.glob("*.refused.jsonl")) == []
    assert run(*asked, database=books).code == PARTLY
    told = json.loads(run(*asked, "--preview", "--json", database=books).output)
    assert (told["taken"], told["repeated"], told["refused"], told["lines"]) == (0, 1, 1, [])


def test_an_import_that_is_too_long_to_preview_is_refused(books: str, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text("{}\n" * (MAX_LINES + 1))
    done = run("import", str(file), "--preview", database=books)
    assert (done.code, done.output) == (2, "")
    assert f"more than {MAX_LINES:,} lines" in done.errors

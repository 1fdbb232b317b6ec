"""Names through every way in: trimmed in files, refused with the cure elsewhere, and found as they are meant."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from allocation.adapters.database import parse_url
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.errors import InvalidMessage
from allocation.domain.events import AllocationRequired, BatchCreated, Event, StockHeld
from allocation.service_layer.messages import checked_message, new_message
from tests.builders import Contents, contents
from tests.e2e.program import given, run
from tests.services import Server, StartServer, unique
from tests.waiting import wait_until

COMPOSED, DECOMPOSED = "CAF\u00c9", "CAFE\u0301"
JSON_LINES = {"Content-Type": "application/x-ndjson"}
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


def stored(url: str) -> Contents:
    return asyncio.run(contents(parse_url(url)))


def stored_by_an_earlier_version(url: str, *events: Event) -> None:
    async def handle_all() -> None:
        async with bootstrap(Settings(database_url=url)) as service:
            for event in events:
                await service.writer.handle(checked_message(event, "earlier"))

    asyncio.run(handle_all())


def order(orderid: str, sku: str) -> dict[str, object]:
    return {"orderid": orderid, "sku": sku, "qty": 1}


@pytest.mark.parametrize(
    ("orderid", "message", "cure"),
    [
        ("o1 ", 'orderid is "o1 "', 'orderid takes no white space at its ends: send "o1".'),
        (" ", 'orderid is " "', "orderid takes more than white space."),
        (
            DECOMPOSED,
            "orderid is 'CAFE\\u0301'",
            "orderid takes composed characters (Unicode NFC): send 'CAF\\xc9'.",
        ),
    ],
)
def test_every_route_refuses_a_name_that_looks_like_another(
    server: Server, orderid: str, message: str, cure: str
) -> None:
    sku = unique("BED")
    server.add_batch(unique("b"), sku, 9)
    before = server.ledger_position()
    body = json.dumps(order(orderid, sku)).encode()
    line = json.dumps({"type": "AllocationRequired", **order(orderid, sku)}).encode() + b"\n"
    json_type = {"Content-Type": "application/json"}
    answers = [
        server.client.post("/allocate", content=body, headers=json_type).json(),
        server.client.post("/allocate", content=iter([body]), headers=json_type).json(),  # of unknown length
        server.client.post("/preview/allocate", content=body, headers=json_type).json(),
        json.loads(server.client.post("/bulk", content=line, headers=JSON_LINES).text),
        server.client.post("/preview", content=line, headers=JSON_LINES).json()["answers"][0],
    ]
    for answer in answers:
        assert (answer["status"], answer["message"]) == (400, message)
        assert answer["detail"] == f"{message}. {cure}"
    assert server.ledger_position() == before


def test_the_command_line_refuses_it_too(sqlite_url: str) -> None:
    done = run("add-batch", "--ref=b1", "--sku=BED ", "--qty=1", database=sqlite_url)
    assert done.code == 2
    assert 'sku is "BED "' in done.errors
    assert 'send "BED"' in done.errors


FILES = {
    "events.jsonl": [
        json.dumps({"type": "BatchCreated", "ref": " b1", "sku": f"{DECOMPOSED} ", "qty": 9, "location": "LYON\t"}),
        json.dumps({"type": "AllocationRequired", "orderid": "o1\u00a0", "sku": COMPOSED, "qty": 2, "id": "key "}),
        json.dumps({"type": "AllocationRequired", "orderid": "o2", "sku": "  ", "qty": 2}),
    ],
    "batches.csv": ["ref,sku,qty,eta,location", f" b1,{DECOMPOSED} , 9,  ,LYON ", "b2,A\tB,1,,", "b3,  ,1,,"],
}


def test_json_lines_are_trimmed_and_normalised(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(FILES[path.name]))
    done = run("import", str(path), "--json", database=database_url)
    [counted] = json.loads(done.output)
    assert (counted["taken"], counted["refused"]) == (2, 1)
    kept = stored(database_url)
    assert [(row[0], row[1], row[9]) for row in kept.batches] == [("b1", COMPOSED, "LYON")]
    assert [row[:2] for row in kept.lines] == [("o1", COMPOSED)]
    assert "key " in {row[0] for row in kept.ledger}
    [refused] = [json.loads(text) for text in Path(counted["refused_file"]).read_text().splitlines()]
    assert (refused["line"], refused["reason"]) == (3, 'sku is ""')


def test_cells_are_trimmed_and_normalised(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "batches.csv"
    path.write_text("\n".join(FILES[path.name]))
    done = run("import", "--type=BatchCreated", str(path), "--json", database=database_url)
    [counted] = json.loads(done.output)
    assert (counted["taken"], counted["refused"]) == (1, 2)
    [batch] = stored(database_url).batches
    assert (batch[:4], batch[9]) == (("b1", COMPOSED, None, 9), "LYON")
    reasons = [json.loads(text)["reason"] for text in Path(counted["refused_file"]).read_text().splitlines()]
    assert reasons == [r"sku is 'A\tB'", 'sku is ""']


@pytest.mark.parametrize("sku", ["A\tB", "A\x00B", "BED ", DECOMPOSED, "A\ud800", ""])
def test_an_event_made_in_python_is_refused_on_every_store(database_url: str, sku: str) -> None:
    with pytest.raises(InvalidMessage, match=r"^sku is "):
        given(database_url, BatchCreated("b1", sku, 1))
    assert stored(database_url).ledger == []


def test_names_are_found_however_they_are_typed(server: Server) -> None:
    sku, ref, orderid = (unique(COMPOSED) for _ in range(3))
    server.add_batch(ref, sku, 9)
    server.allocate(orderid, sku, 1)
    typed = {name: f" {name.replace(COMPOSED, DECOMPOSED)} " for name in (sku, ref, orderid)}
    path = {name: quote(text) for name, text in typed.items()}
    assert server.get(f"/products/{path[sku]}")["sku"] == sku
    assert server.get(f"/batches/{path[ref]}")["batchref"] == ref
    assert [line["sku"] for line in server.get(f"/allocations/{path[orderid]}")] == [sku]
    assert server.get(f"/allocations/{path[orderid]}/{path[sku]}/explain")["orderid"] == orderid
    assert server.get(f"/availability/{path[sku]}")["sku"] == sku
    assert server.get("/availability", sku=typed[sku])["products"][0]["sku"] == sku
    assert len(server.get("/events", sku=typed[sku])["events"]) == len(server.get("/events", sku=sku)["events"]) > 0
    assert server.client.get(f"/products/{quote(DECOMPOSED)}").json()["message"] == f"Unknown sku {COMPOSED}"
    with httpx.Client(base_url=f"{server.url}/console", follow_redirects=True) as console:
        for place, name in (("products", sku), ("batches", ref), ("orders", orderid)):
            for response in (console.get(f"/{place}/{path[name]}"), console.get("/search", params={"q": typed[name]})):
                assert response.status_code == 200, response.text
                assert str(response.url).endswith(f"/{place}/{quote(name)}")
        assert sku in console.get("/products", params={"q": typed[sku]}).text
        assert orderid in console.get("/events", params={"orderid": typed[orderid]}).text
        assert console.get("/events", params={"orderid": " "}).status_code == 200


@pytest.fixture
def old(database_url: str) -> str:
    """A database in which an earlier version stored names with white space at an end."""
    soon = datetime.now(UTC) + timedelta(seconds=1)
    stored_by_an_earlier_version(
        database_url,
        BatchCreated("b1 ", "BED ", 9),
        AllocationRequired(" o1", "BED ", 2),
        StockHeld("cart ", "BED ", 1, soon),
    )
    return database_url


def test_names_stored_by_earlier_versions_are_read_and_proved(old: str) -> None:
    shown = json.loads(run("show", "BED ", "--json", database=old).output)
    assert (shown["product"]["sku"], shown["product"]["batches"][0]["batchref"]) == ("BED ", "b1 ")
    assert json.loads(run("explain", " o1", "BED ", "--json", database=old).output)["batchref"] == "b1 "
    assert run("verify", database=old).code == 0
    assert run("verify", "--repair", database=old).code == 0


def test_names_stored_by_earlier_versions_are_changed_in_the_console(old: str, start_server: StartServer) -> None:
    server = start_server(ALLOCATION_DATABASE_URL=old)
    refused = server.post("/ship_line", {"orderid": " o1", "sku": "BED "})
    assert (refused.status_code, refused.json()["message"]) == (400, 'orderid is " o1"')
    assert server.get(f"/products/{quote('BED ')}")["sku"] == "BED "
    assert len(server.get("/events", sku="BED ")["events"]) >= 3
    wait_until(lambda: not server.get(f"/products/{quote('BED ')}").get("held_quantity"))
    with httpx.Client(base_url=f"{server.url}/console", follow_redirects=True) as visitor:
        visitor.get("/")
        assert visitor.get(f"/orders/{quote(' o1')}").status_code == 200
        change(visitor, "quarantine_batch", ref="b1 ", reason=" damp ", keep_lines="true")
        assert server.get(f"/batches/{quote('b1 ')}")["quarantine"] == "damp"
        change(visitor, "release_batch", ref="b1 ")
        change(visitor, "ship_line", orderid=" o1", sku="BED ")
    assert server.get(f"/batches/{quote('b1 ')}")["shipped_quantity"] == 2


def change(visitor: httpx.Client, name: str, **texts: str) -> None:
    page = visitor.get(f"/change/{name}", params={**texts, "look": "1"}).text
    sent = {field: unescape(value) for field, value in HIDDEN.findall(page.partition('class="apply"')[2])}
    done = visitor.post(f"/change/{name}", data=sent)
    assert done.status_code == 200, done.text
    assert "/outcome/" in str(done.url), done.text


def test_only_python_that_vouches_for_a_name_gets_it_past_the_check() -> None:
    with pytest.raises(InvalidMessage):
        new_message(BatchCreated("b1 ", "BED", 1), "test")
    assert checked_message(BatchCreated("b1 ", "BED", 1), "test").event == BatchCreated("b1 ", "BED", 1)

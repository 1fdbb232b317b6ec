"""Files imported from the console: their way in, what is refused, and that the forms are protected."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator

import httpx
import pytest

from allocation.entrypoints.console.imports import MAX_FILE_BYTES
from allocation.entrypoints.console.protection import COOKIE, FIELD
from tests.services import Server, unique
from tests.waiting import PATIENCE_S, wait_until

MANY_LINES = 30_000  # take some seconds


@pytest.fixture
def visitor(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as visitor:
        assert visitor.get("/console/import").status_code == 200
        yield visitor


def send(visitor: httpx.Client, path: str, **fields: str) -> httpx.Response:
    return visitor.post(f"/console/imports{path}", data={FIELD: visitor.cookies[COOKIE], **fields})


def choose(visitor: httpx.Client, name: str, content: str) -> str:
    """The id of the import."""
    token = {FIELD: visitor.cookies[COOKIE]}
    response = visitor.post("/console/imports", data=token, files={"file": (name, content.encode())})
    assert response.status_code == 303, response.text
    return response.headers["location"].rpartition("/")[2]


def page(visitor: httpx.Client, id_: str) -> str:
    return visitor.get(f"/console/import/{id_}").text


def wait_until_done(visitor: httpx.Client, id_: str) -> str:
    def done() -> str | None:
        shown = page(visitor, id_)
        return shown if "Import another file" in shown else None

    return wait_until(done) or ""


def figures(shown: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]*)</dd>", shown))


def test_json_lines_are_tried_then_imported_and_known_when_they_come_again(
    server: Server, visitor: httpx.Client
) -> None:
    sku = unique("imported")
    lines = [
        {"type": "BatchCreated", "ref": f"batch of {sku}", "sku": sku, "qty": 5},
        {"type": "AllocationRequired", "orderid": f"order of {sku}", "sku": sku, "qty": 2},
        {"type": "AllocationRequired", "orderid": "none", "sku": unique("unknown"), "qty": 2},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    id_ = choose(visitor, "day.jsonl", content)
    position = server.ledger_position()
    send(visitor, "/look", id=id_)
    assert server.ledger_position() == position
    told = figures(page(visitor, id_))
    assert (told["Lines"], told["Taken"], told["Refused"]) == ("3", "2", "1")
    send(visitor, "/run", id=id_)
    told = figures(wait_until_done(visitor, id_))
    assert (told["Lines"], told["Taken"], told["Refused"]) == ("3", "2", "1")
    refused = visitor.get(f"/console/imports/{id_}/refused")
    assert [json.loads(line)["line"] for line in refused.text.splitlines()] == [3]
    assert server.get(f"/batches/batch of {sku}")["allocated_quantity"] == 2
    again = choose(visitor, "day.jsonl", content)
    send(visitor, "/look", id=again)
    assert figures(page(visitor, again))["Imported before"] == "2"
    assert visitor.get(f"/console/imports/{id_}/refused").status_code == 404  # another file took its place


def test_a_visitor_imports_one_file_at_a_time_and_others_theirs(server: Server, visitor: httpx.Client) -> None:
    sku = unique("long")
    server.add_batch(f"batch of {sku}", sku, MANY_LINES)
    line = {"type": "AllocationRequired", "sku": sku, "qty": 1}
    content = "".join(json.dumps({**line, "orderid": f"{sku}-{number}"}) + "\n" for number in range(MANY_LINES))
    id_ = choose(visitor, "long.jsonl", content)
    send(visitor, "/look", id=id_)
    assert "The file has more lines" in page(visitor, id_)
    send(visitor, "/run", id=id_)
    second = visitor.post(
        "/console/imports", data={FIELD: visitor.cookies[COOKIE]}, files={"file": ("second.jsonl", b"{}\n")}
    )
    assert (second.status_code, "long.jsonl is imported" in second.text) == (409, True)
    assert send(visitor, "/look", id=id_).status_code == 409
    assert send(visitor, "/drop", id=id_).status_code == 303  # which leaves it alone
    with httpx.Client(base_url=server.url) as other:
        other.get("/console/import")
        assert choose(other, "other.jsonl", "{}\n")
    assert "<progress" in page(visitor, id_)
    assert figures(wait_until_done(visitor, id_))["Taken"] == f"{MANY_LINES:,}"
    assert choose(visitor, "second.jsonl", "{}\n")


def test_columns_that_are_not_those_of_the_event_are_refused(visitor: httpx.Client) -> None:
    id_ = choose(visitor, "orders.csv", "a,b\n1,2\n")
    told = send(visitor, "/look", id=id_, type="AllocationRequired", **{"column-0": "orderid", "column-1": "orderid"})
    assert (told.status_code, "twice" in told.text) == (400, True)
    told = send(visitor, "/look", id=id_, type="AllocationRequired", **{"column-0": "orderid"})
    assert "does not name" in told.text
    assert send(visitor, "/look", id=id_, type="Allocated").status_code == 400
    assert send(visitor, "/run", id=id_).status_code == 400


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl"])
def test_an_empty_file_does_nothing(visitor: httpx.Client, name: str) -> None:
    id_ = choose(visitor, name, "")
    assert page(visitor, id_)
    assert send(visitor, "/look", id=id_, type="BatchCreated").status_code in {303, 400}


def test_a_file_is_left_and_another_visitor_cannot_touch_it(server: Server, visitor: httpx.Client) -> None:
    id_ = choose(visitor, "a.jsonl", "{}\n")
    with httpx.Client(base_url=server.url) as other:
        other.get("/console/import")
        for path in ("/look", "/run", "/drop"):
            assert send(other, path, id=id_).status_code == 404
    assert send(visitor, "/drop", id=id_).status_code == 303
    assert visitor.get(f"/console/import/{id_}").status_code == 404


def test_a_file_that_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    connection.putrequest("POST", "/console/imports")
    connection.putheader("content-type", "multipart/form-data; boundary=x")
    connection.putheader("content-length", str(MAX_FILE_BYTES + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_no_file_is_taken_from_forms_of_others(server: Server, visitor: httpx.Client) -> None:
    id_ = choose(visitor, "a.jsonl", "{}\n")
    token = {FIELD: visitor.cookies[COOKIE]}
    files = {"file": ("a.jsonl", b"{}\n")}
    for fields, headers in (
        ({}, {}),
        ({FIELD: "guessed"}, {}),
        (token, {"origin": "https://elsewhere.example"}),
        (token, {"sec-fetch-site": "cross-site"}),
    ):
        assert visitor.post("/console/imports", data=fields, files=files, headers=headers).status_code == 403
        for path in ("/look", "/run", "/drop"):
            data = {**fields, "id": id_}
            assert visitor.post(f"/console/imports{path}", data=data, headers=headers).status_code == 403
    assert page(visitor, id_)
    assert httpx.post(f"{server.url}/console/imports", data=token, files=files).status_code == 403


def test_an_empty_eta_beside_others_is_asked_about(server: Server, visitor: httpx.Client) -> None:
    ref, sku = unique("b"), unique("SKU")
    id_ = choose(visitor, "batches.csv", f"ref,sku,qty,eta\n{ref},{sku},1,\n{unique('b')},{sku},1,2030-01-31\n")
    columns = {f"column-{number}": name for number, name in enumerate(("ref", "sku", "qty", "eta"))}
    assert "Stock without an ETA" in page(visitor, id_)
    assert send(visitor, "/look", id=id_, type="BatchCreated", **columns).status_code == 303
    assert "The row has no ETA, and other rows of the file have one" in page(visitor, id_)
    looked = send(visitor, "/look", id=id_, type="BatchCreated", **columns, **{"empty-eta": "unknown"})
    assert looked.status_code == 303
    assert 'value="unknown" selected' in page(visitor, id_)
    assert send(visitor, "/run", id=id_).status_code == 303
    assert figures(wait_until_done(visitor, id_))["Taken"] == "2"
    assert server.get(f"/batches/{ref}")["eta_unknown"] is True

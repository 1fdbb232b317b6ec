"""Bad input: a clear 4xx, nothing changed, and nothing in the log."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services import Server

BATCH = {"ref": "b1", "sku": "S", "qty": 10}
JSON = {"Content-Type": "application/json"}
LIMIT = 1024 * 1024


def batch(**changes: Any) -> bytes:
    return json.dumps({**BATCH, **changes}).encode()


MALFORMED = [b"", b"{", b"nope", b"{'ref': 1}", b'{"ref":"b1",}', batch() + b"x", b"\xff", b"\xef\xbb\xbf" + batch()]
NO_OBJECT = [b"null", b"[]", b'"text"', b"1", b"true", b"[" + batch() + b"]", b"[" * 100_000, b'{"a":' * 100_000]
WRONG_VALUES: list[Any] = [1.5, True, None, []]
WRONG_TYPES = [batch(**{name: value}) for name in BATCH for value in ("3" if name == "qty" else 3, *WRONG_VALUES)]
WRONG_FIELDS = [b"{}", *(json.dumps({k: v for k, v in BATCH.items() if k != name}).encode() for name in BATCH)]
WRONG_FIELDS += [batch(more=1), batch(type="BatchCreated"), batch(deep={"a": [[[[1]]]]})]
WRONG_QUANTITIES = [batch(qty=qty) for qty in (0, -1, 1_000_000_001, 10**30, -(10**30), 1.0)]
WRONG_QUANTITIES += [batch().replace(b"10}", b"9" * 5_000 + b"}"), batch().replace(b"10}", b"1e999}"), batch(qty=2**63)]
WRONG_TEXTS = [
    batch(**{name: text}) for name in ("ref", "sku") for text in ("", "x" * 256, "a\x00b", "a\nb", "\x7f", "a\u200bb")
]
WRONG_UNICODE = [batch().replace(b'"b1"', text) for text in (rb'"\ud800"', rb'"a\udc00"', b'"\xff"', b'"\xed\xa0\x80"')]
NO_DATES: list[Any] = ["", "2026-02-30", "tomorrow", "2026-01-01T00:00:00", 20260101, [], True]
WRONG_DATES = [batch(eta=eta) for eta in NO_DATES]
BODIES = [*MALFORMED, *NO_OBJECT, *WRONG_TYPES, *WRONG_FIELDS, *WRONG_QUANTITIES]
BODIES += [*WRONG_TEXTS, *WRONG_UNICODE, *WRONG_DATES]


@pytest.fixture
def unchanged(server: Server) -> Iterator[Server]:
    """The server; the test has to leave the ledger as it is."""
    position = server.ledger_position()
    yield server
    assert server.ledger_position() == position


def check_problem(response: Any, status: int, slug: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{slug}"
    assert problem["message"]
    assert problem["detail"].startswith(problem["message"])
    assert len(problem["detail"]) > len(problem["message"]) + 5, "no cure"


def test_bodies_that_are_no_event_are_400(unchanged: Server) -> None:
    for body in BODIES:
        response = unchanged.client.post("/add_batch", content=body, headers=JSON)
        assert response.status_code == 400, (body[:80], response.text)
        check_problem(response, 400, "invalid-message")


@pytest.mark.parametrize(
    ("body", "message", "detail"),
    [
        (batch(qty="3"), 'qty is "3"', 'qty is "3". qty takes a whole number from 1 to 1,000,000,000.'),
        (batch(qty=0), "qty is 0", "qty is 0. qty takes a whole number from 1 to 1,000,000,000."),
        (
            batch(more=1),
            'Unknown field "more"',
            (
                'Unknown field "more". BatchCreated has ref, sku, qty, eta (optional), expires_on (optional),'
                " location (optional), delivery (optional), quarantine (optional), eta_unknown (optional)."
            ),
        ),
        (b'{"ref":"b"}', "Missing field sku", "Missing field sku. Send sku: 1 to 255 printable characters."),
    ],
)
def test_a_refusal_names_the_value_and_the_cure(server: Server, body: bytes, message: str, detail: str) -> None:
    problem = server.client.post("/add_batch", content=body, headers=JSON).json()
    assert (problem["message"], problem["detail"]) == (message, detail)


@pytest.mark.parametrize("path", ["/allocate", "/change_batch_quantity"])
@pytest.mark.parametrize("qty", ["3", 1.5, True, None, [], -1, 10**30])
def test_every_event_checks_its_quantity(unchanged: Server, path: str, qty: Any) -> None:
    fields = {"orderid": "o", "sku": "S"} if path == "/allocate" else {"ref": "b"}
    check_problem(unchanged.post(path, {**fields, "qty": qty}), 400, "invalid-message")


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]
)
def test_a_wrong_content_type_is_415(unchanged: Server, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = unchanged.client.post("/add_batch", content=batch(), headers=headers)
    check_problem(response, 415, "wrong-content-type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;a=b"]
)
def test_a_content_type_may_have_parameters(unchanged: Server, content_type: str) -> None:
    response = unchanged.client.post("/add_batch", content=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 400


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/allocate", "/bulk"])
def test_a_wrong_method_is_405_and_says_which_is_right(unchanged: Server, method: str, path: str) -> None:
    response = unchanged.client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        check_problem(response, 405, "method-not-allowed")


@pytest.mark.parametrize("path", ["/products", "/events/x", "/healthz", "/openapi.json"])
def test_what_is_read_takes_no_other_method(unchanged: Server, path: str) -> None:
    response = unchanged.client.post(path, json={})
    check_problem(response, 405, "method-not-allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", ["/nope", "/allocate/", "/products/../../etc", "/allocations", "/%00", "/problems/nope"]
)
def test_an_unknown_path_is_404(unchanged: Server, path: str) -> None:
    check_problem(unchanged.client.get(path), 404, "unknown-path")


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("/allocations/nope", "unknown-order"),
        ("/products/nope", "unknown-sku"),
        ("/products/", "unknown-sku"),
        ("/products/%00", "unknown-sku"),
        ("/products/%ff", "unknown-sku"),
        (f"/products/{'x' * 256}", "unknown-sku"),
        ("/batches/nope", "unknown-batch"),
        ("/events/nope", "unknown-message"),
        ("/events/nope~1", "unknown-message"),
        (f"/events/nope~{2**31}", "unknown-message"),
        (f"/events/nope~{'9' * 5_000}", "unknown-message"),
    ],
)
def test_what_nobody_knows_is_404(unchanged: Server, path: str, slug: str) -> None:
    check_problem(unchanged.client.get(path), 404, slug)


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=٣", "limit=1e2"),
        *("after=-1", f"after={2**63}", "after=9999999999999999999999", "after=x", "nope=1"),
        *("sku=", "sku=%00", f"orderid={'x' * 256}"),
    ],
)
def test_a_wrong_parameter_is_400(unchanged: Server, query: str) -> None:
    check_problem(unchanged.client.get(f"/events?{query}"), 400, "invalid-message")


@pytest.mark.parametrize("key", [b"", b"a\tb", b"x" * 256, b"\xff", b"a~1", b"\xc2\x85", b"\xe2\x80\x8b"])
def test_an_unusable_idempotency_key_is_400(unchanged: Server, key: bytes) -> None:
    headers = {b"Content-Type": b"application/json", b"Idempotency-Key": key}
    response = unchanged.client.post("/add_batch", content=batch(), headers=headers)
    check_problem(response, 400, "invalid-message")


def test_a_body_of_the_limit_is_read_and_a_longer_one_is_413(unchanged: Server) -> None:
    padded = batch(qty=0)[:-1].ljust(LIMIT - 1) + b"}"
    check_problem(unchanged.client.post("/add_batch", content=padded, headers=JSON), 400, "invalid-message")
    check_problem(unchanged.client.post("/add_batch", content=padded + b" ", headers=JSON), 413, "too-large")


def test_a_longer_body_of_unknown_length_is_413(unchanged: Server) -> None:
    chunks = (b" " * 65_536 for _ in range(LIMIT // 65_536 + 1))
    check_problem(unchanged.client.post("/add_batch", content=chunks, headers=JSON), 413, "too-large")


def test_a_body_in_many_chunks_is_read_whole(unchanged: Server) -> None:
    chunks = (bytes([byte]) for byte in batch(qty=0))
    response = unchanged.client.post("/add_batch", content=chunks, headers=JSON)
    assert response.json()["message"] == "qty is 0"


def test_too_long_a_body_is_refused_before_it_is_sent(unchanged: Server) -> None:
    head = f"POST /add_batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {LIMIT + 1}\r\n"
    assert exchange(unchanged, head.encode() + b"Expect: 100-continue\r\n\r\n").startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /allocate HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /allocate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_400(unchanged: Server, request_: bytes) -> None:
    assert exchange(unchanged, request_).startswith(b"HTTP/1.1 400")


def test_who_leaves_before_the_end_of_its_request_changes_nothing(unchanged: Server) -> None:
    head = b"POST /add_batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", unchanged.port)) as connection:
        connection.sendall(head + batch())


def exchange(server: Server, request: bytes) -> bytes:
    """The beginning of what is answered to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65_536)

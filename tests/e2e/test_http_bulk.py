"""``POST /bulk``: one result a line, in order, while the input still streams."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, BinaryIO

import pytest

from tests.services import Server, StartServer, unique

JSON_LINES = {"Content-Type": "application/x-ndjson"}
HEAD = b"POST /bulk HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def batch(ref: str, sku: str, qty: int) -> dict[str, Any]:
    return {"type": "BatchCreated", "ref": ref, "sku": sku, "qty": qty}


def line(orderid: str, sku: str, qty: int = 1) -> dict[str, Any]:
    return {"type": "AllocationRequired", "orderid": orderid, "sku": sku, "qty": qty}


def encoded(*events: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def bulk(server: Server, content: bytes | Iterable[bytes]) -> list[dict[str, Any]]:
    response = server.client.post("/bulk", content=content, headers=JSON_LINES)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(result) for result in response.text.splitlines()]


def test_every_line_gets_its_result_in_order_and_refusals_do_not_touch_the_others(server: Server) -> None:
    sku, ref, orderid, nobody = unique("sku"), unique("b"), unique("o"), unique("nobody")
    content = (
        encoded(batch(ref, sku, 10), line(orderid, sku, 6))
        + b"\n  \r\n"
        + encoded(line(orderid, sku, 5), line("o", nobody), {"type": "BatchQuantityChanged", "ref": ref, "qty": 5})
        + b'{"type":"Allocated","orderid":"o","sku":"s","qty":1,"batchref":"b"}\nnope\n[]\n{"type":"BatchCreated"}\n'
        + encoded(line(unique("o"), sku, 2)).rstrip()
    )
    results = bulk(server, content)
    assert [(result["line"], result["status"]) for result in results] == [
        (1, 201),
        (2, 201),
        (5, 409),
        (6, 400),
        (7, 201),
        (8, 400),
        (9, 400),
        (10, 400),
        (11, 400),
        (12, 201),
    ]
    assert results[0] == {"line": 1, "status": 201, "batchref": ref}
    assert results[3]["message"] == f"Invalid sku {nobody}"
    assert results[3]["detail"] == f"Invalid sku {nobody}. Add a batch of it first."
    moved = [{"orderid": orderid, "sku": sku, "qty": 6, "from": ref, "to": None}]
    assert results[4] == {"line": 7, "status": 201, "batchref": ref, "moved": moved}
    assert results[9]["batchref"] == ref


def test_ten_thousand_lines_in_chunks_of_any_size(server: Server) -> None:
    sku, ref = unique("sku"), unique("b")
    events = [batch(ref, sku, 9_000), *(line(f"{ref}-{number}", sku) for number in range(9_999))]
    content = encoded(*events)
    results = bulk(server, (content[start : start + 7_919] for start in range(0, len(content), 7_919)))
    assert [result["line"] for result in results] == list(range(1, 10_001))
    assert {result["status"] for result in results} == {201}
    assert sum(result["batchref"] == ref for result in results) == 9_001
    found = server.get(f"/products/{sku}")
    assert (found["allocated_quantity"], found["waiting_lines"]) == (9_000, 999)


def test_a_line_with_an_id_is_recognised_when_it_is_repeated(server: Server) -> None:
    sku, ref, key = unique("sku"), unique("b"), unique("key")
    count = {"type": "BatchQuantityChanged", "ref": ref, "qty": 1, "id": key}
    first = bulk(server, encoded(batch(ref, sku, 5), line(unique("o"), sku, 5), count))
    server.post("/change_batch_quantity", {"ref": ref, "qty": 7})
    again = bulk(server, encoded(count, {**count, "qty": 2}, {**count, "id": 5}, {**count, "id": ""}))
    assert first[2]["moved"]
    assert again[0] == {**first[2], "line": 1}
    assert [result["status"] for result in again] == [201, 422, 400, 400]
    assert server.get(f"/batches/{ref}")["purchased_quantity"] == 7


def test_a_line_over_the_limit_is_refused_and_the_next_one_is_read(server: Server) -> None:
    sku, ref = unique("sku"), unique("b")
    long = b'{"type":"BatchCreated","ref":"' + b"x" * 3 * 1024 * 1024 + b'","sku":"s","qty":1}\n'
    results = bulk(server, long + encoded(batch(ref, sku, 5)))
    assert [result["status"] for result in results] == [413, 201]
    assert results[0]["message"] == "The line has more than 1048576 bytes"


def test_no_lines_get_no_results(server: Server) -> None:
    assert bulk(server, b"") == []
    assert bulk(server, b"\n\r\n \n") == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 415),
        ({}, 415),
        ({**JSON_LINES, "Idempotency-Key": "k"}, 400),
        ({**JSON_LINES, "Idempotency-Key": ""}, 400),
    ],
)
def test_a_request_that_is_no_stream_of_lines_is_refused(server: Server, headers: dict[str, str], status: int) -> None:
    sku = unique("sku")
    response = server.client.post("/bulk", content=encoded(batch(unique("b"), sku, 5)), headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert server.client.get(f"/products/{sku}").status_code == 404


class Stream:
    """A client that reads results while it sends lines."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.socket.sendall(HEAD)
        self._file: BinaryIO | None = None

    def send(self, content: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(content), content))

    def send_again_and_again(self, content: bytes, times: int) -> None:
        for _ in range(times):
            self.send(content)

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def results(self) -> Iterator[dict[str, Any]]:
        """Results as they come, to the end of the response."""
        if self._file is None:
            self._file = self.socket.makefile("rb")
            while self._file.readline() != b"\r\n":
                pass
        rest = b""
        while size := int(self._file.readline(), 16):
            *lines, rest = (rest + self._file.read(size)).split(b"\n")
            yield from (json.loads(each) for each in lines)
            self._file.readline()
        assert rest == b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self.socket.close()


def test_results_come_while_the_input_still_streams(server: Server) -> None:
    sku, ref = unique("sku"), unique("b")
    with closing(Stream(server)) as stream:
        stream.send(encoded(batch(ref, sku, 5)) + b'{"type":"Alloc')
        results = stream.results()
        assert next(results) == {"line": 1, "status": 201, "batchref": ref}
        stream.send(encoded(line(unique("o"), sku))[len(b'{"type":"Alloc') + 1 :])
        stream.send(b"\n")
        assert next(results)["line"] == 2
        stream.end()
        assert list(results) == []


def test_who_leaves_in_the_middle_of_a_line_has_the_complete_ones_done(server: Server) -> None:
    sku, ref = unique("sku"), unique("b")
    with closing(Stream(server)) as stream:
        stream.send(encoded(batch(ref, sku, 5)) + encoded(line(unique("o"), sku)).rstrip())
        assert next(stream.results())["batchref"] == ref
    assert bulk(server, encoded(line(unique("o"), sku, 5)))[0]["batchref"] == ref


def test_a_client_that_does_not_read_is_not_read_from(server: Server) -> None:
    sku = unique("sku")
    block = encoded(*(line(f"o{number}", sku) for number in range(1_000)))
    with closing(Stream(server)) as stream:
        stream.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            stream.send_again_and_again(block, times=1_000)
        assert server.get("/readyz")


def test_lines_wait_for_room_in_the_queue_instead_of_failing(start_server: StartServer) -> None:
    server = start_server(ALLOCATION_MAX_QUEUED="3")
    events = [batch("b", "sku", 500), *(line(f"o{number}", "sku") for number in range(500))]
    assert {result["status"] for result in bulk(server, encoded(*events))} == {201}


def test_a_server_that_stops_answers_what_it_read_and_says_where_to_go_on(start_server: StartServer) -> None:
    server = start_server()
    with closing(Stream(server)) as stream:
        stream.send(encoded(batch("b", "sku", 5)))
        results = stream.results()
        assert next(results)["status"] == 201
        server.process.send_signal(signal.SIGTERM)
        (last,) = results
        assert (last["line"], last["status"]) == (2, 503)
        assert "shutting down" in last["message"]
    assert server.process.wait(10) == 0
    assert server.errors() == []

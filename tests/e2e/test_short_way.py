"""The short way from socket to writer, and the long one beside it, spoken to in raw HTTP/1.1."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.services import Server, unique

HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}"


@pytest.fixture
def server(sqlite_server: Server) -> Server:
    return sqlite_server


@pytest.fixture
def sku() -> str:
    return unique("LAMP")


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connected:
        yield connected


def request(path: str, body: str, *, more: str = "", length: bool = True) -> bytes:
    lines = HEAD.format(path=path, more=more) + (f"Content-Length: {len(body.encode())}\r\n" if length else "")
    return (lines + "\r\n" + body).encode()


def batch(sku: str) -> str:
    return json.dumps({"ref": f"of-{sku}", "sku": sku, "qty": 10})


def line(orderid: str, sku: str, qty: int = 1) -> str:
    return json.dumps({"orderid": orderid, "sku": sku, "qty": qty})


class Responses:
    """Reads one response after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def next(self) -> tuple[int, dict[str, str], object]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while text := self._file.readline().strip().decode():
            name, _, value = text.partition(": ")
            headers[name.lower()] = value
        body = self._file.read(int(headers.get("content-length", 0)))
        return status, headers, json.loads(body) if body else None

    def at_end(self) -> bool:
        return self._file.read(1) == b""


def test_answers_requests_of_one_connection_in_turn(connection: socket.socket, sku: str) -> None:
    responses = Responses(connection)
    connection.sendall(request("/add_batch", batch(sku)))
    assert responses.next()[::2] == (201, {"batchref": f"of-{sku}"})
    connection.sendall(request("/allocate", line("o1", sku)))
    status, headers, body = responses.next()
    assert (status, body) == (201, {"batchref": f"of-{sku}"})
    assert headers["content-type"] == "application/json"
    assert headers["server"] == "allocation"
    assert "date" in headers


def test_answers_pipelined_requests_in_their_order_whichever_way_they_take(connection: socket.socket, sku: str) -> None:
    responses = Responses(connection)
    connection.sendall(
        request("/add_batch", batch(sku))
        + request("/allocate", line("o1", sku))
        + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        + request("/allocate", line("o2", sku, qty=20))
        + request("/allocate", '{"orderid": "o3"}')
        + request("/allocate", line("o4", sku))
    )
    answers = [responses.next() for _ in range(6)]
    assert [status for status, _, _ in answers] == [201, 201, 200, 201, 400, 201]
    assert [body for _, _, body in answers[:2]] == [{"batchref": f"of-{sku}"}, {"batchref": f"of-{sku}"}]
    assert answers[3][2] == {"batchref": None}
    assert answers[5][2] == {"batchref": f"of-{sku}"}


def test_reads_a_request_that_comes_byte_by_byte(connection: socket.socket, sku: str) -> None:
    for byte in request("/add_batch", batch(sku)):
        connection.sendall(bytes([byte]))
    assert Responses(connection).next()[::2] == (201, {"batchref": f"of-{sku}"})


def test_a_chunked_request_takes_the_long_way(connection: socket.socket, sku: str) -> None:
    body = batch(sku)
    head = request("/add_batch", "", more="Transfer-Encoding: chunked\r\n", length=False)
    connection.sendall(head + f"{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode())
    assert Responses(connection).next()[::2] == (201, {"batchref": f"of-{sku}"})


def test_a_client_that_expects_100_gets_it(connection: socket.socket, sku: str) -> None:
    body = batch(sku)
    whole = request("/add_batch", body, more="Expect: 100-continue\r\n")
    responses = Responses(connection)
    connection.sendall(whole[: -len(body)])
    assert responses.next()[0] == 100
    connection.sendall(body.encode())
    assert responses.next()[::2] == (201, {"batchref": f"of-{sku}"})


def test_closes_the_connection_when_asked_to(connection: socket.socket, sku: str) -> None:
    responses = Responses(connection)
    connection.sendall(request("/add_batch", batch(sku), more="Connection: close\r\n"))
    status, headers, _ = responses.next()
    assert (status, headers["connection"]) == (201, "close")
    assert responses.at_end()


def test_speaks_http_1_0_by_closing(connection: socket.socket, sku: str) -> None:
    connection.sendall(request("/add_batch", batch(sku)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    responses = Responses(connection)
    assert responses.next()[0] == 201
    assert responses.at_end()


def test_refuses_a_body_announced_too_long_before_it_comes(connection: socket.socket) -> None:
    head = HEAD.format(path="/allocate", more="Content-Length: 2000000\r\n") + "\r\n"
    connection.sendall(head.encode())
    assert Responses(connection).next()[0] == 413


@pytest.mark.parametrize(
    ("more", "status"),
    [("Idempotency-Key: \r\n", 400), ("Idempotency-Key: a~b\r\n", 400), ("Idempotency-Key: short-way-1\r\n", 201)],
)
def test_reads_the_idempotency_key(connection: socket.socket, sku: str, more: str, status: int) -> None:
    connection.sendall(request("/add_batch", batch(sku), more=more))
    assert Responses(connection).next()[0] == status


@pytest.mark.parametrize("way", ["short", "long"])
@pytest.mark.parametrize(
    ("name", "actor"),
    [
        (None, "http"),
        ("anna", "http:anna"),
        ("Jörg (returns desk)", "http:Jörg (returns desk)"),
        ("x" * 100, f"http:{'x' * 100}"),
    ],
)
def test_tells_the_ledger_who_sends(
    server: Server, connection: socket.socket, sku: str, way: str, name: str | None, actor: str
) -> None:
    named = b"" if name is None else b"Actor: %s\r\n" % name.encode()
    assert sent(connection, sku, named, way)[0] == 201
    assert [each["actor"] for each in server.get("/events", sku=sku)["events"]] == [actor]


@pytest.mark.parametrize("way", ["short", "long"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"", 'Actor "" is not usable'),
        (b"x" * 101, f'Actor "{"x" * 59}… is not usable'),
        (b"anna\tb", "Actor 'anna\\tb' is not usable"),
        (b"\xc2\x85", "Actor '\\x85' is not usable"),
        (b"\xff", "The Actor is not UTF-8"),
    ],
)
def test_refuses_an_actor_that_cannot_be_one(
    server: Server, connection: socket.socket, sku: str, way: str, name: bytes, message: str
) -> None:
    status, _, told = sent(connection, sku, b"Actor: %s\r\n" % name, way)
    assert isinstance(told, dict)
    assert (status, told["type"], told["message"]) == (400, "/problems/invalid-message", message)
    assert server.get("/events", sku=sku)["events"] == []


def sent(connection: socket.socket, sku: str, more: bytes, way: str) -> tuple[int, dict[str, str], object]:
    """What adding a batch is answered; chunked, it takes the long way."""
    body = batch(sku)
    if way == "short":
        whole = request("/add_batch", body, more="MORE")
    else:
        head = request("/add_batch", "", more="Transfer-Encoding: chunked\r\nMORE", length=False)
        whole = head + f"{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
    connection.sendall(whole.replace(b"MORE", more, 1))
    return Responses(connection).next()


def test_the_same_request_of_somebody_else_gets_the_first_answer(server: Server, sku: str) -> None:
    for name in ("anna", "ben"):
        same = {"ref": f"of-{sku}", "sku": sku, "qty": 10}
        assert server.post("/add_batch", same, Idempotency_Key=f"key of {sku}", Actor=name).status_code == 201
    assert [each["actor"] for each in server.get("/events", sku=sku)["events"]] == ["http:anna"]


def test_all_lines_of_a_bulk_have_its_actor(server: Server, sku: str) -> None:
    lines = "".join(f'{{"type": "BatchCreated", "ref": "{sku}-{n}", "sku": "{sku}", "qty": 1}}\n' for n in range(2))
    headers = {"content-type": "application/x-ndjson"}
    assert server.client.post("/bulk", content=lines, headers=headers | {"actor": "anna"}).status_code == 200
    assert [each["actor"] for each in server.get("/events", sku=sku)["events"]] == ["http:anna"] * 2
    assert server.client.post("/bulk", content=lines, headers=headers | {"actor": "x" * 101}).status_code == 400
    body = {"ref": f"{sku}-3", "sku": sku, "qty": 1}
    assert server.post("/preview/add_batch", body, Actor="anna").status_code == 200
    assert server.post("/preview/add_batch", body, Actor="x" * 101).status_code == 400


def test_a_client_that_leaves_harms_nobody(server: Server, connection: socket.socket, sku: str) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(request("/add_batch", batch(unique("LEFT"))))
    connection.sendall(request("/add_batch", batch(sku)))
    assert Responses(connection).next()[::2] == (201, {"batchref": f"of-{sku}"})


def test_many_connections_at_once_get_each_their_own_answer(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    wrong: list[object] = []

    def talk(number: int) -> None:
        with socket.create_connection((host, int(port)), timeout=20) as talking:
            responses = Responses(talking)
            for turn in range(10):
                ref = f"b-{number}-{turn}"
                talking.sendall(request("/add_batch", json.dumps({"ref": ref, "sku": f"MANY-{number}", "qty": 1})))
                if responses.next()[2] != {"batchref": ref}:
                    wrong.append(ref)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []


def test_an_idle_connection_may_be_used_again_later(connection: socket.socket, sku: str) -> None:
    responses = Responses(connection)
    connection.sendall(request("/add_batch", batch(sku)))
    responses.next()
    time.sleep(0.3)
    connection.sendall(request("/allocate", line("o1", sku)))
    assert responses.next()[::2] == (201, {"batchref": f"of-{sku}"})

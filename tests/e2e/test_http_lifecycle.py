"""The server process: full queues, stopping, and what it needs to start."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers import PostgresServer
from tests.services import SERVE, Server, StartServer
from tests.waiting import wait_until

DEADLINE_S = 10.0
# Long to load, and for a database that is new, for a plan of moves, or for people who look at something.
NOT_TO_START = {
    "alembic",
    "highspy",
    "jinja2",
    "pydantic",
    "allocation.entrypoints.console.app",
    "allocation.entrypoints.http.openapi",
}


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else can write meanwhile, so that what the server takes piles up."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def post_in_background(pool: ThreadPoolExecutor, server: Server, number: int) -> Future[httpx.Response]:
    return pool.submit(server.post, "/add_batch", {"ref": f"b{number}", "sku": "LAMP", "qty": 1})


def wait_until_full(server: Server) -> httpx.Response:
    def refused() -> httpx.Response | None:
        response = server.client.get("/readyz")
        return response if response.status_code != 200 else None

    response = wait_until(refused)
    assert response is not None
    return response


def test_a_full_queue_is_503_and_says_when_to_come_again(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(ALLOCATION_MAX_QUEUED="3")
    server.add_batch("b", "LAMP", 1)
    with ThreadPoolExecutor(4) as pool:
        with locked(tmp_path / "server.db"):
            accepted = [post_in_background(pool, server, 0)]
            time.sleep(0.2)  # the writer takes it out of the queue
            accepted += [post_in_background(pool, server, number) for number in (1, 2, 3)]
            not_ready = wait_until_full(server)
            refused = server.post("/allocate", {"orderid": "o1", "sku": "LAMP", "qty": 1})
            assert server.get("/healthz")
        assert [each.result().status_code for each in accepted] == [201] * 4
    for response in (refused, not_ready):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["type"] == "/problems/unavailable"
    assert server.client.get("/allocations/o1").status_code == 404
    assert server.get("/readyz") == {"status": "ready"}
    assert server.errors() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_answers_every_request_it_took(
    start_server: StartServer, tmp_path: Path, number: signal.Signals
) -> None:
    server = start_server(ALLOCATION_MAX_QUEUED="10")  # fewer than are handled ahead
    server.add_batch("b", "LAMP", 1)
    with ThreadPoolExecutor(11) as pool:
        with locked(tmp_path / "server.db"):
            accepted = [post_in_background(pool, server, 0)]
            time.sleep(0.2)
            accepted += [post_in_background(pool, server, number) for number in range(1, 11)]
            wait_until_full(server)
            server.process.send_signal(number)
            wait_until_closed(server.port)
        answered = [each.result() for each in accepted]
    assert [response.json() for response in answered] == [{"batchref": f"b{number}"} for number in range(11)]
    assert server.process.wait(DEADLINE_S) == 0
    assert server.errors() == []
    with closing(sqlite3.connect(tmp_path / "server.db")) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (12,)


def wait_until_closed(port: int) -> None:
    def refuses() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refuses)


def test_answers_its_first_order_without_having_loaded_what_orders_do_not_need(start_server: StartServer) -> None:
    start_server().stop()  # a new database needs more
    server = start_server(PYTHONPROFILEIMPORTTIME="1")
    server.add_batch("b", "LAMP", 1)
    assert server.allocate("o1", "LAMP", 1) == "b"
    assert loaded(server) & NOT_TO_START == set()
    for page in ("/console/", "/openapi.json"):
        assert server.client.get(page).status_code == 200
    assert loaded(server) > {"jinja2", "allocation.entrypoints.console.app", "allocation.entrypoints.http.openapi"}


def loaded(server: Server) -> set[str]:
    """The modules, of which Python writes a line each when it is told to profile imports."""
    lines = [line["event"] for line in server.logged()]
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def test_what_was_promised_is_there_after_a_restart(start_server: StartServer) -> None:
    server = start_server()
    server.add_batch("b", "LAMP", 1)
    assert server.allocate("o1", "LAMP", 1) == "b"
    assert server.stop() == 0
    assert start_server().get("/allocations/o1") == [{"sku": "LAMP", "qty": 1, "batchref": "b", "state": "allocated"}]


def test_a_failure_is_500_and_tells_no_more_than_that(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    server.add_batch("b", "LAMP", 10)
    with closing(sqlite3.connect(tmp_path / "server.db", isolation_level=None)) as connection:
        connection.execute("UPDATE batches SET allocated_quantity = 5")  # of no line
        connection.execute("UPDATE ledger SET recorded_at = 'secret'")
    count = {"type": "BatchQuantityChanged", "ref": "b", "qty": 1}
    for response in (
        server.client.get("/events"),
        server.post("/change_batch_quantity", {"ref": "b", "qty": 1}),
        server.client.post("/bulk", json=count, headers={"Content-Type": "application/x-ndjson"}),
    ):
        assert response.json()["status"] == 500
        assert response.json()["message"] == "The service failed, and nothing was changed"
        assert "secret" not in response.text
        assert "Traceback" not in response.text
    assert any("no lines" in str(error) or "than it has lines for" in str(error) for error in server.errors())
    assert server.allocate("o1", "LAMP", 5) == "b"


def test_without_its_database_it_is_alive_and_not_ready(start_server: StartServer) -> None:
    with PostgresServer() as postgres:
        server = start_server(ALLOCATION_DATABASE_URL=postgres.create_database("lost"))
        assert server.get("/readyz")
        postgres.kill()
        for path in ("/readyz", "/products"):
            response = server.client.get(path)
            assert response.status_code == 503
            assert response.json()["message"] == "The database is unavailable"
        assert server.get("/healthz")
        postgres.start()
        server.add_batch("b", "LAMP", 1)
        assert server.get("/readyz")
    assert server.errors() == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"ALLOCATION_DATABASE_URL": "mysql://nope"}, "'mysql://nope' is not a database URL"),
        ({"ALLOCATION_HOST": "256.0.0.1"}, "Cannot listen on 256.0.0.1 port"),
    ],
)
def test_it_says_why_it_cannot_start(tmp_path: Path, settings: dict[str, str], complaint: str) -> None:
    environment = {"ALLOCATION_DATABASE_URL": f"sqlite:///{tmp_path / 'a.db'}", "ALLOCATION_PORT": "0", **settings}
    ended = subprocess.run(SERVE, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode != 0
    assert complaint in ended.stderr


def test_a_port_in_use_is_named(start_server: StartServer) -> None:
    server = start_server()
    environment = {"ALLOCATION_PORT": str(server.port)}
    ended = subprocess.run(SERVE, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert f"Cannot listen on 127.0.0.1 port {server.port}: Address already in use" in ended.stderr

"""The real server as a process of its own, and clients of it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 45.0
REQUEST_TIMEOUT_S = 30.0
POLL_S = 0.02
SERVE = [sys.executable, "-m", "allocation.entrypoints.cli", "serve"]

_numbers = itertools.count(1)


def unique(name: str) -> str:
    """A name that no other test has used: tests share a server."""
    return f"{name}-{next(_numbers)}"


class Server:
    """One server process, its log, and a client of it."""

    def __init__(self, log: Path, settings: Mapping[str, str]) -> None:
        self._log = log
        self._position = 0
        environment = os.environ | {"ALLOCATION_PORT": "0", **settings}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(SERVE, stderr=stderr, env=environment)
        self.url = self._wait_until_it_listens()
        self.client = httpx.Client(base_url=self.url, timeout=REQUEST_TIMEOUT_S)

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 0

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, json=body, headers=named)

    def get(self, path: str, **parameters: Any) -> Any:
        """What is answered to a request that must succeed."""
        response = self.client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def pages(self, path: str, cursor: str, **parameters: Any) -> Iterator[Any]:
        """Every page, by following ``next_…`` of that parameter."""
        page = self.get(path, **parameters)
        yield page
        seen = set()
        while (value := page[f"next_{cursor}"]) is not None:
            assert value not in seen, f"{path} leads in a circle"
            seen.add(value)
            page = self.get(path, **{**parameters, cursor: value})
            yield page

    def add_batch(self, ref: str, sku: str, qty: int, eta: str | None = None) -> None:
        response = self.post("/add_batch", {"ref": ref, "sku": sku, "qty": qty, "eta": eta})
        assert response.status_code == 201, response.text

    def allocate(self, orderid: str, sku: str, qty: int) -> str | None:
        response = self.post("/allocate", {"orderid": orderid, "sku": sku, "qty": qty})
        assert response.status_code == 201, response.text
        batchref: str | None = response.json()["batchref"]
        return batchref

    def ledger_position(self) -> int:
        """Of the last message: it grows with everything that changes anything."""
        for page in self.pages("/events", "after", limit=1_000, after=self._position):
            if page["events"]:
                self._position = page["events"][-1]["position"]
        return self._position

    def logged(self) -> list[dict[str, Any]]:
        """The lines of the log; one that is not ours is an error's."""
        return [_parsed(line) for line in self._log.read_text().splitlines()]

    def errors(self) -> list[dict[str, Any]]:
        return [line for line in self.logged() if line["level"] not in {"debug", "info", "warning"}]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            try:
                self.stop()
            finally:
                self.process.kill()
                self.process.wait()

    def _wait_until_it_listens(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.logged():
                if line["event"] == "serving":
                    return str(line["url"])
            time.sleep(POLL_S)
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"The server did not start:\n{self._log.read_text()}")


def _parsed(line: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"level": "unknown", "event": line}
    return parsed


@contextmanager
def running(log: Path, **settings: str) -> Iterator[Server]:
    server = Server(log, settings)
    try:
        yield server
    finally:
        server.close()


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start a server of the test's own, with settings such as ``ALLOCATION_MAX_QUEUED="1"``, on a file of its own."""
    servers: list[Server] = []

    def start(**settings: str) -> Server:
        settings.setdefault("ALLOCATION_DATABASE_URL", f"sqlite:///{tmp_path / 'server.db'}")
        servers.append(Server(tmp_path / f"server-{len(servers)}.log", settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def _sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sqlite-server")
    with running(folder / "server.log", ALLOCATION_DATABASE_URL=f"sqlite:///{folder / 'allocation.db'}") as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_e2e_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = request.getfixturevalue("postgres_server").create_database("e2e")
    with running(tmp_path_factory.mktemp("postgres-server") / "server.log", ALLOCATION_DATABASE_URL=url) as server:
        yield server


@pytest.fixture(params=["sqlite_server", "postgres_e2e_server"], ids=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server, shared by the tests: once on each kind of database. None may make it log an error."""
    shared: Server = request.getfixturevalue(f"_{request.param}")
    logged = len(shared.errors())
    yield shared
    assert shared.errors()[logged:] == []

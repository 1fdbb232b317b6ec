"""The real service as a process of its own, clients of it, and those that tests share."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import wait_until

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0
REQUEST_TIMEOUT_S = 30.0
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

    def logged(self, since: int = 0) -> list[dict[str, Any]]:
        """The lines of the log after so many bytes; one that is not ours is an error's."""
        with self._log.open("rb") as log:
            log.seek(since)
            *lines, unfinished = log.read().decode(errors="replace").split("\n")
        if unfinished and self.process.poll() is not None:
            lines.append(unfinished)
        return [_parsed(line) for line in lines]

    def errors(self, since: int = 0) -> list[dict[str, Any]]:
        return [line for line in self.logged(since) if line["level"] not in {"debug", "info", "warning"}]

    @contextmanager
    def watched(self, *expected: str) -> Iterator[None]:
        """Nothing done to it meanwhile makes it log an error but the expected ones."""
        before = self._log.stat().st_size
        yield
        surprises = [error for error in self.errors(before) if error["event"] not in expected]
        assert not surprises, surprises

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
        def url() -> str | None:
            assert self.process.poll() is None, "it ended"
            return next((str(line["url"]) for line in self.logged() if line["event"] == "serving"), None)

        try:
            return wait_until(url, START_TIMEOUT_S) or ""
        except AssertionError as failure:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"The server did not start:\n{self._log.read_text()}") from failure


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


class Services:
    """Servers that tests share: one for each kind of database and each set of settings, started when first asked for.

    Tests are told apart by the names they use, see `unique`.
    """

    def __init__(self, folder: Path, create_postgres_database: Callable[[str], str]) -> None:
        self._folder = folder
        self._create_postgres_database = create_postgres_database
        self._running: dict[tuple[str, frozenset[tuple[str, str]]], Server] = {}
        self._stack = ExitStack()

    def shared(self, kind: str, **settings: str) -> Server:
        key = kind, frozenset(settings.items())
        if key not in self._running:
            name = f"service_{len(self._running)}"
            url = f"sqlite:///{self._folder / name}.db" if kind == "sqlite" else self._create_postgres_database(name)
            server = running(self._folder / f"{name}.log", ALLOCATION_DATABASE_URL=url, **settings)
            self._running[key] = self._stack.enter_context(server)
        return self._running[key]

    def close(self) -> None:
        self._stack.close()

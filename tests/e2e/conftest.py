"""Servers to send requests to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import Server, Services, StartServer


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


@pytest.fixture
def sqlite_server(request: pytest.FixtureRequest, services: Services) -> Iterator[Server]:
    """A running server on SQLite, shared by the tests that ask for the same settings; see the mark ``served``."""
    yield from _shared("sqlite", request, services)


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, services: Services) -> Iterator[Server]:
    """The same, once on each kind of database."""
    yield from _shared(request.param, request, services)


def _shared(kind: str, request: pytest.FixtureRequest, services: Services) -> Iterator[Server]:
    """With the settings and for the errors that the test's mark names, or else as it comes, and for none."""
    mark = request.node.get_closest_marker("served")
    server = services.shared(kind, **(mark.kwargs if mark else {}))
    with server.watched(*(mark.args if mark else ())):
        yield server

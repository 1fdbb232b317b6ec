"""Every kind of store, empty and ready, for tests that all of them pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from allocation.adapters.memory import MemoryStore, MemoryTables
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.service_layer.writing.store import Changes, Loaded, Session, Store, Wanted
from tests.builders import Contents, contents

T = TypeVar("T")

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Place:
    """A store, and what it keeps."""

    def __init__(self, store: Store, where: MemoryTables | URL) -> None:
        self.store = store
        self.where = where
        self.runner = asyncio.Runner()

    def run(self, work: Callable[[Session], T]) -> T:
        return self.runner.run(self.store.run(work))

    def save(self, **parts: Any) -> None:
        self.run(lambda session: session.save(Changes(MOMENT, **parts)))

    def load(self, **wanted: Any) -> Loaded:
        return self.run(lambda session: session.load(Wanted(**wanted)))

    def contents(self) -> Contents:
        return self.runner.run(contents(self.where))

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The test runs once for each kind of store."""
    place = open_place(request)
    yield place
    place.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The test runs once for each store that is a database."""
    place = open_place(request)
    yield place
    place.close()


def open_place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        in_memory = MemoryStore()
        return Place(in_memory, in_memory.tables)
    url = make_url(request.getfixturevalue(f"{request.param}_url"))
    return Place(SqliteStore(url) if request.param == "sqlite" else PostgresStore(url), url)

"""The same messages on memory, SQLite and PostgreSQL side by side."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from sqlalchemy.engine import URL

from allocation.adapters import memory, postgresql, sqlite
from allocation.adapters.tables import metadata
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.writing.store import Store
from allocation.service_layer.writing.writer import Writer
from tests.builders import Contents, contents, dsn, handle_together, new_database
from tests.servers import PostgresServer

EXAMPLES = int(os.environ.get("ALLOCATION_TEST_HISTORIES", "60"))
STEPS = 20
# Finding the shortest history takes minutes; a failing test shows the one it found unless asked for that.
SHRINK = "ALLOCATION_TEST_SHRINK" in os.environ

KEYS = st.none() | st.sampled_from([f"key-{number}" for number in range(6)])


class Place:
    """A store, its writer, and where to look at what it keeps."""

    def __init__(self, store: Store, where: memory.MemoryTables | URL | asyncpg.Connection) -> None:
        self.store = store
        self.where = where
        self.writer = Writer(store)


class SideBySide(RuleBasedStateMachine):
    """Plays messages at every place; what is to be compared, and with what, is said by the rules."""

    def __init__(self, open_places: Callable[[], list[Place]], runner: asyncio.Runner) -> None:
        super().__init__()
        self.runner = runner
        self.places = open_places()
        runner.run(self._start())

    def play(self, messages: list[Message]) -> tuple[list[list[Outcome | Exception]], list[Contents]]:
        """The answers to a group of messages, and what is kept then, by place; the first one is memory."""
        return self.runner.run(self._handled(messages))

    async def _start(self) -> None:
        for place in self.places:
            place.writer.start()

    async def _handled(self, messages: list[Message]) -> tuple[list[list[Outcome | Exception]], list[Contents]]:
        answers = [await handle_together(place.writer, *messages) for place in self.places]
        return answers, [await contents(place.where) for place in self.places]

    def teardown(self) -> None:
        self.runner.run(self._close())

    async def _close(self) -> None:
        for place in self.places:
            await place.writer.close()
            await place.store.close()


async def empty(connection: asyncpg.Connection) -> None:
    for table in metadata.tables:
        await connection.execute(f"DELETE FROM {table}")


@contextlib.contextmanager
def places_of(
    postgres_server: PostgresServer, folder: Path, runner: asyncio.Runner
) -> Iterator[Callable[[], list[Place]]]:
    """Opens a place of each kind, empty, as often as asked."""
    postgres_url = new_database(postgres_server.create_database(f"histories-{folder.name}"))
    look = runner.run(asyncpg.connect(dsn(postgres_url)))
    template = new_database(f"sqlite:///{folder}/template.sqlite")
    files = itertools.count()

    def open_places() -> list[Place]:
        runner.run(empty(look))
        sqlite_url = template.set(database=f"{folder}/{next(files)}.sqlite")
        shutil.copyfile(folder / "template.sqlite", str(sqlite_url.database))
        in_memory = memory.MemoryStore()
        return [
            Place(in_memory, in_memory.tables),
            Place(sqlite.SqliteStore(sqlite_url), sqlite_url),
            Place(postgresql.PostgresStore(postgres_url), look),
        ]

    try:
        yield open_places
    finally:
        runner.run(look.close())


def play_histories(factory: Any) -> None:
    run_state_machine_as_test(
        factory,
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            phases=[phase for phase in hypothesis.Phase if SHRINK or phase is not hypothesis.Phase.shrink],
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )

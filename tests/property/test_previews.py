"""A preview tells exactly what becomes of the same messages right after, on every store, and changes nothing."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest
from sqlalchemy.engine import URL

from allocation.adapters.memory import MemoryStore, MemoryTables
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.adapters.tables import metadata
from allocation.domain.errors import Refusal
from allocation.domain.events import Event
from allocation.domain.lines import NO_DAY, days_late, part_id, state_of
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.previewing.line_changes import LineChange
from allocation.service_layer.previewing.preview import Previews
from allocation.service_layer.writing.writer import Writer
from tests.builders import Contents, contents, dsn, message, new_database
from tests.property.strategies import BEGINNING, NOW, TODAY, TROUBLE
from tests.servers import PostgresServer

EXAMPLES = int(os.environ.get("ALLOCATION_TEST_PREVIEWS", "25"))


AnyStore = MemoryStore | SqliteStore | PostgresStore


class Place:
    """A writer, and previews of what it keeps."""

    def __init__(self, open_store: Callable[[], AnyStore], where: MemoryTables | URL | asyncpg.Connection) -> None:
        self.where = where
        self.store = open_store()
        self.writer = Writer(self.store, clock=lambda: NOW)
        self.previews = Previews(open_store, clock=lambda: NOW)

    async def close(self) -> None:
        await self.writer.close()
        self.previews.close()
        await self.store.close()


async def play(place: Place, beginning: list[Message], trouble: list[Message]) -> None:
    place.writer.start()
    await in_order(place.writer, beginning)
    for each in trouble[:-3]:
        await check(place, [each])
    await check(place, trouble[-3:])
    await place.close()


async def check(place: Place, messages: list[Message]) -> None:
    before = await contents(place.where)
    preview = await place.previews.preview(messages)
    assert await contents(place.where) == before
    outcomes = await in_order(place.writer, messages)
    assert [told(each) for each in preview.outcomes] == [told(each) for each in outcomes]
    after = await contents(place.where)
    assert {change[:2]: change for change in preview.lines} == changed(before, after)


async def in_order(writer: Writer, messages: list[Message]) -> list[Outcome | Exception]:
    outcomes: list[Outcome | Exception] = []
    for each in messages:
        try:
            outcomes.append(await writer.handle(each))
        except Refusal as refusal:
            outcomes.append(refusal)
    return outcomes


def told(outcome: Outcome | Exception) -> Any:
    return outcome if isinstance(outcome, Outcome) else (type(outcome), str(outcome))


def changed(before: Contents, after: Contents) -> dict[tuple[str, str], LineChange]:
    """The lines that differ, told from the rows alone."""
    old = {row[:2]: row for row in before.lines}
    found = {}
    for row in after.lines:
        key = row[:2]
        was, is_ = standing(old.get(origin(row, old)), before), standing(row, after)
        if key not in old or was != is_:
            need_by = row[6] and date.fromisoformat(row[6])
            (late_days, late), (_, was_late) = lateness(need_by, is_), lateness(need_by, was)
            days = (was[2], is_[2], late_days, is_[0] or "", was[0], late, was_late)
            found[key] = LineChange(row[0], row[1], row[2], was[1], is_[1], *days)
    return found


def lateness(need_by: date | None, stands: tuple[str | None, str | None, date | None, int]) -> tuple[int, bool]:
    """By how many days an open line is late, where it stands or since it was needed if it waits; and whether it is."""
    state, _, day, _ = stands
    if state not in {"allocated", "pinned", "held", "waiting"}:
        return 0, False
    if day == NO_DAY:
        return 0, need_by is not None
    late_days = days_late(need_by, day or TODAY)
    return late_days, late_days > 0


def origin(row: Any, old: Mapping[tuple[str, str], Any]) -> tuple[str, str]:
    """The line itself or, if it is a part that is new, the one that it was cut off."""
    orderid, sku, part = row[0], row[1], row[8] or 0
    first = orderid.removesuffix(f"/{part}")
    while (orderid, sku) not in old and part > 1:
        part -= 1
        orderid = part_id(first, part)
    return orderid, sku


def standing(row: Any, kept: Contents) -> tuple[str | None, str | None, date | None, int]:
    """Its state, where it stands, its day and its quantity."""
    if row is None:
        return None, None, None, 0
    _, _, qty, batchref, _, priority, _, closed, _, _, arrived, *_ = row
    etas = {batch[0]: batch[2] for batch in kept.batches}
    eta = None if batchref is None or (arrived and closed is None) else etas[batchref]
    day = None if batchref is None else date.fromisoformat(eta) if eta else TODAY
    return state_of(batchref, closed, priority), batchref, day, qty


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def open_places(
    postgres_server: PostgresServer, tmp_path: Path, runner: asyncio.Runner
) -> Iterator[Callable[[], list[Place]]]:
    """Opens a store of each kind, with nothing in it."""
    postgres_url = new_database(postgres_server.create_database("previews"))
    template = new_database(f"sqlite:///{tmp_path}/template.sqlite")
    files = itertools.count()
    look = runner.run(asyncpg.connect(dsn(postgres_url)))

    def places() -> list[Place]:
        for table in metadata.tables:
            runner.run(look.execute(f"DELETE FROM {table}"))
        url = template.set(database=f"{tmp_path}/{next(files)}.sqlite")
        shutil.copyfile(tmp_path / "template.sqlite", str(url.database))
        memory = MemoryStore()
        return [
            Place(lambda: memory, memory.tables),
            Place(lambda: SqliteStore(url), url),
            Place(lambda: PostgresStore(postgres_url), look),
        ]

    yield places
    runner.run(look.close())


def test_a_preview_tells_what_becomes_of_the_same_messages_right_after(
    open_places: Callable[[], list[Place]], runner: asyncio.Runner
) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(beginning=BEGINNING, trouble=TROUBLE)
    def histories(beginning: list[Event], trouble: list[Event]) -> None:
        sent, then = ([message(event) for event in events] for events in (beginning, trouble))
        for place in open_places():
            runner.run(play(place, sent, then))

    histories()

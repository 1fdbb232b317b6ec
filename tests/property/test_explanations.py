"""An explanation agrees with what was done: on random histories, for every line, and on both databases."""

from __future__ import annotations

import asyncio
import itertools
import os
from datetime import date
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from allocation.adapters.database import is_sqlite
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.adapters.tables import metadata
from allocation.domain.errors import Refusal
from allocation.domain.events import Event
from allocation.domain.rules import JUST_IN_TIME, TOO_LATE
from allocation.service_layer.writing.writer import Writer
from allocation.views.explain import Considered, Explanation, explain
from tests.builders import change, message, new_database, on, select
from tests.property.strategies import BEGINNING, NOW, TODAY, TROUBLE

EXAMPLES = int(os.environ.get("ALLOCATION_TEST_EXPLANATIONS", "25"))


async def play(url: URL, events: list[Event]) -> list[Explanation]:
    store, reader = SqliteStore(url) if is_sqlite(url) else PostgresStore(url), Reader(url)
    writer = Writer(store, clock=lambda: NOW)
    writer.start()
    for event in events:
        try:
            await writer.handle(message(event))
        except Refusal:
            continue
    lines = await select(url, "SELECT orderid, sku FROM order_lines")
    found = [await reader.run(explain, orderid, sku, on(TODAY)) for orderid, sku in lines]
    await writer.close()
    await reader.close()
    await store.close()
    return found


def check(found: Explanation) -> None:
    assert found.history[0].recorded_at == NOW
    assert found.decision is not None
    assert found.as_of == found.decision.id
    if found.rule is None:
        return
    free = [each for each in found.considered if each.obstacle is None]
    late = [each for each in found.considered if each.obstacle == TOO_LATE]
    chosen = [each.batchref for each in found.considered if each.chosen]
    if free:
        just_in_time = found.rule == JUST_IN_TIME and found.need_by is not None
        assert chosen == [free[-1 if just_in_time else 0].batchref], found
    elif late:
        assert [due(each) for each in found.considered if each.chosen] == [min(map(due, late))], found
    else:
        assert chosen == [], found


def due(batch: Considered) -> date:
    """The day that a batch is due, for a comparison: the warehouse first, stock of no known day last."""
    return batch.eta or (date.max if batch.eta_unknown else date.min)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_batch_taken_is_the_first_without_an_obstacle(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    files = itertools.count()
    postgres_url = make_url(request.getfixturevalue("postgres_url")) if kind == "postgres" else None

    async def fresh() -> URL:
        if postgres_url is None:
            return new_database(f"sqlite:///{tmp_path}/{next(files)}.db")
        for table in metadata.tables:
            await change(postgres_url, f"DELETE FROM {table}")
        return postgres_url

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[hypothesis.Phase.generate]
    )
    @hypothesis.given(beginning=BEGINNING, trouble=TROUBLE)
    def histories(beginning: list[Event], trouble: list[Event]) -> None:
        for found in asyncio.run(_explained([*beginning, *trouble])):
            check(found)

    async def _explained(events: list[Event]) -> list[Explanation]:
        return await play(await fresh(), events)

    histories()

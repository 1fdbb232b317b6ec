"""What can be promised is what is promised: by the same rules, on random stock."""

from __future__ import annotations

import asyncio
import os
from datetime import date, timedelta
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.errors import Refusal
from allocation.domain.events import AllocationRequired, Event
from allocation.service_layer.messages import Outcome
from allocation.service_layer.previewing.preview import Previews
from allocation.service_layer.writing.writer import Writer
from allocation.views.availability import availability
from tests.builders import message, new_database, on
from tests.property.strategies import BEGINNING, NOW, TODAY, TROUBLE

EXAMPLES = int(os.environ.get("ALLOCATION_TEST_AVAILABILITY", "60"))
SKU = "POSTER"


def test_what_can_be_promised_is_what_a_line_is_promised(tmp_path: Path) -> None:
    files = iter(range(10**6))

    async def play(events: list[Event], qty: int, days: int | None) -> None:
        url = new_database(f"sqlite:///{tmp_path}/{next(files)}.db")
        store, reader, previews = SqliteStore(url), Reader(url), Previews(lambda: SqliteStore(url), clock=lambda: NOW)
        writer = Writer(store, clock=lambda: NOW)
        writer.start()
        for event in events:
            try:
                await writer.handle(message(event))
            except Refusal:
                continue
        by = None if days is None else TODAY + timedelta(days=days)
        asked = AllocationRequired("new", SKU, qty, by)
        preview = await previews.preview([message(asked)])
        if isinstance(preview.outcomes[0], Outcome):
            found = await reader.run(availability, SKU, on(TODAY), qty=qty, by=by)
            day = preview.lines[0].after
            assert found.can_promise == (day is not None and (by is None or day <= by))
            if by is None:
                assert (found.earliest is None) == (day is None)
                assert found.earliest is None or day is None or found.earliest <= day
            for day, quantity in ((each.date, each.quantity) for each in found.timeline):
                assert await pieces_in_time(previews, quantity + 1, day) == quantity
        previews.close()
        await writer.close()
        await reader.close()
        await store.close()

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[hypothesis.Phase.generate]
    )
    @hypothesis.given(beginning=BEGINNING, trouble=TROUBLE, qty=st.integers(1, 12), days=st.none() | st.integers(0, 25))
    def histories(beginning: list[Event], trouble: list[Event], qty: int, days: int | None) -> None:
        asyncio.run(play([*beginning, *trouble], qty, days))

    histories()


async def pieces_in_time(previews: Previews, number: int, by: date) -> int:
    """How many of so many lines of one piece would be there by that day."""
    pieces = [message(AllocationRequired(f"piece-{each}", SKU, 1, by)) for each in range(number)]
    days = [line.after for line in (await previews.preview(pieces)).lines if line.orderid.startswith("piece-")]
    return sum(day is not None and day <= by for day in days)

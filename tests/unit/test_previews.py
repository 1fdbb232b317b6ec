"""How many previews there may be, and what becomes of them when nobody waits or something breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import pytest

from allocation.adapters.memory import MemoryStore
from allocation.domain.errors import UnknownBatch
from allocation.domain.events import AllocationRequired, BatchCreated, BatchQuantityChanged
from allocation.service_layer import handlers
from allocation.service_layer.messages import Outcome
from allocation.service_layer.previewing.line_changes import LineChange
from allocation.service_layer.previewing.preview import Previews
from allocation.service_layer.unit_of_work import AbstractUnitOfWork
from allocation.service_layer.writing.store import Session
from allocation.service_layer.writing.writer import Unavailable, Writer
from tests.builders import message
from tests.waiting import PATIENCE_S, until

T = TypeVar("T")

RUG = message(BatchCreated("b1", "RUG", 10))


class SlowLookout:
    """Looks only while its gate is open."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.gate = threading.Event()

    async def look(self, work: Callable[[Session], T]) -> T:
        assert self.gate.wait(PATIENCE_S)
        return await self.store.look(work)

    async def close(self) -> None:
        """Nothing to give back."""


def test_no_more_previews_are_under_way_than_there_may_be() -> None:
    lookout = SlowLookout()

    async def play() -> None:
        previews = Previews(lambda: lookout, max_previews=2)
        under_way = [asyncio.create_task(previews.preview([RUG])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="2 previews are under way"):
            await previews.preview([RUG])
        lookout.gate.set()
        for each in await asyncio.gather(*under_way):
            assert isinstance(each.outcomes[0], Outcome)
        assert (await previews.preview([RUG])).lines == []
        previews.close()

    asyncio.run(play())


def test_a_caller_who_goes_leaves_its_place_when_the_work_is_done() -> None:
    lookout = SlowLookout()

    async def play() -> None:
        previews = Previews(lambda: lookout, max_previews=1)
        gone = asyncio.create_task(previews.preview([RUG]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        with pytest.raises(Unavailable):
            await previews.preview([RUG])
        lookout.gate.set()

        async def has_room() -> bool:
            with suppress(Unavailable):
                await previews.preview([RUG])
                return True
            return False

        await until(has_room)
        previews.close()

    asyncio.run(play())


def test_what_would_be_cut_off_a_line_was_what_that_was() -> None:
    store = MemoryStore()

    async def play() -> list[LineChange]:
        writer = Writer(store)
        writer.start()
        for event in (BatchCreated("b1", "RUG", 5), AllocationRequired("o1", "RUG", 5, split=True)):
            await writer.handle(message(event))
        await writer.close()
        previews = Previews(lambda: store)
        preview = await previews.preview([message(BatchQuantityChanged("b1", 3))])
        previews.close()
        return list(preview.lines)

    first, second = sorted(asyncio.run(play()))
    assert (first.orderid, first.qty, first.start, first.end) == ("o1", 3, "b1", "b1")
    assert (second.orderid, second.qty, second.start, second.end) == ("o1/2", 2, "b1", None)
    assert (second.was, second.state, second.before) == ("allocated", "waiting", first.before)


@pytest.mark.parametrize("commits", [True, False])
def test_what_is_refused_after_a_part_of_it_was_done_leaves_nothing_to_the_others(
    monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    def halfway(event: BatchQuantityChanged, uow: AbstractUnitOfWork) -> None:
        with uow:
            product = uow.products.get_by_batchref(event.ref)
            assert product is not None
            product.change_batch_quantity(event.ref, event.qty)
            if commits:
                uow.commit()
            raise UnknownBatch(event.ref)

    monkeypatch.setitem(cast("dict[Any, Any]", handlers.HANDLERS), BatchQuantityChanged, [halfway])
    monkeypatch.setitem(cast("dict[Any, Any]", handlers.RAISES), halfway, frozenset({AllocationRequired}))
    store = MemoryStore()
    messages = [RUG, message(BatchQuantityChanged("b1", 0)), message(AllocationRequired("o1", "RUG", 3))]

    async def play() -> None:
        previews = Previews(lambda: store)
        preview = await previews.preview(messages)
        previews.close()
        assert isinstance(preview.outcomes[1], UnknownBatch)
        assert [line.end for line in preview.lines] == ["b1"]

    asyncio.run(play())

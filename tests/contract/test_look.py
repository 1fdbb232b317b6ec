"""Looking at what would be: as of one moment, without a lock, and never in the way of whoever writes."""

from __future__ import annotations

import asyncio
import threading
from datetime import date

from allocation.adapters.memory import MemoryStore
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.lines import Fit
from allocation.service_layer.writing.store import Changes, Session, Wanted
from allocation.testing.rows import SKU, batch, changed, line, product
from tests.contract.conftest import MOMENT, Place

PATIENCE_S = 10.0


def test_what_is_looked_at_is_what_is_loaded(place: Place) -> None:
    place.save(
        new_products=[product(waiting=1)],
        new_batches=[batch("b1"), batch("full", allocated=10)],
        new_lines=[line("o1", "b1", position=3), line("o2", None, position=4)],
    )
    wanted = Wanted(skus={SKU}, refs={"full"}, lines={("o1", SKU)})

    def everything(session: Session) -> tuple[object, ...]:
        pages = session.newest_lines(SKU, "b1", 99), session.waiting_lines(SKU, 0, [Fit(99, date.max)])
        return (*map(list, pages), session.load(wanted), session.batch(SKU, "full"), session.line(SKU, "o2"))

    store = place.store
    assert isinstance(store, MemoryStore | SqliteStore | PostgresStore)
    assert place.runner.run(store.look(everything)) == place.run(everything)


def test_who_looks_sees_one_moment_and_keeps_nobody_waiting(database: Place) -> None:
    """The look begins, then the same product is changed and committed, and then it goes on."""
    database.save(new_products=[product()], new_batches=[batch("b1")], new_lines=[line("o1")])
    seen, go_on = threading.Event(), threading.Event()

    def slowly(session: Session) -> list[int]:
        versions = [session.load(Wanted(skus={SKU})).products[0].version_number]
        seen.set()
        assert go_on.wait(PATIENCE_S)
        return [*versions, session.load(Wanted(skus={SKU})).products[0].version_number]

    async def look() -> list[int]:
        store = type(database.store)(database.where)  # type: ignore[call-arg]
        try:
            return await store.look(slowly)  # type: ignore[attr-defined,no-any-return]
        finally:
            await store.close()

    async def play() -> list[int]:
        looking = asyncio.create_task(asyncio.to_thread(asyncio.run, look()))
        assert await asyncio.to_thread(seen.wait, PATIENCE_S)
        await database.store.write(Changes(MOMENT, products=[changed(version=9)]))
        go_on.set()
        return await looking

    first, second = database.runner.run(play())
    assert first == second == product().version_number
    assert database.load(skus={SKU}).products[0].version_number == changed(version=9).version_number

"""What goes wrong outside: others in between, a database that is away. And what the store makes of it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

from allocation.adapters import database as engines
from allocation.adapters import sqlite
from allocation.adapters.postgresql import PostgresSession, PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.service_layer.writing.store import (
    Changes,
    Loaded,
    ProductRow,
    Session,
    StoreConflict,
    StoreUnavailable,
    Wanted,
)
from allocation.testing.rows import SKU, batch, changed, product
from tests.builders import dsn
from tests.contract.conftest import MOMENT, Place
from tests.servers import PostgresServer

PATIENCE_S = 10.0


def test_sqlite_waits_for_another_writer_and_then_says_so(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_S", 0.1)
    place = Place(SqliteStore(make_url(sqlite_url)), make_url(sqlite_url))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            place.save(new_products=[product()])
        other.execute("ROLLBACK")
    place.save(new_products=[product()])
    assert place.contents().products == [(SKU, 1, 0, None, None)]
    place.close()


def test_sqlite_lets_the_others_of_its_event_loop_work_while_it_waits(sqlite_url: str) -> None:
    async def scenario() -> None:
        store = SqliteStore(make_url(sqlite_url))
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(store.run(lambda session: session.save(Changes(MOMENT))))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            other.execute("COMMIT")
            await asyncio.wait_for(waiting, PATIENCE_S)
        await store.close()

    asyncio.run(scenario())


def test_sqlite_in_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    url = make_url(f"sqlite:///{tmp_path}/nowhere/allocation.db")
    place = Place(SqliteStore(url), url)
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        place.load(skus={SKU})
    place.close()


def test_sqlite_without_our_tables_is_unavailable_and_says_what_is_missing(tmp_path: Path) -> None:
    url = make_url(f"sqlite:///{tmp_path}/empty.db")
    place = Place(SqliteStore(url), url)
    with pytest.raises(StoreUnavailable, match="no such table"):
        place.load(skus={SKU})
    place.close()


@pytest.mark.parametrize("change", [{"port": 1}, {"database": "nowhere"}, {"host": "nowhere.invalid"}])
def test_postgres_that_cannot_be_reached_is_unavailable(postgres_url: str, change: dict[str, str | int]) -> None:
    url = make_url(postgres_url).set(**change)  # type: ignore[arg-type]
    place = Place(PostgresStore(url), url)
    with pytest.raises(StoreUnavailable):
        place.load(skus={SKU})
    place.close()


def test_postgres_makes_a_new_connection_after_it_lost_the_old_one(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    place = Place(PostgresStore(make_url(postgres_url)), make_url(postgres_url))
    place.save(new_products=[product()])

    def cut_off(session: Session) -> Loaded:
        postgres_server.query(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'allocation'"
        )
        return session.load(Wanted(skus={SKU}))

    with pytest.raises(StoreUnavailable):
        place.run(cut_off)
    assert place.load(skus={SKU}).products == [product()]
    place.close()


def test_postgres_does_not_wait_for_a_lock_for_ever(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LOCK_TIMEOUT_S", 0.1)
    place = Place(PostgresStore(make_url(postgres_url)), make_url(postgres_url))
    place.save(new_products=[product()])

    async def scenario() -> None:
        other = await asyncpg.connect(dsn(make_url(postgres_url)))
        async with other.transaction():
            await other.execute("SELECT * FROM products FOR UPDATE")
            with pytest.raises(StoreConflict, match="lock timeout"):
                await place.store.run(lambda session: session.load(Wanted(skus={SKU})))
        await other.close()

    place.runner.run(scenario())
    assert place.load(skus={SKU}).products == [product()]
    place.close()


def test_whoever_waited_for_a_product_on_postgres_sees_what_the_other_did(postgres_url: str) -> None:
    async def scenario() -> None:
        first, second = (PostgresStore(make_url(postgres_url)) for _ in range(2))
        await first.run(lambda session: session.save(Changes(MOMENT, new_products=[product()])))
        locked, go_on = asyncio.Event(), asyncio.Event()

        def slow(session: Session) -> None:
            assert isinstance(session, PostgresSession)
            session.load(Wanted(skus={SKU}))
            locked.set()
            session.wait(lambda _: go_on.wait())
            session.save(Changes(MOMENT, products=[changed(version=2, waiting=1)], new_batches=[batch("b1")]))

        changing = asyncio.create_task(first.run(slow))
        await locked.wait()
        looking = asyncio.create_task(second.run(lambda session: session.load(Wanted(skus={SKU}))))
        await asyncio.sleep(0.1)
        assert not looking.done()
        go_on.set()
        await changing
        found = await looking
        assert (found.products, found.batches) == ([ProductRow(SKU, 2, 1)], [batch("b1")])
        await first.close()
        await second.close()

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


def test_a_deadlock_on_postgres_is_a_conflict_for_one_and_success_for_the_other(postgres_url: str) -> None:
    async def scenario() -> None:
        stores = [PostgresStore(make_url(postgres_url)) for _ in range(2)]
        both = [product("A"), product("B")]
        await stores[0].run(lambda session: session.save(Changes(MOMENT, new_products=both)))
        barrier = asyncio.Barrier(2)

        def lock(session: Session, skus: str) -> str:
            assert isinstance(session, PostgresSession)
            session.load(Wanted(skus={skus[0]}))
            session.wait(lambda _: barrier.wait())
            session.load(Wanted(skus={skus[1]}))
            return skus

        crossed = (stores[0].run(lambda s: lock(s, "AB")), stores[1].run(lambda s: lock(s, "BA")))
        ends = await asyncio.gather(*crossed, return_exceptions=True)
        assert sorted(type(end).__name__ for end in ends) == ["StoreConflict", "str"]
        for store in stores:
            await store.close()

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))

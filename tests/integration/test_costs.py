"""What speed rests on, counted and not timed: round trips, commits, rows and calls, the same on every machine.

Where a change makes one of these larger, it made the service slower. If that has its reason, the limit is raised here.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from types import FrameType
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url

from allocation.adapters.memory import MemoryStore
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import AllocationRequired, BatchCreated
from allocation.service_layer.messages import Message, new_message
from allocation.service_layer.writing.ahead import ReadAhead
from allocation.service_layer.writing.group import GroupUnitOfWork, wanted_by
from allocation.service_layer.writing.store import Store
from allocation.service_layer.writing.writer import Writer
from tests.builders import contents, handle_together, message
from tests.contract.conftest import MOMENT

GROUP = 100
SKUS = 10
MAX_CALLS_PER_MESSAGE = 86


async def warmed_up(store: Store) -> Writer:
    """A writer that takes so many together, with stock of every product, whose statements are prepared."""
    writer = Writer(store, pile=GROUP)
    writer.start()
    await handle_together(writer, *(message(BatchCreated(f"b{n}", f"SKU-{n}", 1_000_000)) for n in range(SKUS)))
    await handle_together(writer, *orders("warm"))
    return writer


def orders(name: str) -> list[Any]:
    return [message(AllocationRequired(f"{name}-{number}", f"SKU-{number % SKUS}", 1)) for number in range(GROUP)]


def statements_of(postgres_url: str, *groups: Sequence[Message]) -> list[tuple[str, Any]]:
    """What is sent to PostgreSQL for groups of orders, once their products are in memory."""
    sent: list[tuple[str, Any]] = []

    async def scenario() -> None:
        store = PostgresStore(make_url(postgres_url))

        @event.listens_for(store._engine.sync_engine, "connect")
        def watch(connection: Any, _: object) -> None:
            connection.driver_connection.add_query_logger(lambda query: sent.append((query.query.strip(), query.args)))

        writer = await warmed_up(store)
        sent.clear()
        for group in groups:
            await handle_together(writer, *group)
        await writer.close()
        await store.close()

    asyncio.run(scenario())
    return sent


def test_a_group_of_new_lines_is_one_round_trip_to_postgresql_and_one_commit(postgres_url: str) -> None:
    [(write, _)] = statements_of(postgres_url, orders("o"))
    assert write.startswith("WITH")
    assert "INSERT INTO ledger" in write


def test_senders_own_ids_are_looked_up_in_one_more_round_trip(postgres_url: str) -> None:
    keyed = [each._replace(keyed=True) for each in orders("o")]
    (read, (skus, refs, orderids, _, ids, *_)), (write, _) = statements_of(postgres_url, keyed)
    assert (skus, refs, orderids) == ("{}", "{}", "{}"), "products in memory are not read again, nor are new lines"
    assert ids.count(",") == GROUP - 1
    assert "INSERT" not in read
    assert "FOR UPDATE" not in read
    assert "INSERT INTO ledger" in write


def test_a_line_that_is_split_in_two_is_two_round_trips(postgres_url: str) -> None:
    stock = [message(BatchCreated(ref, "RUG", 4)) for ref in ("r1", "r2")]
    order = [message(AllocationRequired("o", "RUG", 6, split=True))]
    sent = [statement for statement, _ in statements_of(postgres_url, stock, order)]
    assert [statement.split()[0] for statement in sent] == ["WITH"] * 4
    assert "INSERT INTO order_lines" in sent[-1]


def test_after_a_line_was_ordered_again_lines_are_looked_up_first(postgres_url: str) -> None:
    again = orders("warm")[:1]
    sent = [statement for statement, _ in statements_of(postgres_url, again, orders("o"), orders("p"))]
    first, *_, read, write = sent
    assert "INSERT INTO order_lines" in first, "it is expected to be new"
    assert "FOR UPDATE" not in read
    assert "order_lines" in read
    assert "INSERT INTO order_lines" in write


def test_a_group_is_one_commit_and_a_statement_for_each_kind_of_row_on_sqlite(sqlite_url: str) -> None:
    sent: list[str] = []

    async def scenario() -> None:
        store = SqliteStore(make_url(sqlite_url))
        writer = await warmed_up(store)
        assert store._connection is not None
        store._connection.set_trace_callback(sent.append)
        await handle_together(writer, *orders("o"))
        store._connection.set_trace_callback(None)
        await writer.close()
        await store.close()

    asyncio.run(scenario())
    kinds = Counter(statement.split()[0] for statement in sent)
    assert kinds == {"BEGIN": 1, "UPDATE": 2, "INSERT": 2, "COMMIT": 1}, sent


def test_of_new_lines_of_products_in_memory_sqlite_is_asked_nothing(sqlite_url: str) -> None:
    sent: list[str] = []

    async def scenario() -> None:
        store = SqliteStore(make_url(sqlite_url))
        writer = await warmed_up(store)
        assert store._reader is not None
        store._reader.set_trace_callback(sent.append)
        await handle_together(writer, *orders("o"))
        await writer.close()
        await store.close()

    asyncio.run(scenario())
    assert sent == []


def test_an_order_that_is_allocated_is_one_line_and_one_row_of_the_ledger(sqlite_url: str) -> None:
    async def scenario() -> tuple[int, int]:
        store = SqliteStore(make_url(sqlite_url))
        writer = await warmed_up(store)
        connection = store._connection
        assert connection is not None
        before = connection.total_changes
        await handle_together(writer, *orders("o"))
        written = connection.total_changes - before
        await writer.close()
        await store.close()
        return written, len((await contents(make_url(sqlite_url))).lines)

    written, lines = asyncio.run(scenario())
    assert lines == 2 * GROUP
    assert written == 2 * GROUP + 2 * SKUS, "each product and batch is written once, however many orders it has"


def test_a_message_takes_so_many_calls_of_functions() -> None:
    store = MemoryStore()
    asyncio.run(stocked(store))
    messages = [new_message(AllocationRequired(f"o{number}", "SKU-1", 1), "test") for number in range(GROUP)]
    wanted = wanted_by(messages, check_ids=False)
    uow = GroupUnitOfWork(ReadAhead(asyncio.run(store.read(wanted)), None), MOMENT)
    calls = 0

    def count(_: FrameType, what: str, __: object) -> None:
        nonlocal calls
        calls += what in {"call", "c_call"}

    uow.load(wanted)
    sys.setprofile(count)
    for each in messages:
        uow.handle(each)
    sys.setprofile(None)
    assert GROUP < calls <= MAX_CALLS_PER_MESSAGE * GROUP, calls / GROUP


async def stocked(store: Store) -> None:
    writer = Writer(store, pile=GROUP)
    writer.start()
    await writer.handle(message(BatchCreated("b1", "SKU-1", 1_000_000)))
    await writer.handle(message(AllocationRequired("first", "SKU-1", 1)))  # what is done once, is done by now
    await writer.close()

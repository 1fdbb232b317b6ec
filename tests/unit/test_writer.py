"""The writer on the store in memory: groups, refusals, failures, limits and shutting down."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from allocation.domain.errors import IdempotencyKeyReused, InvalidSku, LineConflict, Refusal
from allocation.domain.events import (
    Allocated,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    LinePinned,
    StockHeld,
)
from allocation.domain.model import OrderLine
from allocation.service_layer import handlers
from allocation.service_layer.messages import Outcome
from allocation.service_layer.unit_of_work import AbstractUnitOfWork
from allocation.service_layer.writing import patience
from allocation.service_layer.writing import writer as writer_module
from allocation.service_layer.writing.ledger import unfold
from allocation.service_layer.writing.store import Changes, StoreConflict
from allocation.service_layer.writing.writer import MAX_CONFLICTS, MIN_TRIES, Unavailable, Writer
from tests.builders import contents, handle_together, message, submit
from tests.unit.stores import UnusualStore

RUG = BatchCreated("b1", "RUG", 10)
PATIENCE_S = 5.0


def order(orderid: str, qty: int = 1, sku: str = "RUG") -> AllocationRequired:
    return AllocationRequired(orderid, sku, qty)


def run(
    scenario: Callable[[Writer, UnusualStore], Awaitable[None]], store: UnusualStore | None = None, **limits: Any
) -> None:
    """Play a scenario with a running writer that knows ten rugs."""

    async def play() -> None:
        used = store or UnusualStore()
        writer = Writer(used, **limits)
        writer.start()
        await writer.handle(message(RUG))
        used.calls.clear()
        await scenario(writer, used)
        await writer.close()

    async def in_time() -> None:
        await asyncio.wait_for(play(), PATIENCE_S)

    asyncio.run(in_time())


def results(answers: list[Outcome | Exception]) -> list[Any]:
    return [answer.result if isinstance(answer, Outcome) else type(answer) for answer in answers]


async def types_in_ledger(store: UnusualStore) -> list[str]:
    cascades = store.store.tables.messages.values()
    return [type(event).__name__ for cascade in cascades for row, _ in cascade for _, event in unfold(row)]


async def held(store: UnusualStore) -> dict[str, int]:
    return {row[0]: row[4] for row in (await contents(store.store.tables)).batches}


@pytest.mark.parametrize(("together", "sizes"), [(8, [8]), (40, [20, 20]), (60, [25, 25, 10])])
def test_of_many_that_wait_a_group_takes_half_so_that_there_is_a_next(together: int, sizes: list[int]) -> None:
    written: list[int] = []

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        write = store.write

        async def watched(changes: Changes) -> None:
            written.append(len({each.correlation_id for each in changes.messages}))
            await write(changes)

        store.write = watched  # type: ignore[method-assign]
        await handle_together(writer, *(message(order(f"o{number}")) for number in range(together)))

    run(scenario, pile=4, max_group=25)
    assert written == sizes


def test_a_lone_caller_waits_for_nobody() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        asked = asyncio.create_task(writer.handle(message(order("o1"))))
        for _ in range(10):  # turns of the event loop, in which no timer has time to end
            await asyncio.sleep(0)
        assert asked.done()
        assert (await asked).raised == [Allocated("o1", "RUG", 1, "b1")]
        assert store.calls == {"read": 1, "write": 1}

    run(scenario)


def test_what_arrives_while_one_group_commits_is_the_next_group() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        store.gate.clear()
        first = submit(writer, [message(order("o0"))])
        await asyncio.sleep(0)
        others = submit(writer, [message(order(f"o{number}")) for number in range(1, 10)])
        store.gate.set()
        assert results(await asyncio.gather(*first, *others)) == ["b1"] * 10
        assert store.calls == {"read": 1, "write": 2}

    run(scenario)


def test_a_group_has_a_limit() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        assert results(await handle_together(writer, *[message(order(f"o{n}")) for n in range(7)])) == ["b1"] * 7
        assert store.calls == {"read": 1, "write": 3}

    run(scenario, max_group=3)


def test_a_group_is_read_in_one_go_and_written_in_one_go() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        await handle_together(
            writer,
            message(BatchCreated("b2", "RUG", 10), "key"),
            message(BatchCreated("b3", "LAMP", 10)),
            message(BatchCreated("b1", "RUG", 10)),
            message(order("o1")),
            message(order("o2", sku="LAMP")),
            message(order("o1")),
            message(BatchQuantityChanged("b1", 20)),
            message(BatchQuantityChanged("no-such-batch", 20)),
        )
        assert store.calls == {"read": 1, "write": 1}

    run(scenario)


def test_a_group_with_an_event_that_needs_more_than_it_names_is_not_tried_ahead() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        await handle_together(writer, message(order("o1")), message(LinePinned("o1", "RUG", "b1", "a friend")))
        assert (store.calls["read"], store.calls["run"], store.calls["write"]) == (0, 1, 0)
        assert writer.meter.in_vain == 0

    run(scenario)


def test_after_an_event_needed_more_than_was_read_its_like_are_not_tried_ahead_and_orders_are() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        await handle_together(writer, *(message(order(f"o{number}")) for number in range(10)))
        store.calls.clear()
        await writer.handle(message(BatchQuantityChanged("b1", 8)))
        assert (store.calls["read"], store.calls["run"], writer.meter.in_vain) == (1, 1, 1)
        for qty in range(7, 0, -1):
            await writer.handle(message(BatchQuantityChanged("b1", qty)))
        assert (store.calls["read"], store.calls["run"], writer.meter.in_vain) == (1, 8, 1)
        await writer.handle(message(BatchCreated("b2", "LAMP", 10)))
        assert (store.calls["run"], store.calls["write"]) == (9, 0), "it may need more"
        await writer.handle(message(order("p1", sku="LAMP")))
        assert (store.calls["run"], store.calls["write"]) == (9, 1), "it needs what it names"

    run(scenario)


def test_stock_is_held_ahead() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        cart = StockHeld("cart", "RUG", 2, later)
        await handle_together(writer, message(order("o1")), message(cart))
        assert (await writer.handle(message(cart))).result == "b1"
        assert store.calls["run"] == 0
        assert await held(store) == {"b1": 3}

    run(scenario)


def test_messages_of_a_group_are_handled_in_the_order_of_their_arrival() -> None:
    async def scenario(writer: Writer, _: UnusualStore) -> None:
        answers = await handle_together(
            writer,
            message(order("before", sku="LAMP")),
            message(BatchCreated("b2", "LAMP", 2)),
            message(order("first", 2, sku="LAMP")),
            message(order("second", 1, sku="LAMP")),
            message(BatchQuantityChanged("b2", 3)),
        )
        assert results(answers) == [InvalidSku, "b2", "b2", None, "b2"]

    run(scenario)


def test_a_refusal_touches_its_own_caller_only() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        answers = await handle_together(
            writer,
            message(order("o1", 2)),
            message(order("o1", 3)),
            message(order("o2", sku="NONE")),
            message(order("o3")),
        )
        assert results(answers) == ["b1", LineConflict, InvalidSku, "b1"]
        assert store.calls == {"read": 2, "write": 1}, "the second time for products that NONE may mean"
        assert await held(store) == {"b1": 3}
        assert (await types_in_ledger(store))[1:] == ["AllocationRequired", "Allocated"] * 2

    run(scenario)


def test_a_poisonous_message_harms_no_neighbour() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        poison = message(BatchCreated("b2", "POISON", 1))
        with capture_logs() as logs:
            answers = await handle_together(
                writer, message(order("o1")), poison, message(order("o2")), message(order("o2", 5))
            )
        assert results(answers) == ["b1", ZeroDivisionError, "b1", LineConflict]
        assert [entry["message_id"] for entry in logs if entry["log_level"] == "error"] == [poison.id]
        assert await held(store) == {"b1": 2}
        assert await writer.handle(message(order("o3")))

    run(scenario, UnusualStore(poison="POISON"))


def test_a_message_refused_half_done_is_taken_back_and_its_neighbours_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_done(event: BatchQuantityChanged, uow: AbstractUnitOfWork) -> None:
        handlers.change_batch_quantity(event, uow)
        raise Refusal("Changed my mind")

    table: Any = handlers.HANDLERS
    monkeypatch.setitem(table, BatchQuantityChanged, [half_done])

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        answers = await handle_together(
            writer, message(order("o1")), message(BatchQuantityChanged("b1", 0)), message(order("o2"))
        )
        assert results(answers) == ["b1", Refusal, "b1"]
        assert await held(store) == {"b1": 2}
        assert "BatchQuantityChanged" not in await types_in_ledger(store)

    run(scenario)


def test_a_handler_that_forgets_to_commit_fails_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(event: BatchQuantityChanged, uow: AbstractUnitOfWork) -> None:
        with uow:
            product = uow.products.get_by_batchref(batchref=event.ref)
            assert product is not None
            product.change_batch_quantity(ref=event.ref, qty=event.qty)

    table: Any = handlers.HANDLERS
    monkeypatch.setitem(table, BatchQuantityChanged, [forgetful])

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        answers = await handle_together(writer, message(BatchQuantityChanged("b1", 0)), message(order("o1")))
        assert str(answers[0]) == "a handler left without committing its changes"
        assert results(answers)[1] == "b1"

    run(scenario)


def test_a_failure_while_a_refusal_is_dealt_with_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(event: BatchQuantityChanged, uow: AbstractUnitOfWork) -> None:
        try:
            uow.products.get_by_batchref(event.ref).allocate(OrderLine("o1", "RUG", 2))  # type: ignore[union-attr]
        except Refusal:
            raise ZeroDivisionError  # noqa: B904 - the bug that this is about

    table: Any = handlers.HANDLERS
    monkeypatch.setitem(table, BatchQuantityChanged, [broken])

    async def scenario(writer: Writer, _: UnusualStore) -> None:
        await writer.handle(message(order("o1")))
        with pytest.raises(ZeroDivisionError):
            await writer.handle(message(BatchQuantityChanged("b1", 0)))

    run(scenario)


def test_a_freed_line_is_called_once_although_storage_still_has_it_waiting() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        await writer.handle(message(order("o0", 10)))
        for orderid, qty in [("large", 10), ("small", 2), ("middle", 6)]:
            await writer.handle(message(order(orderid, qty)))
        both = BatchCreated("b2", "RUG", 12), BatchQuantityChanged("b2", 9)
        _, changed = await handle_together(writer, *map(message, both))
        assert isinstance(changed, Outcome)
        called = [event.orderid for event in changed.raised if isinstance(event, AllocationRequired)]
        assert called == ["large", "small", "middle"]
        lines = {row[0]: row[3] for row in (await contents(store.store.tables)).lines}
        assert lines == {"o0": "b1", "large": None, "small": "b2", "middle": "b2"}

    run(scenario)


def test_a_full_queue_takes_no_more_and_says_when_to_ask_again() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        room = functools.partial(getattr, writer, "has_room")
        store.gate.clear()
        under_way = submit(writer, [message(order("o1"))])
        await asyncio.sleep(0)
        queued = submit(writer, [message(order("o2")), message(order("o3"))])
        assert room() is False
        with pytest.raises(Unavailable, match=r"^2 messages are waiting already$") as full:
            await writer.handle(message(order("o4")))
        assert full.value.retry_after_s == 1
        store.gate.set()
        assert results(await asyncio.gather(*under_way, *queued)) == ["b1"] * 3
        assert room() is True
        assert await held(store) == {"b1": 3}

    run(scenario, max_queued=2)


def test_closing_handles_what_was_accepted_and_refuses_the_rest() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        accepted = submit(writer, [message(order(f"o{number}")) for number in range(9)])
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        assert not writer.has_room
        with pytest.raises(Unavailable, match="shutting down"):
            await writer.handle(message(order("late")))
        await closing
        assert results([answer.result() for answer in accepted]) == ["b1"] * 9
        assert await held(store) == {"b1": 9}

    run(scenario, max_group=2)


def test_a_repeated_id_in_one_group_gets_the_first_answer() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        asked = message(BatchQuantityChanged("b1", 5), "key")
        other = message(BatchQuantityChanged("b1", 8))
        first, _, repeated = await handle_together(writer, asked, other, asked)
        assert repeated == first
        assert (await contents(store.store.tables)).batches[0][3] == 8
        assert len(await types_in_ledger(store)) == 3

    run(scenario)


def test_a_repeated_id_gets_the_first_answer_later_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "LOCKING_S", 0.0)

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        await handle_together(writer, message(order("o1", 6)), message(order("o2", 2)))
        asked = message(BatchQuantityChanged("b1", 5), "key")
        first = await writer.handle(asked)
        await writer.handle(message(BatchQuantityChanged("b1", 20)))
        store.calls.clear()
        again = await writer.handle(asked)
        assert store.calls == {"read": 1}, "a sender's own id is looked up at once, and there is nothing to write"
        assert (again.result, again.raised, again.message) == (first.result, first.raised, first.message)
        assert len(first.raised) == 8
        assert await held(store) == {"b1": 8}

    run(scenario)


@pytest.mark.parametrize("together", [True, False])
def test_an_id_that_belongs_to_a_different_message_is_refused(together: bool) -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        both = [message(order("o1"), "key"), message(order("o2"), "key")]
        groups = [both] if together else [both[:1], both[1:]]
        answers = [answer for group in groups for answer in await handle_together(writer, *group)]
        assert results(answers) == ["b1", IdempotencyKeyReused]
        assert await held(store) == {"b1": 1}

    run(scenario)


def test_a_refused_id_may_be_used_again() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        asked = message(order("o1", sku="LAMP"), "key")
        assert results(await handle_together(writer, asked, asked)) == [InvalidSku, InvalidSku]
        await writer.handle(message(BatchCreated("b2", "LAMP", 1)))
        assert (await writer.handle(asked)).result == "b2"
        assert await held(store) == {"b1": 0, "b2": 1}

    run(scenario)


@pytest.mark.parametrize("lost", ["lost_before", "lost_after"])
@pytest.mark.parametrize("key", [None, "key"])
def test_a_lost_connection_loses_nothing_and_applies_nothing_twice(lost: str, key: str | None) -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        setattr(store, lost, 2)
        asked = message(BatchQuantityChanged("b1", 7), key)
        first, second = await handle_together(writer, asked, message(order("o1", 8)))
        assert results([first, second]) == ["b1", None]
        assert store.calls["run"] == 2
        assert (await types_in_ledger(store))[1:] == [
            "BatchQuantityChanged",
            "AllocationRequired",
            "Backordered",
            "OutOfStock",
        ]

    run(scenario)


@pytest.mark.parametrize("lost_before", [0, 1], ids=["read ahead", "locked"])
@pytest.mark.parametrize("lost_after", [1, 2])
def test_who_was_refused_stays_so_when_the_commit_that_was_lost_had_happened(lost_before: int, lost_after: int) -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        store.lost_before, store.lost_after = lost_before, lost_after
        too_early, asked = message(order("o1", sku="LAMP"), "early"), message(order("o2"))
        answers = await handle_together(writer, too_early, message(BatchCreated("b2", "LAMP", 9)), asked)
        assert results(answers) == [InvalidSku, "b2", "b1"]
        assert "early" not in store.store.tables.messages
        assert results(await handle_together(writer, too_early)) == ["b2"]

    run(scenario)


def test_a_database_that_stays_away_is_said_to_everybody_and_the_writer_goes_on() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        store.lost_before = 1_000_000
        answers = await handle_together(writer, message(order("o1")), message(order("o2")))
        assert [str(answer) for answer in answers] == ["The database is unavailable: connection lost"] * 2
        assert results(answers) == [Unavailable, Unavailable]
        store.lost_before = 0
        assert (await writer.handle(message(order("o1")))).result == "b1"

    run(scenario, reconnect_timeout_s=0.1)


def test_what_could_not_be_written_is_known_until_something_is_or_it_is_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        store.lost_before = 1_000_000
        assert writer.trouble is None
        await handle_together(writer, message(order("o1")))
        assert str(writer.trouble) == "The database is unavailable: connection lost"
        with monkeypatch.context() as later:
            later.setattr(patience, "TROUBLE_S", -1.0)
            assert writer.trouble is None
        store.lost_before = 0
        await writer.handle(message(order("o1")))
        assert writer.trouble is None

    run(scenario, reconnect_timeout_s=0.0)


def test_while_the_database_is_away_only_the_first_caller_waits_for_it() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        loop = asyncio.get_running_loop()
        store.lost_before = 1_000_000
        begin = loop.time()
        await handle_together(writer, message(order("o1")))
        lost = loop.time()
        for number in range(5):
            store.calls.clear()
            assert results(await handle_together(writer, message(order(f"o{number}")))) == [Unavailable]
            assert store.calls["run"] == MIN_TRIES
        assert lost - begin > 1.0 > loop.time() - lost
        store.lost_before = MIN_TRIES - 1
        assert (await writer.handle(message(order("o1")))).result == "b1"
        store.calls.clear()
        store.lost_before = MIN_TRIES + 1
        assert (await writer.handle(message(order("o2")))).result == "b1", "its patience did not begin anew"

    run(scenario, reconnect_timeout_s=1.0)


def test_work_that_others_got_in_between_is_done_again() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        store.conflicts = [StoreConflict("not unique")] * MAX_CONFLICTS
        assert results(await handle_together(writer, message(order("o1")), message(order("o2")))) == ["b1", "b1"]
        assert await held(store) == {"b1": 2}

    run(scenario)


def test_a_message_that_others_always_get_in_between_may_be_asked_again() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        store.conflicts = [StoreConflict("not unique")] * (MAX_CONFLICTS + 2)
        with pytest.raises(Unavailable, match=r"^Other writers changed the same products too often: not unique$"):
            await writer.handle(message(order("o1")))
        assert (await writer.handle(message(order("o1")))).result == "b1"

    run(scenario)


def test_a_caller_who_has_gone_harms_nobody() -> None:
    async def scenario(writer: Writer, store: UnusualStore) -> None:
        store.gate.clear()
        gone = asyncio.create_task(writer.handle(message(order("o1"))))
        stays = asyncio.create_task(writer.handle(message(order("o2"))))
        await asyncio.sleep(0)
        gone.cancel()
        store.gate.set()
        assert (await stays).result == "b1"
        assert await held(store) == {"b1": 2}

    run(scenario)


def test_an_answer_that_cannot_be_given_harms_nobody() -> None:
    async def scenario(writer: Writer, _: UnusualStore) -> None:
        def broken(_: object) -> None:
            raise ZeroDivisionError

        writer.submit(message(order("o1")), broken)
        assert results(await handle_together(writer, message(order("o2")))) == ["b1"]
        assert (await writer.handle(message(order("o3")))).result == "b1"

    run(scenario)


def test_listeners_hear_of_every_group_and_a_broken_one_harms_nobody() -> None:
    async def scenario(writer: Writer, _: UnusualStore) -> None:
        heard: list[str] = []

        def broken() -> None:
            raise ZeroDivisionError

        writer.on_commit(broken)
        writer.on_commit(lambda: heard.append("group"))
        await handle_together(writer, message(order("o1")), message(order("o2")))
        await writer.handle(message(order("o3")))
        await asyncio.sleep(0)
        assert heard == ["group", "group"]

    run(scenario)


def test_the_ledger_has_the_time_of_the_transaction() -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        await handle_together(writer, message(order("o1"), "one"), message(order("o2"), "two"))
        times = {recorded_at for rows in store.store.tables.messages.values() for _, recorded_at in rows}
        assert times == {moment}

    run(scenario, clock=lambda: moment)

"""Products that stay in memory between groups: what is still read, and when they are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from allocation.domain.errors import LineClosed, LineConflict, TooManyWaiting
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    RulesChanged,
)
from allocation.domain.look_alikes import spellings
from allocation.domain.model import Batch, Product
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.products import LookedUp, StoredRecords, WarmProduct
from allocation.service_layer.writing.store import Loaded, StoreConflict, Wanted
from allocation.service_layer.writing.warm import MAX_BATCHES, WarmProducts
from allocation.service_layer.writing.writer import Writer
from tests.builders import contents, handle_together, message, submit
from tests.unit.stores import UnusualStore

RUG = "RUG"
LAMP = "LAMP"


class Asked(UnusualStore):
    """Notes the products that each group has to read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_skus: list[set[str]] = []

    async def read(self, wanted: Wanted) -> Loaded:
        self.read_skus.append(set(wanted.skus))
        return await super().read(wanted)


def order(orderid: str, qty: int = 1, sku: str = RUG) -> AllocationRequired:
    return AllocationRequired(orderid, sku, qty)


def run(scenario: Callable[[Writer, Asked], Awaitable[None]], **limits: Any) -> None:
    """Play a scenario with a writer that has ten rugs and ten lamps in memory."""

    async def play() -> None:
        store = Asked()
        writer = Writer(store, **limits)
        writer.start()
        for sku in (RUG, LAMP):
            await writer.handle(message(BatchCreated(f"{sku}-1", sku, 10)))
            await writer.handle(message(order("first", sku=sku)))
        store.read_skus.clear()
        store.calls.clear()
        await scenario(writer, store)
        await writer.close()

    asyncio.run(asyncio.wait_for(play(), 5))


def results(answers: list[Outcome | Exception]) -> list[Any]:
    return [answer.result if isinstance(answer, Outcome) else type(answer) for answer in answers]


async def stand(store: Asked, sku: str = RUG) -> dict[str, str | None]:
    """Where the product's lines stand."""
    return {row[0]: row[3] for row in (await contents(store.store.tables)).lines if row[1] == sku}


async def allocated(store: Asked) -> dict[str, int]:
    return {row[0]: row[4] for row in (await contents(store.store.tables)).batches}


def test_neither_a_product_in_memory_is_read_again_nor_a_line_that_is_ordered_of_it() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        await handle_together(writer, message(order("o1")), message(order("o2", sku="NONE")))
        await handle_together(writer, message(order("o3")), message(order("o4", sku=LAMP)))
        assert store.read_skus == [{"NONE"}, set(spellings("NONE"))], "those that may be meant are looked up once"
        assert store.calls == {"read": 2, "write": 2}
        assert await allocated(store) == {"RUG-1": 3, "LAMP-1": 2}

    run(scenario)


def test_a_line_that_was_taken_long_ago_is_found_when_it_is_written_and_those_after_it_before() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        assert results(await handle_together(writer, message(order("first")), message(order("o1")))) == ["RUG-1"] * 2
        assert store.calls == {"write": 1, "run": 1, "load": 1, "save": 1}
        await handle_together(writer, message(order("o2")))
        await handle_together(writer, message(order("first")))
        assert store.read_skus == [{RUG}, set()], "its product, and then the line"
        assert store.calls["run"] == 1
        assert await allocated(store) == {"RUG-1": 3, "LAMP-1": 1}

    run(scenario)


def test_nobody_is_refused_a_line_before_it_was_looked_up() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        await handle_together(writer, message(RulesChanged(RUG, most_waiting=1)), message(order("waits", 20)))
        await handle_together(writer, message(order("o1")))
        assert results(await handle_together(writer, message(order("waits", 20)))) == [None]
        assert results(await handle_together(writer, message(order("waits, too", 20)))) == [TooManyWaiting]
        assert await stand(store) == {"first": "RUG-1", "o1": "RUG-1", "waits": None}

    run(scenario)


def test_a_line_that_something_else_is_said_about_is_looked_up() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        cancelled = message(AllocationCancelled("first", RUG))
        answers = await handle_together(writer, cancelled, message(order("first")), message(order("o1")))
        assert results(answers) == [None, LineClosed, "RUG-1"]
        assert store.calls == {"read": 1, "write": 1}

    run(scenario)


def test_storage_is_not_asked_where_there_is_nothing_to_ask() -> None:
    assert not Wanted()
    for wanted in (Wanted(skus={RUG}), Wanted(refs={"b1"}), Wanted(lines={("o1", RUG)}), Wanted(message_ids={"m1"})):
        assert wanted


def test_a_line_that_is_just_being_written_is_known_to_the_next_group() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        first = submit(writer, [message(order("o1")), message(order("o2", 9))])
        await asyncio.sleep(0)
        again = submit(writer, [message(order("o1")), message(order("o2", 9)), message(order("o1", 2))])
        assert results(await asyncio.gather(*first, *again)) == ["RUG-1", None, "RUG-1", None, LineConflict]
        assert await stand(store) == {"first": "RUG-1", "o1": "RUG-1", "o2": None}
        assert store.read_skus == []

    run(scenario, pile=1)


def test_a_product_that_another_process_changed_is_read_again() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        other = Writer(store.store)
        other.start()
        await other.handle(message(order("stranger", 8)))
        await other.close()
        assert results(await handle_together(writer, message(order("o1", 2)))) == [None]
        assert store.calls == {"write": 1, "run": 1, "load": 1, "save": 1}
        assert results(await handle_together(writer, message(order("o2")), message(order("o3", sku=LAMP)))) == [
            "RUG-1",
            "LAMP-1",
        ]
        assert store.read_skus == [{RUG, LAMP}], "one change of somebody else is no reason to lock"
        assert await allocated(store) == {"RUG-1": 10, "LAMP-1": 2}

    run(scenario)


def test_nothing_stays_when_a_group_was_not_written() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        for number, fault in enumerate(("conflict", "lost", "not read")):
            store.read_skus.clear()
            store.conflicts = [StoreConflict("somebody was faster")] * (fault == "conflict")
            store.lost_after, store.lost_before = int(fault == "lost"), int(fault == "not read")
            await writer.handle(message(order(f"o{number}")))
            await handle_together(writer, message(order(f"p{number}")), message(order(f"p{number}", sku=LAMP)))
            assert store.read_skus[-1] == {RUG, LAMP}, fault
        assert await allocated(store) == {"RUG-1": 7, "LAMP-1": 4}

    run(scenario)


def test_what_is_changed_in_a_transaction_is_read_again_and_nothing_else() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        answers = await handle_together(writer, message(BatchQuantityChanged("RUG-1", 0)))
        assert results(answers) == ["RUG-1"]
        assert store.calls["run"] == 1
        answers = await handle_together(writer, message(order("o1")), message(order("o1", sku=LAMP)))
        assert results(answers) == [None, "LAMP-1"]
        assert store.read_skus == [set(), {RUG}]
        assert await stand(store) == {"first": None, "o1": None}

    run(scenario)


def test_a_refused_message_leaves_nothing_in_memory() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        refused = await handle_together(writer, message(order("first", 2)), message(BatchCreated("RUG-1", RUG, 4)))
        assert [isinstance(answer, Outcome) for answer in refused] == [False, False]
        assert results(await handle_together(writer, message(order("o1", 9)))) == ["RUG-1"]
        assert store.calls == {"read": 2, "write": 2, "run": 1, "load": 1}
        assert await allocated(store) == {"RUG-1": 10, "LAMP-1": 1}

    run(scenario)


def test_a_batch_leaves_with_its_last_piece_and_is_found_again_when_named() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        await writer.handle(message(order("o1", 9)))
        assert writer._warm._kept[RUG].product.batches == []
        answers = await handle_together(writer, message(order("o2")), message(BatchQuantityChanged("RUG-1", 11)))
        assert results(answers) == [None, "RUG-1"]
        assert await stand(store) == {"first": "RUG-1", "o1": "RUG-1", "o2": "RUG-1"}
        assert await allocated(store) == {"RUG-1": 11, "LAMP-1": 1}

    run(scenario)


def test_what_a_product_had_to_write_is_written_once() -> None:
    async def scenario(writer: Writer, store: Asked) -> None:
        await writer.handle(message(BatchCreated("RUG-2", RUG, 5)))
        await writer.handle(message(order("o1", 9)))
        await writer.handle(message(order("o2", 5)))
        product = writer._warm._kept[RUG].product
        assert (product.changed_batches, product.changed_promises, product.batches) == ({}, {}, [])
        await handle_together(writer, message(BatchQuantityChanged("RUG-2", 0)))
        assert await stand(store) == {"first": "RUG-1", "o1": "RUG-1", "o2": None}
        assert await allocated(store) == {"RUG-1": 10, "RUG-2": 0, "LAMP-1": 1}

    run(scenario)


def kept(sku: str, batches: int = 1) -> WarmProduct:
    product = Product(sku, [Batch(f"{sku}-{number}", sku, 1) for number in range(batches)])
    return WarmProduct(product, StoredRecords(sku, LookedUp(session=None)))  # type: ignore[arg-type]


def test_the_product_not_used_for_longest_is_given_up() -> None:
    warm = WarmProducts(max_products=2)
    warm.keep([kept("a"), kept("b")])
    warm.keep([kept("a")])
    warm.keep([kept("c")])
    wanted = Wanted(skus={"a", "b", "c"})
    assert sorted(warm.take(wanted)) == ["a", "c"]
    assert wanted.skus == {"b"}
    assert len(warm) == 0, "who takes them has them"


def test_a_product_with_very_many_batches_is_not_kept() -> None:
    warm = WarmProducts()
    warm.keep([kept("few", MAX_BATCHES), kept("many", MAX_BATCHES)])
    warm.keep([kept("many", MAX_BATCHES + 1)])
    assert sorted(warm.take(Wanted(skus={"few", "many"}))) == ["few"]


def test_a_product_made_without_records_has_nobody_to_leave_its_changes_to() -> None:
    product = Product(RUG, [])
    product.add_batch(Batch("b1", RUG, 1))
    assert not product.leave_changes()
    assert product.changed_batches

"""Counters are counted again from the lines, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from allocation.adapters.memory import MemoryStore
from allocation.domain.errors import UnknownSku
from allocation.domain.events import (
    AllocatedQuantityRepaired,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    Event,
    LineReturned,
    LineShipped,
    RepairRequired,
    ShippedQuantityRepaired,
    WaitingLinesRepaired,
)
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.ledger import unfold
from allocation.service_layer.writing.writer import Writer
from tests.builders import handle_together, message


class Shop:
    """A writer on tables in memory that a test may damage. What is sent together is one group."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.runner = asyncio.Runner()

    def send(self, *events: Event) -> list[Outcome | Exception]:
        async def handle() -> list[Outcome | Exception]:
            writer = Writer(self.store)
            writer.start()
            outcomes = await handle_together(writer, *map(message, events))
            await writer.close()
            return outcomes

        return self.runner.run(handle())

    def raised(self, *events: Event) -> list[Event]:
        """What the last event set off."""
        outcome = self.send(*events)[-1]
        assert isinstance(outcome, Outcome), outcome
        return list(outcome.raised)

    def count_as_allocated(self, ref: str, qty: int) -> None:
        batches = self.store.tables.batches
        batches[ref] = batches[ref]._replace(allocated_quantity=qty)

    def count_as_shipped(self, ref: str, qty: int) -> None:
        batches = self.store.tables.batches
        batches[ref] = batches[ref]._replace(shipped_quantity=qty)

    def count_as_waiting(self, sku: str, number: int) -> None:
        products = self.store.tables.products
        products[sku] = products[sku]._replace(waiting_lines=number)


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    shop.send(BatchCreated("b1", "LAMP", 10), BatchCreated("b2", "LAMP", 5), AllocationRequired("o1", "LAMP", 4))
    shop.send(AllocationRequired("o2", "LAMP", 99))
    yield shop
    shop.runner.close()


def test_counters_that_are_right_stay(shop: Shop) -> None:
    products = dict(shop.store.tables.products)
    assert shop.raised(RepairRequired("LAMP")) == []
    assert shop.store.tables.products == products


@pytest.mark.parametrize("stored", [0, 3, 10])
def test_a_batch_is_counted_again(shop: Shop, stored: int) -> None:
    shop.count_as_allocated("b1", stored)
    assert shop.raised(RepairRequired("LAMP")) == [AllocatedQuantityRepaired("LAMP", "b1", stored, 4)]
    assert shop.store.tables.batches["b1"].allocated_quantity == 4
    assert shop.raised(RepairRequired("LAMP")) == []


@pytest.mark.parametrize("stored", [0, 2, 7])
def test_what_was_shipped_is_counted_again(shop: Shop, stored: int) -> None:
    shop.send(AllocationRequired("o3", "LAMP", 3), LineShipped("o3", "LAMP"))
    shop.count_as_shipped("b1", stored)
    assert shop.raised(RepairRequired("LAMP")) == [ShippedQuantityRepaired("LAMP", "b1", stored, 3)]
    batch = shop.store.tables.batches["b1"]
    assert (batch.allocated_quantity, batch.shipped_quantity) == (7, 3)
    assert shop.raised(RepairRequired("LAMP")) == []


def test_both_counters_of_a_batch_are_counted_again(shop: Shop) -> None:
    shop.send(LineShipped("o1", "LAMP"))
    shop.count_as_allocated("b1", 10)
    shop.count_as_shipped("b1", 9)
    version = shop.store.tables.products["LAMP"].version_number
    assert shop.raised(RepairRequired("LAMP")) == [
        AllocatedQuantityRepaired("LAMP", "b1", 10, 4),
        ShippedQuantityRepaired("LAMP", "b1", 9, 4),
    ]
    batch = shop.store.tables.batches["b1"]
    assert (batch.allocated_quantity, batch.shipped_quantity) == (4, 4)
    assert shop.store.tables.products["LAMP"].version_number == version + 2


def test_what_the_same_group_shipped_before_is_not_counted_as_damage(shop: Shop) -> None:
    shop.send(AllocationRequired("o3", "LAMP", 3))
    shop.count_as_shipped("b1", 2)
    before = [LineShipped("o1", "LAMP"), LineShipped("o3", "LAMP"), LineReturned("o3", "LAMP", 1)]
    assert shop.raised(*before, RepairRequired("LAMP")) == [ShippedQuantityRepaired("LAMP", "b1", 8, 6)]
    assert shop.store.tables.batches["b1"].shipped_quantity == 6
    assert shop.raised(RepairRequired("LAMP")) == []


def test_waiting_lines_are_counted_again(shop: Shop) -> None:
    shop.count_as_waiting("LAMP", 7)
    assert shop.raised(RepairRequired("LAMP")) == [WaitingLinesRepaired("LAMP", 7, 1)]
    assert shop.store.tables.products["LAMP"].waiting_lines == 1


def test_promises_stay_as_they_are(shop: Shop) -> None:
    lines = dict(shop.store.tables.lines)
    shop.count_as_allocated("b1", 9)
    shop.count_as_waiting("LAMP", 0)
    assert len(shop.raised(RepairRequired("LAMP"))) == 2
    assert shop.store.tables.lines == lines


def test_a_counter_that_would_say_that_too_much_is_sold_stays(shop: Shop) -> None:
    batches = shop.store.tables.batches
    batches["b1"] = batches["b1"]._replace(purchased_quantity=3, allocated_quantity=1)
    assert shop.raised(RepairRequired("LAMP")) == []
    assert batches["b1"].allocated_quantity == 1


def test_what_the_same_group_changed_before_is_not_counted_as_damage(shop: Shop) -> None:
    shop.count_as_allocated("b1", 7)
    before = [AllocationRequired("o3", "LAMP", 2), BatchQuantityChanged("b2", 6), AllocationRequired("o4", "LAMP", 88)]
    assert shop.raised(*before, RepairRequired("LAMP")) == [AllocatedQuantityRepaired("LAMP", "b1", 9, 6)]
    assert shop.store.tables.batches["b1"].allocated_quantity == 6
    assert shop.raised(RepairRequired("LAMP")) == []


def test_asked_twice_in_a_group_it_is_done_once(shop: Shop) -> None:
    shop.count_as_allocated("b1", 7)
    assert shop.raised(RepairRequired("LAMP"), RepairRequired("LAMP")) == []
    assert shop.store.tables.batches["b1"].allocated_quantity == 4


def test_a_repair_is_in_the_ledger(shop: Shop) -> None:
    shop.count_as_allocated("b1", 7)
    outcome = shop.send(RepairRequired("LAMP"))[0]
    assert isinstance(outcome, Outcome)
    rows = [row for row, _ in shop.store.tables.messages[outcome.message.id]]
    assert [event for row in rows for _, event in unfold(row)] == [
        RepairRequired("LAMP"),
        AllocatedQuantityRepaired("LAMP", "b1", 7, 4),
    ]


def test_a_product_that_is_not_there_cannot_be_repaired(shop: Shop) -> None:
    (refused,) = shop.send(RepairRequired("SOFA"))
    assert isinstance(refused, UnknownSku)

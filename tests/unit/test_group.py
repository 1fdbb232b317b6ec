"""What a group reads, and what it writes to be sure that nobody was there in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from allocation.adapters.memory import MemorySession, MemoryStore, MemoryTables
from allocation.domain.events import AllocationRequired, BatchCreated, BatchQuantityChanged, BatchReleased, Event
from allocation.domain.model import OrderLine, Product, Rules
from allocation.domain.state import ChangedWithoutFact
from allocation.service_layer.handlers import HANDLERS, RAISES
from allocation.service_layer.messagebus import UndeclaredEvent
from allocation.service_layer.messages import Outcome
from allocation.service_layer.unit_of_work import AbstractUnitOfWork
from allocation.service_layer.writing.ahead import ReadAhead
from allocation.service_layer.writing.group import GroupUnitOfWork, wanted_by
from allocation.service_layer.writing.store import Changes, Loaded, ProductVersion, Wanted
from allocation.service_layer.writing.writer import Writer
from allocation.testing.rows import MOMENT, SKU, batch, ledger, line, product
from tests.bookkeeping import audited
from tests.builders import handle_together, message


def changes_by(event: Event, key: str | None = None) -> Changes:
    """What a message changes of a product with a batch, a line on it, and a message with that key."""
    known = ledger("known")._replace(type="AllocationRequired", body=f'{{"orderid":"o1","sku":"{SKU}","qty":1}}')
    tables = MemoryTables(
        {SKU: product(version=2)},
        {"b1": batch(allocated=1)},
        {("o1", SKU): line("o1")},
        {"known": [(known, MOMENT)]},
    )
    uow = GroupUnitOfWork(MemorySession(tables), MOMENT)
    asked = message(event, key)
    uow.load(wanted_by([asked], check_ids=False))
    uow.handle(asked)
    return uow.changes()


def test_what_a_message_found_as_it_should_be_has_to_stay_so_until_it_is_written() -> None:
    same_version = [ProductVersion(SKU, 2, 0, loaded_version=2)]
    for event in (BatchQuantityChanged("b1", 10), AllocationRequired("o1", SKU, 1)):
        changes = changes_by(event)
        assert (changes.products, changes.batches, changes.lines) == (same_version, [], [])


def test_a_repeat_answered_from_the_ledger_does_not_mind_what_others_do() -> None:
    changes = changes_by(AllocationRequired("o1", SKU, 1), "known")
    assert (changes.products, changes.messages) == ([], [])


def test_a_message_read_after_it_was_written_and_before_that_is_known_counts_once() -> None:
    row, fact = ledger("m1"), ledger("m1", 1)
    ahead = ReadAhead(Loaded(messages=[row, fact]), Changes(MOMENT, messages=[row, fact, ledger("m2")]))
    assert ahead.load(Wanted(message_ids={"m1"})).messages == [row, fact]


def by_version(product: Product) -> None:
    product.version_number += 1


def by_quantity(product: Product) -> None:
    product.batches[0].count(0)


def by_line(product: Product) -> None:
    product.batches[0].allocate(OrderLine("o9", SKU, 1))


def by_waiting(product: Product) -> None:
    product.waiting_lines += 1


def by_rules(product: Product) -> None:
    product.rules = Rules(safety_stock=1)


def by_fact_and_quarantine(product: Product) -> None:
    product.change_batch_quantity("b1", 9)
    product.batches[0].change_quarantine("damp")


@pytest.mark.parametrize("change", [by_version, by_quantity, by_line, by_waiting, by_rules, by_fact_and_quarantine])
def test_a_group_whose_product_changed_without_a_fact_is_refused_as_a_bug(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Product], None]
) -> None:
    def release_batch(event: BatchReleased, uow: AbstractUnitOfWork) -> None:
        with uow:
            product = uow.products.get_by_batchref(event.ref)
            assert product is not None
            change(product)
            uow.commit()

    monkeypatch.setitem(cast("dict[Any, Any]", HANDLERS), BatchReleased, [release_batch])
    monkeypatch.setitem(cast("dict[Any, Any]", RAISES), release_batch, frozenset({BatchQuantityChanged}))

    async def play() -> tuple[list[Outcome | Exception], MemoryTables]:
        store = MemoryStore()
        writer = Writer(store)
        writer.start()
        await handle_together(writer, message(BatchCreated("b1", SKU, 10)))
        before, after = AllocationRequired("o1", SKU, 1), AllocationRequired("o2", SKU, 2)
        answers = await handle_together(writer, message(before), message(BatchReleased("b1")), message(after))
        await writer.close()
        return answers, store.tables

    (first, bug, last), tables = asyncio.run(play())
    assert isinstance(bug, ChangedWithoutFact)
    assert str(bug) == f"{SKU} changed without a fact; only Product._tell and _tell_stock change it"
    assert isinstance(first, Outcome)
    assert isinstance(last, Outcome)
    stored = tables.batches["b1"]
    assert (stored.purchased_quantity, stored.allocated_quantity, stored.quarantine) == (10, 3, None)
    assert audited(tables).differences == []


def test_a_fact_that_is_not_the_message_itself_is_recorded_as_its_consequence_and_not_handled() -> None:
    uow = GroupUnitOfWork(MemorySession(MemoryTables()), MOMENT)
    uow.record(BatchReleased("b1"), None)
    uow.record_given([BatchReleased("b1")])
    assert uow._trail == [(BatchReleased("b1"), None)]
    with pytest.raises(UndeclaredEvent, match=r"^BatchReleased led to BatchQuantityChanged: declare it"):
        uow.record_given([BatchQuantityChanged("b1", 0)])

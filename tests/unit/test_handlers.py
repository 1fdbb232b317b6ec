"""The use cases, through the bus, with a unit of work on plain objects."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pytest

from allocation.domain import events
from allocation.domain.errors import BatchConflict, InvalidSku, LineConflict, UnknownBatch
from allocation.domain.model import Product
from allocation.service_layer import handlers, messagebus
from tests.fakes import FakeStockTeam, FakeUnitOfWork


def play(history: Iterable[events.Event]) -> FakeUnitOfWork:
    """A unit of work in which all this has happened."""
    uow = FakeUnitOfWork()
    for event in history:
        messagebus.handle(event, uow)
    uow.committed = False
    return uow


def product(uow: FakeUnitOfWork, sku: str) -> Product:
    found = uow.products.get(sku)
    assert found is not None
    return found


def available(uow: FakeUnitOfWork, sku: str) -> list[int]:
    return [batch.available_quantity for batch in product(uow, sku).batches]


class TestAddBatch:
    def test_for_new_product(self) -> None:
        uow = FakeUnitOfWork()
        messagebus.handle(events.BatchCreated("b1", "CRUNCHY-ARMCHAIR", 100, None), uow)
        assert uow.products.get("CRUNCHY-ARMCHAIR") is not None
        assert uow.committed

    def test_for_existing_product(self) -> None:
        uow = play([events.BatchCreated("b1", "GARISH-RUG", 100, None)])
        messagebus.handle(events.BatchCreated("b2", "GARISH-RUG", 99, None), uow)
        assert [batch.reference for batch in product(uow, "GARISH-RUG").batches] == ["b1", "b2"]

    def test_answers_with_the_reference(self) -> None:
        assert messagebus.handle(events.BatchCreated("b1", "GARISH-RUG", 100), FakeUnitOfWork()) == ["b1"]

    def test_serves_the_lines_that_wait_and_answers_with_the_batch_first(self) -> None:
        uow = play([events.BatchCreated("b1", "GARISH-RUG", 1), events.AllocationRequired("o1", "GARISH-RUG", 5)])
        assert messagebus.handle(events.BatchCreated("b2", "GARISH-RUG", 9), uow) == ["b2", "b2"]
        assert available(uow, "GARISH-RUG") == [1, 4]

    def test_a_reference_is_unique_over_all_skus(self) -> None:
        uow = play([events.BatchCreated("b1", "GARISH-RUG", 100)])
        with pytest.raises(BatchConflict, match=r"^Batch b1 already exists: 100 of GARISH-RUG, in the warehouse$"):
            messagebus.handle(events.BatchCreated("b1", "PLAIN-RUG", 100), uow)
        assert uow.products.get("PLAIN-RUG") is None
        assert not uow.committed


class TestAllocate:
    def test_returns_the_batch_reference(self) -> None:
        uow = play([events.BatchCreated("batch1", "COMPLICATED-LAMP", 100, None)])
        results = messagebus.handle(events.AllocationRequired("o1", "COMPLICATED-LAMP", 10), uow)
        assert results.pop(0) == "batch1"
        assert uow.committed

    def test_an_unknown_sku_is_refused(self) -> None:
        uow = play([events.BatchCreated("b1", "AREALSKU", 100, None)])
        with pytest.raises(InvalidSku, match=r"^Invalid sku NONEXISTENTSKU$"):
            messagebus.handle(events.AllocationRequired("o1", "NONEXISTENTSKU", 10), uow)
        assert not uow.committed

    def test_a_line_that_nothing_can_take_waits(self) -> None:
        uow = play([events.BatchCreated("b1", "POPULAR-CURTAINS", 9, None)])
        assert messagebus.handle(events.AllocationRequired("o1", "POPULAR-CURTAINS", 10), uow) == [None]
        assert product(uow, "POPULAR-CURTAINS").waiting_lines == 1

    def test_the_same_line_with_another_quantity_is_refused(self) -> None:
        uow = play([events.BatchCreated("b1", "LAMP", 100), events.AllocationRequired("o1", "LAMP", 10)])
        with pytest.raises(LineConflict, match=r"^Order o1 already has a line of LAMP with quantity 10, not 11$"):
            messagebus.handle(events.AllocationRequired("o1", "LAMP", 11), uow)
        assert available(uow, "LAMP") == [90]


class TestChangeBatchQuantity:
    def test_changes_available_quantity(self) -> None:
        uow = play([events.BatchCreated("batch1", "ADORABLE-SETTEE", 100, None)])
        assert messagebus.handle(events.BatchQuantityChanged("batch1", 50), uow) == ["batch1"]
        assert available(uow, "ADORABLE-SETTEE") == [50]
        assert uow.committed

    def test_reallocates_if_necessary(self) -> None:
        uow = play(
            [
                events.BatchCreated("batch1", "INDIFFERENT-TABLE", 50, None),
                events.BatchCreated("batch2", "INDIFFERENT-TABLE", 50, date(2026, 1, 1)),
                events.AllocationRequired("order1", "INDIFFERENT-TABLE", 20),
                events.AllocationRequired("order2", "INDIFFERENT-TABLE", 20),
            ]
        )
        assert available(uow, "INDIFFERENT-TABLE") == [10, 50]
        messagebus.handle(events.BatchQuantityChanged("batch1", 25), uow)
        assert available(uow, "INDIFFERENT-TABLE") == [5, 30]
        moved = product(uow, "INDIFFERENT-TABLE").changed_promises
        assert {orderid: promise.batchref for orderid, promise in moved.items()} == {
            "order1": "batch1",
            "order2": "batch2",
        }

    def test_an_unknown_batch_is_refused(self) -> None:
        with pytest.raises(UnknownBatch, match=r"^Unknown batch batch9$"):
            messagebus.handle(events.BatchQuantityChanged("batch9", 25), FakeUnitOfWork())


class TestOutOfStock:
    def test_the_stock_team_gets_a_mail(self) -> None:
        sent = []

        class FakeNotifications:
            def send_mail(self, to: str, subject: str, text: str = "", id_: str = "") -> None:
                sent.append((to, subject, text, id_))

        event = events.OutOfStock("POPULAR-CURTAINS")
        handlers.send_out_of_stock_notification(event, FakeNotifications(), FakeStockTeam(), "m1~2")
        assert sent == [("stock@example.com", "Out of stock for POPULAR-CURTAINS", "", "m1~2")]

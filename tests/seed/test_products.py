"""What the chapter expects of a product: plain objects, made as the chapter makes them."""

from __future__ import annotations

from datetime import date, timedelta

from allocation.domain import events
from allocation.domain.model import Batch, OrderLine, Product

TODAY = date(2026, 3, 2)
TOMORROW = TODAY + timedelta(days=1)
NEXT_MONTH = TODAY + timedelta(days=30)


def test_stock_in_the_warehouse_goes_before_a_shipment() -> None:
    shipment = Batch("on-the-way", "MELLOW-CLOCK", 40, eta=TOMORROW)
    warehouse = Batch("on-the-shelf", "MELLOW-CLOCK", 40, eta=None)
    product = Product(sku="MELLOW-CLOCK", batches=[shipment, warehouse])
    product.allocate(OrderLine("order-a", "MELLOW-CLOCK", 15))
    assert (warehouse.available_quantity, shipment.available_quantity) == (25, 40)


def test_of_shipments_the_earliest_goes_first() -> None:
    slow = Batch("slow", "PLAIN-SPOON", 40, eta=NEXT_MONTH)
    fast = Batch("fast", "PLAIN-SPOON", 40, eta=TODAY)
    middle = Batch("middle", "PLAIN-SPOON", 40, eta=TOMORROW)
    product = Product(sku="PLAIN-SPOON", batches=[slow, fast, middle])
    product.allocate(OrderLine("order-a", "PLAIN-SPOON", 15))
    assert [batch.available_quantity for batch in (fast, middle, slow)] == [25, 40, 40]


def test_allocating_returns_the_reference_of_the_batch() -> None:
    warehouse = Batch("on-the-shelf", "LOUD-POSTER", 40, eta=None)
    shipment = Batch("on-the-way", "LOUD-POSTER", 40, eta=TOMORROW)
    product = Product(sku="LOUD-POSTER", batches=[warehouse, shipment])
    assert product.allocate(OrderLine("order-a", "LOUD-POSTER", 15)) == warehouse.reference


def test_without_stock_nothing_is_returned_and_out_of_stock_is_the_last_event() -> None:
    product = Product(sku="TINY-FORK", batches=[Batch("all-there-is", "TINY-FORK", 15, eta=TODAY)])
    product.allocate(OrderLine("order-a", "TINY-FORK", 15))
    assert product.allocate(OrderLine("order-b", "TINY-FORK", 1)) is None
    assert product.events[-1] == events.OutOfStock(sku="TINY-FORK")


def test_each_allocation_increments_the_version_number() -> None:
    product = Product(sku="NORDIC-PEN", batches=[Batch("on-the-shelf", "NORDIC-PEN", 40, eta=None)])
    product.version_number = 11
    product.allocate(OrderLine("order-a", "NORDIC-PEN", 15))
    assert product.version_number == 12

"""Lines leave the warehouse, and some come back."""

from __future__ import annotations

import pytest

from allocation.domain.errors import CountBelowShipped, NotReturnable, NotShippable, UnknownLine
from allocation.domain.events import (
    AllocationCancelled,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReleased,
    LineReturned,
    LineShipped,
    Returned,
    Shipped,
    StockScrapped,
)
from tests.unit.promises.shop import SKU, Shop, bought, day, held, ordered


def shipped(orderid: str) -> LineShipped:
    return LineShipped(orderid, SKU)


def returned(orderid: str, qty: int | None = None, *, scrapped: bool = False) -> LineReturned:
    return LineReturned(orderid, SKU, qty, scrapped)


def test_a_shipped_line_takes_its_stock_along() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4))
    assert shop.send(shipped("o1")) == [Shipped("o1", SKU, 4, "b1")]
    batch = shop.batch("b1")
    assert (batch.purchased_quantity, batch.allocated_quantity, batch.shipped_quantity) == (9, 4, 4)
    assert (shop.stands, shop.result) == ({"o1": "shipped"}, "b1")


def test_a_line_is_shipped_once_and_ordered_once() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), shipped("o1"))
    assert (shop.send(shipped("o1")), shop.result) == ([], "b1")
    assert (shop.send(ordered("o1", 4)), shop.result) == ([], "b1")


@pytest.mark.parametrize("event", [BatchQuantityChanged("b1", 4), BatchQuarantined("b1", "wet")])
def test_a_shipped_line_never_moves_again(event: BatchQuantityChanged | BatchQuarantined) -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4, by=2), ordered("o2", 5, by=2), bought("b2", 9), shipped("o1"))
    shop.send(event)
    assert shop.stands == {"o1": "shipped", "o2": "b2"}


def test_a_batch_cannot_be_counted_below_what_left_it() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), shipped("o1"), BatchQuantityChanged("b1", 4))
    with pytest.raises(CountBelowShipped, match=r"^Batch b1 cannot have 3: 4 were already shipped$"):
        shop.send(BatchQuantityChanged("b1", 3))


@pytest.mark.parametrize(
    ("orderid", "why"),
    [("waits", "it waits for stock"), ("inbound", f"batch b2 is due {day(3)}"), ("wet", "batch b1 is in quarantine")],
)
def test_only_what_is_in_the_warehouse_and_on_sale_is_shipped(orderid: str, why: str) -> None:
    shop = Shop(
        *(bought("b1", 4), bought("b2", 3, due=3), ordered("wet", 4), ordered("inbound", 3), ordered("waits", 9)),
        BatchQuarantined("b1", "wet", keep_lines=True),
    )
    with pytest.raises(NotShippable, match=f"^The line of LAMP in order {orderid} cannot be shipped: {why}$"):
        shop.send(shipped(orderid))


def test_lines_kept_in_quarantine_are_shipped_after_its_release() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), BatchQuarantined("b1", "wet", keep_lines=True), BatchReleased("b1"))
    shop.send(shipped("o1"))
    assert shop.stands == {"o1": "shipped"}


def test_what_comes_back_goes_to_who_waits() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), ordered("o2", 3), shipped("o1"))
    assert shop.send(returned("o1"))[0] == Returned("o1", SKU, 4, "b1", 0)
    assert (shop.stands, shop.available) == ({"o1": "returned", "o2": "b1"}, {"b1": 1})
    assert shop.batch("b1").shipped_quantity == 0


def test_a_part_comes_back_and_then_the_rest() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), shipped("o1"))
    assert shop.send(returned("o1", 1)) == [Returned("o1", SKU, 1, "b1", 3)]
    assert (shop.stands, shop.line("o1").line.qty, shop.available) == ({"o1": "shipped"}, 3, {"b1": 1})
    assert shop.send(returned("o1", 1)) == [Returned("o1", SKU, 1, "b1", 2)], "without a key it is another one"
    assert shop.send(returned("o1")) == [Returned("o1", SKU, 2, "b1", 0)]
    assert (shop.stands, shop.available) == ({"o1": "returned"}, {"b1": 4})


def test_scrapped_stock_is_as_good_as_never_purchased_and_serves_nobody() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), ordered("o2", 1), shipped("o1"))
    raised = shop.send(returned("o1", 3, scrapped=True))
    assert raised == [Returned("o1", SKU, 3, "b1", 1), StockScrapped(SKU, "b1", 3)]
    batch = shop.batch("b1")
    assert (batch.purchased_quantity, batch.allocated_quantity, batch.shipped_quantity) == (1, 1, 1)
    assert shop.stands == {"o1": "shipped", "o2": None}


def test_a_line_returned_whole_is_returned_once() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), shipped("o1"), returned("o1"))
    assert shop.send(returned("o1")) == shop.send(returned("o1", 4)) == []
    assert shop.available == {"b1": 4}


def test_what_comes_back_into_a_batch_in_quarantine_serves_nobody_until_its_release() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), ordered("o2", 3), shipped("o1"), BatchQuarantined("b1", "wet"))
    shop.send(returned("o1"))
    assert shop.stands["o2"] is None
    shop.send(BatchReleased("b1"))
    assert shop.stands["o2"] == "b1"


@pytest.mark.parametrize(
    ("before", "event", "message"),
    [
        ([], returned("o1"), "4 of LAMP cannot be returned from order o1: 0 are shipped"),
        ([shipped("o1")], returned("o1", 5), "5 of LAMP cannot be returned from order o1: 4 are shipped"),
        (
            [shipped("o1"), returned("o1")],
            returned("o1", 2),
            "2 of LAMP cannot be returned from order o1: 0 are shipped",
        ),
        ([AllocationCancelled("o1", SKU)], returned("o1"), "4 of LAMP cannot be returned from order o1: 0 are shipped"),
    ],
)
def test_only_what_was_shipped_comes_back(before: list[LineShipped], event: LineReturned, message: str) -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), *before)
    with pytest.raises(NotReturnable, match=f"^{message}$"):
        shop.send(event)


@pytest.mark.parametrize("event", [shipped("h1"), returned("h1"), shipped("o9"), returned("o9")])
def test_what_is_no_line_is_neither_shipped_nor_returned(event: LineShipped) -> None:
    shop = Shop(bought("b1", 4), held("h1", 1))
    with pytest.raises(UnknownLine):
        shop.send(event)

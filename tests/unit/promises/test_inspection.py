"""Goods that are inspected before they are sold, and batches that are bought in quarantine."""

from __future__ import annotations

import pytest

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import (
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    LineReturned,
    LineShipped,
    Returned,
    StockInspected,
    StockScrapped,
)
from tests.unit.promises.shop import SKU, Shop, bought, kinds, ordered, ruled


def returned(
    orderid: str, disposition: str | None = None, qty: int | None = None, *, scrapped: bool = False
) -> LineReturned:
    return LineReturned(orderid, SKU, qty, scrapped, disposition)


def figures(shop: Shop, ref: str = "b1") -> tuple[int, int, int, int]:
    """The quantities purchased and for sale, on hand, available, and in inspection."""
    batch = shop.batch(ref)
    return batch.purchased_quantity, batch.on_hand_quantity, batch.available_quantity, batch.inspect_quantity


def shipped_shop() -> Shop:
    """Four of nine were shipped, the others are promised, and a line waits."""
    return Shop(bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU), ordered("o2", 5), ordered("waits", 3))


@pytest.mark.parametrize("disposition", [None, "stock"])
def test_returned_goods_are_sold_again(disposition: str | None) -> None:
    shop = shipped_shop()
    shop.send(returned("o1", disposition))
    assert (shop.stands, figures(shop)) == ({"o1": "returned", "o2": "b1", "waits": "b1"}, (9, 9, 1, 0))


@pytest.mark.parametrize("scrapped", [False, True])
def test_returned_goods_are_scrapped(scrapped: bool) -> None:
    shop = shipped_shop()
    raised = shop.send(returned("o1", None if scrapped else "scrap", scrapped=scrapped))
    assert raised == [Returned("o1", SKU, 4, "b1", 0), StockScrapped(SKU, "b1", 4)]
    assert (shop.stands["waits"], figures(shop)) == (None, (5, 5, 0, 0))


def test_returned_goods_are_inspected_and_no_waiting_line_gets_them() -> None:
    shop = shipped_shop()
    raised = shop.send(returned("o1", "inspect"))
    assert raised == [Returned("o1", SKU, 4, "b1", 0), StockInspected(SKU, "b1", 4)]
    assert (shop.stands["waits"], figures(shop)) == (None, (5, 9, 0, 4))
    shop.send(ordered("o3", 1))
    assert shop.stands["o3"] is None


def test_released_goods_go_to_who_waits() -> None:
    shop = shipped_shop()
    shop.send(returned("o1", "inspect"))
    shop.send(BatchReleased("b1"))
    assert (shop.stands["waits"], figures(shop)) == ("b1", (9, 9, 1, 0))


def test_some_of_a_line_is_inspected_and_the_customer_keeps_the_rest() -> None:
    shop = shipped_shop()
    shop.send(returned("o1", "inspect", 1))
    assert (shop.stands["o1"], figures(shop)) == ("shipped", (8, 6, 0, 1))


def test_a_line_on_the_arrived_part_of_a_batch_comes_back_to_it() -> None:
    shop = Shop(bought("b1", 50, due=3), ordered("o1", 4), BatchReceived("b1", 4), LineShipped("o1", SKU))
    shop.send(returned("o1", "inspect", 3))
    assert (figures(shop), shop.batch("b1").incoming_quantity) == ((47, 3, 46, 3), 46)
    shop.send(returned("o1", "stock", 1))
    assert (figures(shop), shop.batch("b1").incoming_quantity) == ((47, 4, 47, 3), 46)
    shop.send(BatchReleased("b1"))
    assert (figures(shop), shop.batch("b1").incoming_quantity) == ((50, 4, 50, 0), 46)


def test_all_that_has_arrived_was_shipped_and_comes_back_for_inspection() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4), BatchReceived("b1", 4), LineShipped("o1", SKU))
    shop.send(returned("o1", "inspect"))
    assert (shop.batch("b1").arrived, figures(shop)) == (None, (5, 4, 5, 4))


def test_goods_in_inspection_are_no_safety_stock() -> None:
    shop = Shop(
        bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU), ruled(safety_stock=2), returned("o1", "inspect")
    )
    shop.send(ordered("o2", 4))
    assert shop.stands["o2"] is None
    shop.send(ordered("o3", 3))
    assert shop.stands["o3"] == "b1"


def test_a_disposition_that_contradicts_scrapped_is_refused() -> None:
    shop = shipped_shop()
    with pytest.raises(InvalidMessage, match=r"^disposition is inspect, and scrapped is true$"):
        shop.send(returned("o1", "inspect", scrapped=True))
    shop.send(returned("o1", "scrap", scrapped=True))


def test_goods_that_come_back_to_a_blocked_batch_are_blocked_with_it() -> None:
    shop = Shop(
        *(bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU), BatchQuarantined("b1", "wet")),
        *(ordered("waits", 3), returned("o1", "inspect")),
    )
    shop.send(BatchReleased("b1"))
    assert (shop.stands["waits"], figures(shop), shop.batch("b1").quarantine) == ("b1", (9, 9, 6, 0), None)


def test_a_batch_that_is_bought_in_quarantine_is_for_no_line_until_it_is_released() -> None:
    shop = Shop(bought("b0", 1), ordered("waits", 3))
    assert kinds(shop.send(bought("b1", 9, quarantine="wet"))) == []
    assert (shop.stands, shop.batch("b1").quarantine) == ({"waits": None}, "wet")
    shop.send(BatchReleased("b1"))
    assert shop.stands == {"waits": "b1"}


def test_a_delivery_may_be_blocked_before_it_comes() -> None:
    shop = Shop(bought("b1", 9, due=3, quarantine="recall"), ordered("o1", 4), BatchReceived("b1"))
    assert shop.stands == {"o1": None}
    shop.send(BatchReleased("b1"))
    assert shop.stands == {"o1": "b1"}

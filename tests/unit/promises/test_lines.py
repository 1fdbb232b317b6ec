"""A line is cancelled, or the customer wants more or less of it."""

from __future__ import annotations

import pytest

from allocation.domain.errors import LineClosed, LineConflict, UnknownLine
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchQuarantined,
    Cancelled,
    LinePinned,
    LineQuantityChanged,
    LineShipped,
    Resized,
)
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, kinds, ordered, ruled, told


def cancelled(orderid: str) -> AllocationCancelled:
    return AllocationCancelled(orderid, SKU)


def resized(orderid: str, qty: int) -> LineQuantityChanged:
    return LineQuantityChanged(orderid, SKU, qty)


def test_a_cancelled_line_gives_its_stock_to_who_waits() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 5), ordered("o2", 3))
    raised = shop.send(cancelled("o1"))
    assert raised[0] == Cancelled("o1", SKU, 5, "b1")
    assert shop.stands == {"o1": "cancelled", "o2": "b1"}


def test_a_waiting_line_is_cancelled_and_never_served() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 6))
    assert shop.send(cancelled("o1")) == [Cancelled("o1", SKU, 6, None)]
    shop.send(bought("b2", 9))
    assert (shop.stands, shop.product.waiting_lines) == ({"o1": "cancelled"}, 0)


def test_a_line_is_cancelled_once() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 5), cancelled("o1"))
    assert (shop.send(cancelled("o1")), shop.available) == ([], {"b1": 5})


@pytest.mark.parametrize("event", [cancelled("o1"), resized("o1", 3), LinePinned("o1", SKU, "b1", "x")])
def test_what_was_shipped_does_not_change_any_more(event: AllocationCancelled) -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 5), LineShipped("o1", SKU))
    with pytest.raises(LineClosed, match=r"^The line of LAMP in order o1 was shipped$"):
        shop.send(event)


@pytest.mark.parametrize("event", [resized("o1", 3), ordered("o1", 5), LineShipped("o1", SKU)])
def test_what_was_cancelled_does_not_come_back(event: LineQuantityChanged | AllocationRequired) -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 5), cancelled("o1"))
    with pytest.raises(LineClosed, match=r"^The line of LAMP in order o1 was cancelled$"):
        shop.send(event)


@pytest.mark.parametrize("event", [cancelled("o9"), resized("o9", 3), cancelled("h1"), resized("h1", 3)])
def test_what_is_no_line_is_refused(event: AllocationCancelled) -> None:
    shop = Shop(bought("b1", 5), held("h1", 2))
    with pytest.raises(UnknownLine, match=f"^Order {event.orderid} has no line of LAMP$"):
        shop.send(event)


@pytest.mark.parametrize("event", [cancelled("o9"), resized("o9", 3), LineShipped("o9", SKU)])
def test_of_a_product_nobody_knows_there_is_no_line(event: AllocationCancelled) -> None:
    with pytest.raises(UnknownLine):
        Shop().send(event)


def test_a_line_shrinks_where_it_stands_and_others_get_the_rest() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 5), ordered("o2", 3))
    raised = shop.send(resized("o1", 2))
    assert (raised[0], shop.result) == (Resized("o1", SKU, 2, 5), "b1")
    assert (shop.stands, shop.available) == ({"o1": "b1", "o2": "b1"}, {"b1": 0})


def test_a_line_grows_where_it_stands_if_there_is_room() -> None:
    shop = Shop(bought("b0", 2), bought("b1", 5, due=1), ordered("o1", 3))
    assert shop.send(resized("o1", 5)) == [Resized("o1", SKU, 5, 3)]
    assert (shop.result, shop.available) == ("b1", {"b0": 2, "b1": 0})


def test_a_line_too_large_for_its_batch_moves_to_another_and_is_told_its_day() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 3), bought("b2", 9, due=4), ordered("o2", 1))
    raised = shop.send(resized("o1", 6))
    assert (shop.stands, told(raised)) == ({"o1": "b2", "o2": "b1"}, [("o1", TODAY, day(4), 0)])


def test_a_line_too_large_for_any_batch_waits() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 3), ordered("o2", 4))
    raised = shop.send(resized("o1", 6))
    assert (shop.stands, told(raised)) == ({"o1": None, "o2": "b1"}, [("o1", TODAY, None, 0)])


def test_a_waiting_line_is_served_as_soon_as_it_is_small_enough() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 9))
    assert kinds(shop.send(resized("o1", 7))) == ["Resized"]
    assert (shop.stands, shop.product.waiting_lines) == ({"o1": None}, 1)
    assert kinds(shop.send(resized("o1", 5))) == ["Resized", "AllocationRequired", "Allocated"]
    assert (shop.stands, shop.product.waiting_lines) == ({"o1": "b1"}, 0)


def test_a_resized_line_keeps_its_age_and_its_priority() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 9, priority=3), ordered("o2", 9, priority=3), resized("o1", 8))
    shop.send(bought("b2", 9))
    assert shop.stands == {"o1": "b2", "o2": None}


def test_a_line_does_not_grow_on_a_batch_in_quarantine() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 3), BatchQuarantined("b1", "wet", keep_lines=True))
    shop.send(resized("o1", 2))
    assert shop.stands == {"o1": "b1"}
    shop.send(resized("o1", 4))
    assert shop.stands == {"o1": None}


def test_a_line_does_not_grow_into_the_safety_stock() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 3), ruled(safety_stock=5), bought("b2", 9, due=4))
    shop.send(resized("o1", 4))
    assert shop.stands == {"o1": "b1"}
    shop.send(resized("o1", 5))
    assert shop.stands == {"o1": "b2"}


def test_the_same_quantity_again_changes_nothing() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 3))
    assert (shop.send(resized("o1", 3)), shop.result) == ([], "b1")


def test_a_resized_line_is_known_by_its_new_quantity() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 3), resized("o1", 4))
    assert shop.send(ordered("o1", 4)) == []
    with pytest.raises(LineConflict, match=r"with quantity 4, not 3$"):
        shop.send(ordered("o1", 3))

"""A line that may be split is spread over batches when none takes it whole, and each part has a life of its own."""

from __future__ import annotations

import pytest

from allocation.domain import splitting
from allocation.domain.errors import LineClosed, LineConflict, LineWasSplit, TooManyWaiting
from allocation.domain.events import (
    Allocated,
    AllocationCancelled,
    AllocationRequired,
    Backordered,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    HoldConfirmed,
    LinePinned,
    LineQuantityChanged,
    LineReturned,
    LineShipped,
    OutOfStock,
    Split,
)
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, kinds, ordered, ruled, told


def split(orderid: str, qty: int, by: int | None = None) -> AllocationRequired:
    return ordered(orderid, qty, by, split=True)


def cancelled(orderid: str) -> AllocationCancelled:
    return AllocationCancelled(orderid, SKU)


def resized(orderid: str, qty: int) -> LineQuantityChanged:
    return LineQuantityChanged(orderid, SKU, qty)


def test_a_line_stays_whole_where_a_batch_takes_it() -> None:
    shop = Shop(bought("b1", 6), bought("b2", 10, due=1), split("o1", 10))
    assert (shop.parts, shop.result) == ({"o1": (10, "b2")}, "b2")


def test_a_line_that_no_batch_takes_whole_gets_from_each_what_it_has_and_the_rest_waits() -> None:
    shop = Shop(bought("b1", 6), bought("b2", 3, due=1))
    raised = shop.send(split("o1", 11))
    assert raised == [
        Split("o1", SKU, 6, 5, "o1/2", 4),
        Allocated("o1", SKU, 6, "b1"),
        Split("o1/2", SKU, 3, 2, "o1/3", 5),
        Allocated("o1/2", SKU, 3, "b2"),
        Backordered("o1/3", SKU, 2),
        OutOfStock(SKU),
    ]
    assert shop.result == [
        {"orderid": "o1", "qty": 6, "batchref": "b1"},
        {"orderid": "o1/2", "qty": 3, "batchref": "b2"},
        {"orderid": "o1/3", "qty": 2, "batchref": None},
    ]


def test_what_is_left_of_a_line_goes_whole_to_a_batch_that_takes_it() -> None:
    shop = Shop(bought("b1", 6), bought("b2", 1), bought("b3", 8, due=1), split("o1", 10))
    assert shop.parts == {"o1": (6, "b1"), "o1/2": (4, "b3")}


def test_a_line_that_finds_nothing_waits_whole() -> None:
    shop = Shop(bought("b1", 6), ordered("o1", 6), split("o2", 4))
    assert (shop.parts["o2"], shop.result) == ((4, None), None)


def test_a_line_that_may_not_be_split_waits_beside_stock() -> None:
    shop = Shop(bought("b1", 6), ordered("o1", 7))
    assert shop.parts == {"o1": (7, None)}


def test_a_waiting_line_is_served_in_parts_as_stock_comes() -> None:
    shop = Shop(bought("b1", 1), ordered("o0", 1), split("o1", 9))
    assert kinds(shop.send(bought("b2", 4))) == [
        "AllocationRequired",
        "Split",
        "Allocated",
        "Backordered",
        "OutOfStock",
    ]
    shop.send(bought("b3", 2))
    shop.send(bought("b4", 50))
    assert shop.parts == {"o0": (1, "b1"), "o1": (4, "b2"), "o1/2": (2, "b3"), "o1/3": (3, "b4")}


def test_a_waiting_line_takes_its_part_before_a_younger_one_does() -> None:
    shop = Shop(bought("b1", 1), ordered("o0", 1), split("o1", 9), ordered("o2", 3), ordered("o3", 1))
    shop.send(bought("b2", 4))
    assert shop.parts == {"o0": (1, "b1"), "o1": (4, "b2"), "o1/2": (5, None), "o2": (3, None), "o3": (1, None)}


def test_only_what_may_be_sold_is_taken() -> None:
    shop = Shop(bought("b1", 5), bought("wet", 5), bought("old", 5, expires_on=day(2)))
    shop.send(BatchQuarantined("wet", "a leaking roof"))
    shop.send(ruled(safety_stock=2, shelf_life_days=3))
    shop.send(split("o1", 9))
    assert shop.parts == {"o1": (3, "b1"), "o1/2": (6, None)}


def test_batches_in_time_come_before_those_too_late() -> None:
    shop = Shop(bought("late", 3, due=9), bought("later", 3, due=12), bought("soon", 3, due=2))
    shop.send(split("o1", 8, by=4))
    assert shop.parts == {"o1": (3, "soon"), "o1/2": (3, "late"), "o1/3": (2, "later")}


def test_just_in_time_takes_the_latest_in_time_first() -> None:
    shop = Shop(bought("now", 3), bought("soon", 3, due=2), ruled(strategy="just-in-time"), split("o1", 5, by=4))
    assert shop.parts == {"o1": (3, "soon"), "o1/2": (2, "now")}


def test_the_preferred_location_comes_first() -> None:
    shop = Shop(bought("lyon", 3, location="LYON"), bought("oslo", 3, location="OSLO"))
    shop.send(ruled(strategy="preferred-location", location="OSLO"))
    shop.send(split("o1", 5))
    assert shop.parts == {"o1": (3, "oslo"), "o1/2": (2, "lyon")}


def test_the_same_line_again_is_answered_with_its_parts() -> None:
    shop = Shop(bought("b1", 6), split("o1", 10))
    first = shop.result
    assert (shop.send(split("o1", 10)), shop.result) == ([], first)


@pytest.mark.parametrize("again", [split("o1", 9), ordered("o1", 10), split("o1", 10, by=1)])
def test_another_line_under_the_same_order_is_refused(again: AllocationRequired) -> None:
    shop = Shop(bought("b1", 6), split("o1", 10))
    with pytest.raises(LineConflict, match=r"^Order o1 already has a line of LAMP "):
        shop.send(again)


def test_a_whole_line_is_not_repeated_as_one_to_be_split() -> None:
    shop = Shop(bought("b1", 6), ordered("o1", 6))
    with pytest.raises(LineConflict, match=r"that may not be split; this one may$"):
        shop.send(split("o1", 6))


def test_each_part_has_a_life_of_its_own() -> None:
    shop = Shop(bought("b1", 6), bought("b2", 4, due=1), split("o1", 9))
    shop.send(LineShipped("o1", SKU))
    shop.send(BatchReceived("b2"))
    shop.send(LineShipped("o1/2", SKU))
    shop.send(LineReturned("o1/2", SKU, 1))
    assert (shop.line("o1/2").line.qty, shop.stands) == (2, {"o1": "shipped", "o1/2": "shipped"})
    shop.send(LineReturned("o1", SKU))
    assert shop.stands == {"o1": "returned", "o1/2": "shipped"}


def test_a_part_is_pinned_alone() -> None:
    shop = Shop(bought("b1", 6), split("o1", 8), bought("b2", 9, due=1))
    assert shop.parts == {"o1": (6, "b1"), "o1/2": (2, "b2")}
    shop.send(LinePinned("o1", SKU, "b2", "a friend"))
    assert (shop.parts["o1"], shop.line("o1/2").line.priority) == ((6, "b2"), 0)


def test_a_line_is_cancelled_with_all_parts_that_are_open() -> None:
    shop = Shop(bought("b1", 3), bought("b2", 3), split("o1", 8), ordered("o2", 2))
    shop.send(LineShipped("o1/2", SKU))
    raised = shop.send(cancelled("o1"))
    assert kinds(raised) == ["Cancelled", "Cancelled", "AllocationRequired", "Allocated"]
    assert shop.stands == {"o1": "cancelled", "o1/2": "shipped", "o1/3": "cancelled", "o2": "b1"}
    assert (shop.send(cancelled("o1")), shop.product.waiting_lines) == ([], 0)


def test_the_stock_of_all_parts_goes_to_who_waits() -> None:
    shop = Shop(bought("b1", 3), bought("b2", 3), split("o1", 6), ordered("o2", 3), ordered("o3", 3))
    shop.send(cancelled("o1"))
    assert shop.stands == {"o1": "cancelled", "o1/2": "cancelled", "o2": "b1", "o3": "b2"}


def test_the_stock_of_all_parts_lets_late_lines_move_up() -> None:
    shop = Shop(bought("b1", 3), bought("b2", 3), split("o1", 6), bought("late", 9, due=9), ruled(move_up=True))
    shop.send(ordered("o2", 2, by=4))
    assert shop.stands["o2"] == "late"
    shop.send(cancelled("o1"))
    assert shop.stands["o2"] == "b1"


def test_a_later_part_is_cancelled_alone() -> None:
    shop = Shop(bought("b1", 3), bought("b2", 3), split("o1", 8), cancelled("o1/2"))
    assert shop.stands == {"o1": "b1", "o1/2": "cancelled", "o1/3": "b2"}


def test_what_left_stays_and_the_open_parts_are_cancelled() -> None:
    shop = Shop(bought("b1", 3), split("o1", 8), LineShipped("o1", SKU), cancelled("o1"))
    assert shop.stands == {"o1": "shipped", "o1/2": "cancelled"}
    with pytest.raises(LineClosed, match=r"was shipped$"):
        shop.send(cancelled("o1"))


def test_only_the_last_part_is_edited() -> None:
    shop = Shop(bought("b1", 3), bought("b2", 2), split("o1", 8))
    with pytest.raises(LineWasSplit, match=r"^The line of LAMP in order o1 was split: the other 5 are in o1/2$") as no:
        shop.send(resized("o1", 2))
    assert no.value.cure.startswith("Change o1/3, which is its last part")
    assert kinds(shop.send(resized("o1/3", 1))) == ["Resized"]
    shop.send(split("o1", 8))
    assert shop.result[-1] == {"orderid": "o1/3", "qty": 1, "batchref": None}


def test_the_last_part_grows_into_another_part() -> None:
    shop = Shop(bought("b1", 3), bought("b2", 4), split("o1", 5), resized("o1/2", 6))
    assert shop.parts == {"o1": (3, "b1"), "o1/2": (4, "b2"), "o1/3": (2, None)}


def test_a_part_that_loses_its_batch_is_placed_whole_or_waits() -> None:
    shop = Shop(bought("b1", 6), bought("b2", 6), split("o1", 10), bought("b3", 5))
    shop.send(BatchQuantityChanged("b1", 0))
    assert shop.parts == {"o1/2": (4, "b2"), "o1": (6, None)}


def test_the_last_part_that_loses_its_batch_is_split_again_and_all_of_it_is_told_its_day() -> None:
    shop = Shop(bought("b1", 6), bought("b2", 4), split("o1", 10), bought("b3", 2, due=3))
    raised = shop.send(BatchQuantityChanged("b2", 1))
    assert shop.parts == {"o1": (6, "b1"), "o1/2": (1, "b2"), "o1/3": (2, "b3"), "o1/4": (1, None)}
    assert told(raised) == [("o1/3", TODAY, day(3), 0), ("o1/4", TODAY, None, 0)]


def test_a_whole_line_that_may_be_split_is_when_it_loses_its_batch() -> None:
    shop = Shop(bought("b1", 6), split("o1", 5), bought("b2", 3, due=2))
    raised = shop.send(BatchQuantityChanged("b1", 4))
    assert shop.parts == {"o1": (4, "b1"), "o1/2": (1, "b2")}
    assert told(raised) == [("o1/2", TODAY, day(2), 0)]


def test_a_part_that_would_come_too_late_moves_alone() -> None:
    shop = Shop(bought("b1", 3), bought("b2", 3, due=1), split("o1", 6, by=4), bought("b3", 4, due=2))
    shop.send(BatchEtaChanged("b2", day(9)))
    assert shop.parts == {"o1": (3, "b1"), "o1/2": (3, "b3")}


def test_a_name_that_is_taken_keeps_the_line_whole() -> None:
    for taken in (ordered("o1/2", 1), held("o1/2", 1)):
        shop = Shop(bought("b1", 6), taken, split("o1", 10))
        assert shop.parts["o1"] == (10, None)


def test_a_name_that_would_be_too_long_keeps_the_line_whole() -> None:
    shop = Shop(bought("b1", 6), split("o" * 254, 10))
    assert shop.parts == {"o" * 254: (10, None)}


def test_an_order_that_is_called_like_a_part_has_parts_of_its_own() -> None:
    shop = Shop(bought("b1", 3), split("2026/17", 4))
    assert shop.parts == {"2026/17": (3, "b1"), "2026/17/2": (1, None)}
    shop.send(bought("b2", 1))
    shop.send(split("2026/17/2", 1))
    assert shop.result == "b2"


def test_a_line_has_no_more_parts_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MAX_PARTS", 3)
    shop = Shop(*(bought(f"b{n}", 1) for n in range(5)), split("o1", 9))
    assert shop.parts == {"o1": (1, "b0"), "o1/2": (1, "b1"), "o1/3": (7, None)}


def test_a_rest_that_may_not_wait_refuses_the_whole_line() -> None:
    shop = Shop(bought("b1", 3), ruled(most_waiting=0))
    with pytest.raises(TooManyWaiting):
        shop.send(split("o1", 4))
    shop.send(split("o2", 3))
    assert shop.parts == {"o2": (3, "b1")}


def test_a_confirmed_hold_is_whole() -> None:
    shop = Shop(bought("b1", 6), held("h1", 4))
    shop.send(HoldConfirmed("h1", "o1"))
    shop.send(BatchQuantityChanged("b1", 3))
    assert shop.parts == {"o1": (4, None)}

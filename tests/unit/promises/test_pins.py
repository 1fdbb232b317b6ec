"""Somebody puts a line on a batch by hand."""

from __future__ import annotations

import re

import pytest

from allocation.domain.errors import NotPinnable, UnknownBatch, UnknownLine
from allocation.domain.events import (
    Allocated,
    AllocationCancelled,
    BatchCreated,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReleased,
    LinePinned,
    LineQuantityChanged,
    MoveUpRequired,
    Pinned,
)
from allocation.domain.lines import state_of
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, ordered, ruled, told


def pinned(orderid: str, ref: str) -> LinePinned:
    return LinePinned(orderid, SKU, ref, "the mayor is waiting")


def state(shop: Shop, orderid: str) -> str:
    line, batchref, closed = shop.line(orderid)
    return state_of(batchref, closed, line.priority)


def test_a_line_is_moved_and_told_its_day() -> None:
    shop = Shop(bought("b1", 9), bought("b2", 9, due=3), ordered("o1", 4))
    assert told(shop.send(pinned("o1", "b2"))) == [("o1", TODAY, day(3), 0)]
    assert (shop.stands, shop.result, shop.available) == ({"o1": "b2"}, "b2", {"b1": 9, "b2": 5})


def test_a_waiting_line_goes_before_those_who_have_stock() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 5), ordered("waits", 5))
    assert Pinned("waits", SKU, 5, "b1") in shop.send(pinned("waits", "b1"))
    assert shop.stands == {"o1": "b1", "o2": None, "waits": "b1"}


def test_the_newest_of_the_lowest_priority_make_room_holds_first() -> None:
    shop = Shop(
        *(bought("b1", 9), ordered("high", 2, priority=5), ordered("old", 2), ordered("new", 3), held("h1", 2)),
        *(bought("b2", 20), ordered("o1", 4)),
    )
    shop.send(pinned("o1", "b1"))
    assert shop.stands == {"high": "b1", "old": "b1", "new": "b2", "h1": "b2", "o1": "b1"}


def test_who_makes_room_and_finds_none_waits_or_if_a_hold_is_lost() -> None:
    shop = Shop(bought("b1", 5), ordered("o1", 3), held("h1", 2), ordered("o2", 5), pinned("o2", "b1"))
    assert shop.stands == {"o1": None, "h1": "lost", "o2": "b1"}


def test_the_stock_it_had_goes_to_who_waits() -> None:
    shop = Shop(bought("b1", 4), bought("b2", 4, due=3), ordered("o1", 4), ordered("o2", 4), ordered("waits", 4))
    shop.send(pinned("o1", "b2"))
    assert shop.stands == {"o1": "b2", "o2": "b1", "waits": None}


def test_a_line_pinned_where_it_stands_stays_longest() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 4), pinned("o2", "b1"))
    shop.send(BatchQuantityChanged("b1", 4))
    assert shop.stands == {"o1": None, "o2": "b1"}


def test_a_pinned_line_that_loses_its_batch_is_served_first() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 9, priority=9), ordered("o2", 4), pinned("o2", "b1"))
    shop.send(BatchQuantityChanged("b1", 0))
    assert shop.stands == {"o1": None, "o2": None}
    shop.send(bought("b2", 9))
    assert shop.stands == {"o1": None, "o2": "b2"}
    assert state(shop, "o2") == "allocated", "nobody pinned it there"


def test_a_pinned_line_that_lost_its_batch_moves_like_any_other() -> None:
    shop = Shop(bought("b1", 4), bought("slow", 4, due=9), ordered("o1", 4, by=2, priority=3), pinned("o1", "b1"))
    assert state(shop, "o1") == "pinned"
    shop.send(BatchQuarantined("b1", "wet"))
    assert (shop.stands, state(shop, "o1")) == ({"o1": "slow"}, "allocated")
    assert shop.line("o1").line.priority == 3, "its own, which a pin leaves alone"
    shop.send(BatchReleased("b1"))
    shop.send(MoveUpRequired(SKU))
    assert shop.stands == {"o1": "b1"}


def test_a_pinned_line_grows_in_place_while_there_is_room() -> None:
    shop = Shop(bought("b1", 9), bought("b2", 9, due=9), ordered("o1", 3), pinned("o1", "b1"))
    shop.send(BatchQuarantined("b1", "wet", keep_lines=True))
    shop.send(LineQuantityChanged("o1", SKU, 9))
    assert (shop.stands, state(shop, "o1")) == ({"o1": "b1"}, "pinned")
    shop.send(LineQuantityChanged("o1", SKU, 10))
    assert shop.stands == {"o1": None}


def test_pinned_again_changes_nothing() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), pinned("o1", "b1"))
    assert (shop.send(pinned("o1", "b1")), shop.result) == ([], "b1")


def test_pinned_lines_can_be_moved_by_hand_again() -> None:
    shop = Shop(bought("b1", 9), bought("b2", 9), ordered("o1", 4), pinned("o1", "b1"))
    assert shop.send(pinned("o1", "b2"))[-1] == Allocated("o1", SKU, 4, "b2")


@pytest.mark.parametrize(
    ("rules", "message", "cure"),
    [
        ({}, "moving other lines leaves it 2 short", "Choose another batch, or recount this one."),
        ({"most_moved": 1}, "more than 1 lines would have to move", "or allow more with most_moved."),
        ({"frozen_days": 5}, "moving other lines leaves it 4 short", "Choose another batch, or recount this one."),
    ],
)
def test_who_cannot_make_room_does_not(rules: dict[str, int], message: str, cure: str) -> None:
    qty = 4 if "most_moved" in rules else 6
    shop = Shop(bought("b1", 6), *(ordered("p", 2), ordered("o2", 2, by=1), ordered("o3", 2)), ordered("o1", qty))
    shop.send(pinned("p", "b1"))
    shop.send(ruled(**rules))
    with pytest.raises(NotPinnable, match=re.escape(f"order o1 cannot be pinned to b1: {message}")) as refused:
        shop.send(pinned("o1", "b1"))
    assert cure in refused.value.cure


def test_nothing_is_put_into_quarantine() -> None:
    shop = Shop(bought("b1", 9), bought("b2", 9), ordered("o1", 4), BatchQuarantined("b2", "wet"))
    with pytest.raises(NotPinnable, match=r"cannot be pinned to b2: it is in quarantine$"):
        shop.send(pinned("o1", "b2"))


def test_unknown_lines_and_batches_are_refused() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), held("h1", 1))
    for orderid in ("o9", "h1"):
        with pytest.raises(UnknownLine):
            shop.send(pinned(orderid, "b1"))
    with pytest.raises(UnknownBatch, match=r"^Unknown batch b9$"):
        shop.send(pinned("o1", "b9"))


def test_a_batch_of_another_product_is_no_batch_for_it() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), AllocationCancelled("o1", SKU), ordered("o2", 1))
    shop.send(BatchCreated("rug-1", "RUG", 9))
    with pytest.raises(UnknownBatch):
        shop.send(pinned("o2", "rug-1"))

"""Who is served first, and who loses stock first."""

from __future__ import annotations

import pytest

from allocation.domain.errors import LineConflict
from allocation.domain.events import AllocationCancelled, BatchQuantityChanged, Deallocated, LinePinned
from tests.unit.promises.shop import SKU, Shop, bought, held, ordered, ruled


def test_waiting_lines_are_served_by_priority_then_by_age() -> None:
    shop = Shop(
        bought("b0", 1),
        *(ordered("o1", 3), ordered("o2", 3, priority=1), ordered("o3", 3, priority=9), ordered("o4", 3, priority=1)),
    )
    for number, orderid in enumerate(("o3", "o2", "o4", "o1"), start=1):
        shop.send(bought(f"b{number}", 3))
        assert shop.stands[orderid] == f"b{number}", shop.stands


def test_a_line_of_a_higher_priority_does_not_bump_one_that_has_stock() -> None:
    shop = Shop(bought("b1", 3), ordered("o1", 3), ordered("o2", 3, priority=9))
    assert shop.stands == {"o1": "b1", "o2": None}


def test_stock_is_lost_by_priority_then_by_youth_holds_first() -> None:
    shop = Shop(
        bought("b1", 10),
        *(ordered("high", 2, priority=9), ordered("old", 2), ordered("low", 2, priority=1), held("h1", 2)),
        ordered("new", 2),
    )
    lost = []
    for left in (8, 6, 4, 2, 0):
        lost += [each.orderid for each in shop.send(BatchQuantityChanged("b1", left)) if isinstance(each, Deallocated)]
    assert (lost, shop.stands["h1"]) == (["h1", "new", "old", "low", "high"], "lost")


def test_freed_lines_are_placed_by_priority_among_those_who_wait() -> None:
    shop = Shop(bought("b1", 6), ordered("o1", 3), ordered("o2", 3), ordered("waits", 3, priority=5))
    shop.send(BatchQuantityChanged("b1", 5))
    assert shop.stands == {"o1": "b1", "o2": None, "waits": None}
    shop.send(bought("b2", 3))
    assert shop.stands == {"o1": "b1", "o2": None, "waits": "b2"}


def test_the_same_line_with_another_priority_is_refused_pinned_or_not() -> None:
    shop = Shop(bought("b1", 3), ordered("o1", 3, priority=2))
    for events in ([], [LinePinned("o1", SKU, "b1", "a friend")]):
        for event in events:
            shop.send(event)
        assert shop.send(ordered("o1", 3, priority=2)) == []
        with pytest.raises(LineConflict, match=r"^Order o1 already has a line of LAMP with priority 2, not 4$"):
            shop.send(ordered("o1", 3, priority=4))


def test_who_waits_long_enough_gains_on_those_of_a_higher_priority() -> None:
    shop = Shop(bought("b1", 1), ordered("old", 3))
    for number in range(4):
        shop.send(ordered(f"o{number}", 1))
        shop.send(AllocationCancelled(f"o{number}", SKU))
    shop.send(ordered("high", 3, priority=1))
    shop.send(ruled(ages_after=3))
    shop.send(bought("b2", 3))
    assert shop.stands["old"] == "b2"
    shop.send(bought("b3", 3))
    assert shop.stands["high"] == "b3"


def test_nobody_gains_where_nobody_ages() -> None:
    shop = Shop(bought("b1", 1), ordered("old", 3))
    for number in range(4):
        shop.send(ordered(f"o{number}", 1))
        shop.send(AllocationCancelled(f"o{number}", SKU))
    shop.send(ordered("high", 3, priority=1))
    shop.send(bought("b2", 3))
    assert (shop.stands["old"], shop.stands["high"]) == (None, "b2")


def test_small_lines_do_not_pass_older_ones_that_fit() -> None:
    shop = Shop(bought("b1", 1), ordered("large", 5), ordered("small", 2), ordered("fits", 3))
    shop.send(bought("b2", 5))
    assert shop.stands == {"large": "b2", "small": None, "fits": None}

"""Stock is kept for the oldest backorder once it has aged, until a batch has enough for it."""

from __future__ import annotations

import pytest

from allocation.domain.errors import NotEnoughStock
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchQuantityChanged,
    LinePinned,
    LineQuantityChanged,
    LineShipped,
)
from tests.unit.promises.shop import SKU, Shop, bought, held, ordered, ruled


def busy(*more: object, ages_after: int = 4) -> Shop:
    """A batch whose lines hold all of it, and a large line that has waited since then, and has gained a priority."""
    small = [ordered(f"s{number}", 2) for number in range(4)]
    return Shop(bought("b1", 8), ruled(ages_after=ages_after), *small, ordered("large", 6), *more)  # type: ignore[arg-type]


def grown_old(*more: object) -> Shop:
    return busy(*(ordered(f"later{number}", 2) for number in range(4)), *more)


def cancel(*orderids: str) -> list[AllocationCancelled]:
    return [AllocationCancelled(orderid, SKU) for orderid in orderids]


def test_a_large_line_is_served_before_smaller_later_ones_once_it_has_aged() -> None:
    shop = grown_old(*cancel("s0", "s1", "s2"))
    assert shop.stands["large"] == "b1"
    assert {shop.stands[f"later{number}"] for number in range(4)} == {None}


def test_smaller_lines_get_the_stock_while_it_has_not_aged() -> None:
    shop = busy(ordered("later", 2), *cancel("s0"), ages_after=99)
    assert (shop.stands["large"], shop.stands["later"]) == (None, "b1")


def test_new_lines_wait_and_holds_are_refused_while_stock_is_kept() -> None:
    shop = grown_old(*cancel("s0", "s1"))
    shop.send(ordered("new", 1))
    assert shop.stands["new"] is None
    with pytest.raises(NotEnoughStock):
        shop.send(held("cart", 1))


def test_lines_of_a_higher_priority_than_it_has_gained_get_it() -> None:
    shop = grown_old(*cancel("s0", "s1"), ordered("urgent", 1, priority=9))
    assert shop.stands["urgent"] == "b1"


def test_other_batches_serve_the_others() -> None:
    shop = grown_old(*cancel("s0", "s1"), bought("b2", 3))
    assert shop.stands["later0"] == "b2"
    assert shop.stands["large"] is None


@pytest.mark.parametrize(
    "event",
    [
        AllocationCancelled("large", SKU),
        LineQuantityChanged("large", SKU, 20),
        LineShipped("s2", SKU),
        BatchQuantityChanged("b1", 5),
        ruled(),
    ],
)
def test_others_get_the_stock_that_is_not_kept_any_more(event: object) -> None:
    shop = grown_old(*cancel("s0"), *([LineShipped("s3", SKU)] if isinstance(event, LineShipped) else []))
    assert shop.stands["later0"] is None or isinstance(event, LineShipped)
    shop.send(event)  # type: ignore[arg-type]
    if not isinstance(event, BatchQuantityChanged):
        assert shop.stands["later0"] == "b1"


def test_others_get_the_stock_in_the_change_that_serves_the_line() -> None:
    shop = grown_old(*cancel("s0"), bought("b2", 6))
    assert shop.stands["large"] == "b2"
    assert [shop.stands[f"later{number}"] for number in range(4)] == ["b1", None, None, None]


def test_others_get_the_stock_when_it_has_a_place_by_hand() -> None:
    shop = grown_old(bought("b2", 6, due=9), ordered("x", 1))
    assert shop.stands["large"] == "b2"
    shop = grown_old(*cancel("s0"), LinePinned("large", SKU, "b1", "a friend"))
    assert shop.stands["large"] == "b1"


def test_a_batch_that_could_not_hold_it_is_for_everybody() -> None:
    shop = grown_old(bought("small", 5))
    assert (shop.stands["large"], shop.stands["later0"], shop.stands["later1"]) == (None, "small", "small")


def test_a_line_that_may_be_split_is_split_instead() -> None:
    small, later = ([ordered(f"{name}{number}", 2) for number in range(4)] for name in ("s", "later"))
    large = AllocationRequired("large", SKU, 6, split=True)
    shop = Shop(bought("b1", 8), ruled(ages_after=4), *small, large, *later)
    shop.send(*cancel("s0"))
    assert (shop.parts["large"], shop.parts["large/2"]) == ((2, "b1"), (4, None))

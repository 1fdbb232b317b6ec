"""A batch must not be sold for a while."""

from __future__ import annotations

import pytest

from allocation.domain.errors import UnknownBatch
from allocation.domain.events import (
    AllocationCancelled,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReleased,
    LinePinned,
)
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, ordered, ruled, told


def quarantined(ref: str, *, keep_lines: bool = False) -> BatchQuarantined:
    return BatchQuarantined(ref, "a leaking roof", keep_lines)


def test_its_lines_lose_it_and_are_placed_in_order() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 5), bought("b2", 4, due=3))
    raised = shop.send(quarantined("b1"))
    assert (shop.stands, shop.result) == ({"o1": "b2", "o2": None}, "b1")
    assert told(raised) == [("o1", TODAY, day(3), 0), ("o2", TODAY, None, 0)]


def test_its_lines_keep_it_if_they_are_to() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), bought("b2", 9))
    assert shop.send(quarantined("b1", keep_lines=True)) == []
    assert shop.stands == {"o1": "b1"}
    assert shop.batch("b1").quarantine == "a leaking roof"


def test_nothing_of_it_is_sold_until_it_is_released() -> None:
    shop = Shop(bought("b1", 9), quarantined("b1"), ordered("o1", 4))
    assert shop.stands == {"o1": None}
    shop.send(BatchReleased("b1"))
    assert (shop.stands, shop.result, shop.batch("b1").quarantine) == ({"o1": "b1"}, "b1", None)


def test_room_in_it_calls_nobody() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 9), ordered("o2", 5), quarantined("b1", keep_lines=True))
    assert [type(each).__name__ for each in shop.send(AllocationCancelled("o1", SKU))] == ["Cancelled"]
    assert shop.stands["o2"] is None


def test_lines_that_kept_it_may_lose_it_later() -> None:
    shop = Shop(
        bought("b1", 9), ordered("o1", 4), quarantined("b1", keep_lines=True), bought("b2", 9), quarantined("b1")
    )
    assert shop.stands == {"o1": "b2"}


def test_what_is_pinned_to_it_or_held_of_it_leaves_too() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), held("h1", 2), LinePinned("o1", SKU, "b1", "promised"))
    shop.send(bought("b2", 6))
    shop.send(quarantined("b1"))
    assert shop.stands == {"o1": "b2", "h1": "b2"}


def test_lines_needed_soon_leave_too_for_it_must_not_be_sold() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4, by=1), ruled(frozen_days=5), bought("b2", 9), quarantined("b1"))
    assert shop.stands == {"o1": "b2"}


def test_it_can_be_counted_meanwhile() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 5), quarantined("b1", keep_lines=True))
    shop.send(BatchQuantityChanged("b1", 4))
    assert shop.stands == {"o1": "b1", "o2": None}


@pytest.mark.parametrize("event", [quarantined("b9"), BatchReleased("b9")])
def test_an_unknown_batch_is_refused(event: BatchReleased) -> None:
    with pytest.raises(UnknownBatch, match=r"^Unknown batch b9$"):
        Shop().send(event)

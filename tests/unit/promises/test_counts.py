"""The warehouse counts a batch, or finds more or less of it than was known."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from allocation.domain.errors import (
    CountBelowShipped,
    CountImpossible,
    CountOutdated,
    InvalidMessage,
    NotArrived,
    NotOnHand,
    UnknownBatch,
)
from allocation.domain.events import (
    BatchCounted,
    BatchQuantityChanged,
    BatchReceived,
    BatchReleased,
    Event,
    LinePinned,
    LineReturned,
    LineShipped,
    StockAdjusted,
    StockCounted,
)
from tests.lives import BEGIN
from tests.unit.promises.shop import SKU, Shop, at, bought, day, held, kinds, ordered, ruled, told


def counted(ref: str, on_hand: int, at: datetime | None = None) -> BatchCounted:
    return BatchCounted(ref, on_hand, counted_at=at)


def adjusted(ref: str, by: int) -> StockAdjusted:
    return StockAdjusted(ref, by, "damaged")


def figures(shop: Shop, ref: str = "b1") -> tuple[int, int, int]:
    """The quantities purchased, on hand and available."""
    batch = shop.batch(ref)
    return batch.purchased_quantity, batch.on_hand_quantity, batch.available_quantity


# Counts


def test_six_are_on_hand_of_ten_of_which_four_were_shipped_and_nothing_changes() -> None:
    shop = Shop(bought("b1", 10), ordered("o1", 4), LineShipped("o1", SKU), ordered("o2", 5))
    assert figures(shop) == (10, 6, 1)
    raised = shop.send(counted("b1", 6))
    assert raised == [StockCounted(SKU, "b1", on_hand=6, before=6, counted_at=BEGIN)]
    assert (figures(shop), shop.stands, shop.result) == ((10, 6, 1), {"o1": "shipped", "o2": "b1"}, "b1")


def test_fewer_than_known_free_the_newest_lines_and_no_more_than_needed() -> None:
    shop = Shop(bought("b1", 10), ordered("o1", 4), LineShipped("o1", SKU), ordered("o2", 2), ordered("o3", 4))
    raised = shop.send(counted("b1", 3))
    assert kinds(raised) == [
        "StockCounted",
        "Deallocated",
        "AllocationRequired",
        "Backordered",
        "PromiseChanged",
        "OutOfStock",
    ]
    assert (figures(shop), shop.stands) == ((7, 3, 1), {"o1": "shipped", "o2": "b1", "o3": None})


def test_more_than_known_serve_who_waits() -> None:
    shop = Shop(bought("b1", 4), ordered("o1", 4), ordered("o2", 2))
    shop.send(counted("b1", 6))
    assert (figures(shop), shop.stands) == ((6, 6, 0), {"o1": "b1", "o2": "b1"})


def test_nothing_is_left_of_it() -> None:
    shop = Shop(bought("b1", 10), ordered("o1", 4), LineShipped("o1", SKU), ordered("o2", 5))
    shop.send(counted("b1", 0))
    assert (figures(shop), shop.stands) == ((4, 0, 0), {"o1": "shipped", "o2": None})


def test_some_is_found_of_a_batch_that_was_counted_down_to_nothing() -> None:
    shop = Shop(bought("b1", 10), counted("b1", 0), counted("b1", 3))
    assert figures(shop) == (3, 3, 3)


def test_a_batch_in_parts_is_counted_and_the_rest_is_due_as_before() -> None:
    shop = Shop(bought("b1", 50, due=2), ordered("o1", 8), ordered("o2", 30), BatchReceived("b1", 10))
    raised = shop.send(counted("b1", 7))
    batch = shop.batch("b1")
    assert (figures(shop), batch.incoming_quantity, batch.eta) == ((47, 7, 9), 40, day(2))
    assert shop.stands == {"o1": "b1", "o2": "b1"}
    assert told(raised) == [("o1", BEGIN.date(), day(2), 0)], "it gets stock of the rest"


def test_nothing_of_the_arrived_part_is_there() -> None:
    shop = Shop(bought("b1", 50, due=2), ordered("o1", 8), ordered("o2", 30), BatchReceived("b1", 10))
    shop.send(counted("b1", 0))
    assert (figures(shop), shop.batch("b1").arrived) == ((40, 0, 2), None)
    assert shop.stands == {"o1": "b1", "o2": "b1"}


def test_a_count_of_a_delivery_that_has_not_come_finds_nothing() -> None:
    shop = Shop(bought("b1", 9, due=2))
    assert kinds(shop.send(counted("b1", 0))) == ["StockCounted"]
    with pytest.raises(NotArrived, match=r"^Nothing of batch b1 is in the warehouse$"):
        shop.send(counted("b1", 3))
    assert figures(shop) == (9, 0, 9)


def test_goods_in_inspection_are_counted_with_the_others() -> None:
    shop = Shop(
        *(bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU)),
        LineReturned("o1", SKU, 3, disposition="inspect"),
    )
    assert (figures(shop), shop.batch("b1").inspect_quantity) == ((6, 8, 5), 3)
    shop.send(counted("b1", 7))
    assert figures(shop) == (5, 7, 4)
    with pytest.raises(
        CountImpossible, match=r"^Batch b1 cannot have been 2 on hand: 3 have left since, or are in insp"
    ):
        shop.send(counted("b1", 2))


def test_a_count_before_the_last_one_is_refused() -> None:
    shop = Shop(bought("b1", 9), counted("b1", 9, at(-2)))
    with pytest.raises(CountOutdated, match=r"^The count of batch b1 from .* is older than the last one, from "):
        shop.send(counted("b1", 8, at(-3)))
    shop.send(counted("b1", 8, at(-1)))
    with pytest.raises(CountOutdated):
        shop.send(counted("b1", 9, at(-2)))
    assert figures(shop) == (8, 8, 8)


def test_a_count_in_the_future_is_refused() -> None:
    shop = Shop(bought("b1", 9))
    with pytest.raises(InvalidMessage, match=r"^counted_at is 2026-01-31 13:00:00\+00:00, which is in the future$"):
        shop.send(counted("b1", 8, at(1)))
    assert figures(shop) == (9, 9, 9)


def test_a_pinned_line_keeps_the_counted_stock_longest_and_a_hold_loses_it_first() -> None:
    shop = Shop(bought("b1", 9), held("h1", 2), ordered("o1", 4), ordered("o2", 3), LinePinned("o2", SKU, "b1", "vip"))
    shop.send(counted("b1", 7))
    assert shop.stands == {"h1": "lost", "o1": "b1", "o2": "b1"}
    shop.send(counted("b1", 6))
    assert shop.stands == {"h1": "lost", "o1": None, "o2": "b1"}


def test_a_count_moves_late_lines_up() -> None:
    shop = Shop(bought("b1", 4), ruled(move_up=True), bought("b2", 9, due=5), ordered("o1", 4), ordered("o2", 3, by=1))
    shop.send(counted("b1", 7))
    assert shop.stands == {"o1": "b1", "o2": "b1"}


# Adjustments


@pytest.mark.parametrize(("by", "expected"), [(-2, (8, 4, 0)), (3, (13, 9, 4)), (-6, (4, 0, 0))])
def test_the_warehouse_has_more_or_less(by: int, expected: tuple[int, int, int]) -> None:
    shop = Shop(bought("b1", 10), ordered("o1", 4), LineShipped("o1", SKU), ordered("o2", 4), ordered("o3", 1))
    shop.send(adjusted("b1", by))
    assert figures(shop)[:2] == expected[:2]
    assert shop.result == "b1"


def test_less_than_is_promised_frees_the_newest_lines() -> None:
    shop = Shop(bought("b1", 10), ordered("o1", 4), ordered("o2", 4), bought("b2", 4, due=2))
    shop.send(adjusted("b1", -3))
    assert (shop.stands, figures(shop)) == ({"o1": "b1", "o2": "b2"}, (7, 7, 3))


def test_more_than_is_on_hand_cannot_be_missing() -> None:
    shop = Shop(bought("b1", 10), ordered("o1", 4), LineShipped("o1", SKU))
    with pytest.raises(NotOnHand, match=r"^Batch b1 cannot lose 7: 6 are on hand$"):
        shop.send(adjusted("b1", -7))
    assert figures(shop) == (10, 6, 6)


def test_of_a_batch_in_parts_no_more_can_be_missing_than_has_arrived() -> None:
    shop = Shop(bought("b1", 50, due=3), BatchReceived("b1", 10))
    with pytest.raises(NotOnHand, match=r"^Batch b1 cannot lose 11: 10 are on hand$"):
        shop.send(adjusted("b1", -11))
    shop.send(adjusted("b1", -4))
    assert (figures(shop), shop.batch("b1").incoming_quantity) == ((46, 6, 46), 40)


def test_an_adjustment_by_nothing_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"^by is 0$"):
        Shop(bought("b1", 9)).send(adjusted("b1", 0))


@pytest.mark.parametrize("by", [1, -1])
def test_a_delivery_that_has_not_come_cannot_be_adjusted(by: int) -> None:
    with pytest.raises(NotArrived, match=r"^Nothing of batch b1 is in the warehouse$"):
        Shop(bought("b1", 9, due=3)).send(adjusted("b1", by))


@pytest.mark.parametrize("event", [counted("b9", 1), adjusted("b9", 1)])
def test_an_unknown_batch_is_refused(event: Event) -> None:
    with pytest.raises(UnknownBatch, match=r"^Unknown batch b9$"):
        Shop().send(event)


# The purchased quantity


def test_the_purchased_quantity_includes_goods_that_were_shipped_or_are_in_inspection() -> None:
    shop = Shop(
        *(bought("b1", 10), ordered("o1", 4), LineShipped("o1", SKU)),
        LineReturned("o1", SKU, 2, disposition="inspect"),
    )
    assert kinds(shop.send(BatchQuantityChanged("b1", 10))) == []
    assert figures(shop) == (8, 8, 6)
    shop.send(BatchQuantityChanged("b1", 12))
    assert figures(shop) == (10, 10, 8)
    shop.send(BatchReleased("b1"))
    assert figures(shop) == (12, 10, 10)


def test_it_cannot_be_less_than_was_shipped_or_is_in_inspection() -> None:
    shop = Shop(
        *(bought("b1", 10), ordered("o1", 4), LineShipped("o1", SKU)),
        LineReturned("o1", SKU, 2, disposition="inspect"),
    )
    with pytest.raises(
        CountBelowShipped, match=r"^Batch b1 cannot have 3: 2 were already shipped, and 2 are in inspection$"
    ):
        shop.send(BatchQuantityChanged("b1", 3))
    with pytest.raises(
        CountBelowShipped, match=r"^Batch b1 cannot have 0: 2 were already shipped, and 2 are in inspection$"
    ):
        shop.send(BatchQuantityChanged("b1", 0))
    shop.send(BatchQuantityChanged("b1", 4))
    assert figures(shop) == (2, 2, 0)


def test_the_day_of_a_count_is_kept_with_the_batch() -> None:
    shop = Shop(bought("b1", 9), counted("b1", 9, at(-2)))
    assert shop.batch("b1").counted_at == BEGIN - timedelta(hours=2)
    shop.send(adjusted("b1", 1))
    assert shop.batch("b1").counted_at == BEGIN - timedelta(hours=2)

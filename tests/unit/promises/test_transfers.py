"""Stock moves to another warehouse: a whole batch, or a part that becomes a batch of its own."""

from __future__ import annotations

import pytest

from allocation.domain.errors import BatchConflict, FarDay, InvalidMessage, NotOnHand, ShippedAlready
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchQuarantined,
    BatchReceived,
    LinePinned,
    LineReturned,
    LineShipped,
    ReceiptUndone,
    StockTransferred,
)
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, ordered, ruled, told


def moved(ref: str, qty: int | None = None, due: int | None = None, **more: object) -> StockTransferred:
    return StockTransferred(ref, "LYON", qty, eta=None if due is None else day(due), **more)  # type: ignore[arg-type]


# A whole batch


def test_a_batch_is_in_another_warehouse_and_its_lines_follow() -> None:
    shop = Shop(bought("b1", 9, location="OSLO"), ordered("o1", 4))
    assert shop.send(moved("b1")) == []
    assert (shop.batch("b1").location, shop.stands, shop.result) == ("LYON", {"o1": "b1"}, "b1")


def test_a_batch_is_on_the_way_until_it_is_received() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4))
    assert told(shop.send(moved("b1", due=3))) == [("o1", TODAY, day(3), 0)]
    assert (shop.batch("b1").eta, shop.batch("b1").on_hand_quantity) == (day(3), 0)
    shop.send(BatchReceived("b1"))
    assert (shop.batch("b1").location, shop.batch("b1").eta) == ("LYON", None)


def test_a_line_that_is_late_on_the_way_moves_to_other_stock() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4, by=1), bought("b2", 9))
    shop.send(moved("b1", due=3))
    assert shop.stands == {"o1": "b2"}


def test_lines_may_leave_the_batch_instead() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), held("h1", 1), bought("b2", 9, due=1))
    raised = shop.send(moved("b1", due=3, keep_lines=False))
    assert shop.stands == {"o1": "b2", "h1": "b2"}
    assert told(raised) == [("o1", TODAY, day(1), 0)]


def test_a_batch_in_parts_moves_with_all_that_is_due() -> None:
    shop = Shop(bought("b1", 50, due=3), ordered("o1", 4), BatchReceived("b1", 10), moved("b1"))
    batch = shop.batch("b1")
    assert (batch.location, batch.on_hand_quantity, batch.incoming_quantity) == ("LYON", 10, 40)
    shop.send(LineShipped("o1", SKU))


def test_the_preferred_location_counts_from_now_on() -> None:
    shop = Shop(
        *(bought("b1", 9, location="OSLO"), bought("b2", 9, location="OSLO")),
        *(ruled(strategy="preferred-location", location="LYON"), moved("b2"), ordered("o1", 4)),
    )
    assert shop.stands == {"o1": "b2"}


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ((bought("b1", 9, due=2),), "is due anyway"),
        ((bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU)), "was shipped in part"),
    ],
)
def test_a_batch_that_is_due_or_shipped_in_part_gets_no_day_by_a_transfer(
    before: tuple[BatchCreated, ...], why: str
) -> None:
    shop = Shop(*before)
    with pytest.raises(InvalidMessage, match=f"^eta is {day(3)}, and batch b1 {why}$"):
        shop.send(moved("b1", due=3))


def test_a_reference_for_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"^new_ref is b2, and no part is transferred$"):
        Shop(bought("b1", 9)).send(moved("b1", new_ref="b2"))


def test_a_day_that_is_more_than_ten_years_away_is_refused() -> None:
    with pytest.raises(FarDay, match=r"^eta is .*, which is more than ten years away$"):
        Shop(bought("b1", 9)).send(moved("b1", due=3_655))


def test_a_transferred_batch_is_recognised_when_it_is_added_again() -> None:
    shop = Shop(
        bought("b1", 9, location="OSLO"),
        moved("b1"),
        bought("b1", 9, location="OSLO"),
        bought("b1", 9, location="LYON"),
    )
    assert shop.batch("b1").location == "LYON"
    with pytest.raises(BatchConflict):
        shop.send(bought("b1", 9, location="ROME"))


# A part


def test_a_part_becomes_a_batch_with_the_terms_of_its_source() -> None:
    shop = Shop(bought("b1", 9, location="OSLO", delivery="po-1", expires_on=day(30)))
    assert shop.send(moved("b1", 4)) == []
    part = shop.batch("b1@LYON")
    assert (part.purchased_quantity, part.eta, part.location, part.delivery) == (4, None, "LYON", "po-1")
    assert part.expires_on == day(30)
    assert (shop.batch("b1").purchased_quantity, shop.batch("b1").location) == (5, "OSLO")
    assert shop.result == "b1@LYON"


def test_a_part_may_have_a_reference_and_a_day_of_its_own() -> None:
    shop = Shop(bought("b1", 9), moved("b1", 4, due=2, new_ref="b2"))
    assert (shop.available, shop.batch("b2").eta, shop.result) == ({"b1": 5, "b2": 4}, day(2), "b2")


def test_free_stock_moves_first() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4))
    assert shop.send(moved("b1", 5)) == []
    assert (shop.stands, shop.available) == ({"o1": "b1"}, {"b1": 0, "b1@LYON": 5})


def test_then_the_newest_lines_follow() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 3), ordered("o3", 2))
    raised = shop.send(moved("b1", 5, due=2))
    assert (shop.stands, shop.available) == ({"o1": "b1", "o2": "b1@LYON", "o3": "b1@LYON"}, {"b1": 0, "b1@LYON": 0})
    assert sorted(told(raised)) == [("o2", TODAY, day(2), 0), ("o3", TODAY, day(2), 0)]


def test_a_hold_follows_before_lines_do() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), held("h1", 5), bought("b2", 9))
    shop.send(moved("b1", 5, due=2))
    assert shop.stands == {"o1": "b1", "h1": "b1@LYON"}


def test_a_line_that_does_not_fit_into_the_part_is_replaced() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 5), bought("b2", 9, due=4))
    shop.send(moved("b1", 3))
    assert shop.stands == {"o1": "b1", "o2": "b2"}


def test_lines_may_get_other_stock_instead() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 5), bought("b2", 9))
    shop.send(moved("b1", 5, keep_lines=False))
    assert shop.stands == {"o1": "b1", "o2": "b2"}


def test_a_pinned_line_stays_as_long_as_there_is_another() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), ordered("o2", 5), LinePinned("o2", SKU, "b1", "vip"))
    shop.send(moved("b1", 4))
    assert shop.stands == {"o1": "b1@LYON", "o2": "b1"}
    shop.send(moved("b1", 5, new_ref="all"))
    assert shop.stands == {"o1": "b1@LYON", "o2": "all"}


def test_lines_of_blocked_goods_follow_them() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 9), bought("b2", 9), BatchQuarantined("b1", "wet", keep_lines=True))
    shop.send(moved("b1", 9))
    assert shop.stands == {"o1": "b1@LYON"}
    assert shop.batch("b1@LYON").quarantine == "wet"


def test_lines_follow_though_the_safety_stock_would_not_let_new_ones() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 5), held("h1", 4), ruled(safety_stock=9))
    shop.send(moved("b1", 9))
    assert shop.stands == {"o1": "b1@LYON", "h1": "b1@LYON"}


def test_a_part_of_what_has_arrived_moves() -> None:
    shop = Shop(bought("b1", 50, due=3), ordered("o1", 4), ordered("o2", 6), BatchReceived("b1", 10))
    shop.send(moved("b1", 6))
    assert shop.stands == {"o1": "b1", "o2": "b1@LYON"}
    batch = shop.batch("b1")
    assert (batch.on_hand_quantity, batch.incoming_quantity, shop.batch("b1@LYON").on_hand_quantity) == (4, 40, 6)


def test_lines_on_the_rest_are_served_by_the_part_that_moves_if_they_have_to() -> None:
    shop = Shop(bought("b1", 10, due=3), ordered("o1", 6), ordered("o2", 4), BatchReceived("b1", 3))
    shop.send(moved("b1", 3))
    assert shop.stands == {"o1": "b1", "o2": None}, "three of the seven that are due are left"


def test_all_that_has_arrived_moves() -> None:
    shop = Shop(bought("b1", 50, due=3), BatchReceived("b1", 10), moved("b1", 10))
    assert (shop.batch("b1").arrived, shop.batch("b1").incoming_quantity) == (None, 40)


@pytest.mark.parametrize("qty", [6, 9])
def test_no_more_moves_than_is_on_hand(qty: int) -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU))
    with pytest.raises(NotOnHand, match=f"^Batch b1 cannot lose {qty}: 5 are on hand$"):
        shop.send(moved("b1", qty))


def test_nothing_moves_of_a_batch_that_has_not_come() -> None:
    with pytest.raises(NotOnHand, match=r"^Batch b1 cannot lose 4: 0 are on hand$"):
        Shop(bought("b1", 9, due=3)).send(moved("b1", 4))


@pytest.mark.parametrize("sku", [SKU, "OTHER"])
def test_a_reference_that_is_taken_is_refused(sku: str) -> None:
    shop = Shop(bought("b1", 9), BatchCreated("b2", sku, 5))
    with pytest.raises(BatchConflict, match=f"^Batch b2 already exists: 5 of {sku}, in the warehouse$"):
        shop.send(moved("b1", 4, new_ref="b2"))
    shop.send(moved("b1", 4))
    with pytest.raises(
        BatchConflict, match=r"^Batch b1@LYON already exists: 4 of LAMP, in the warehouse, location LYON$"
    ):
        shop.send(moved("b1", 2))


def test_the_part_can_be_added_again_and_undone_like_any_batch() -> None:
    shop = Shop(bought("b1", 9), moved("b1", 4, due=2), bought("b1@LYON", 4, due=2, location="LYON"))
    assert shop.available == {"b1": 5, "b1@LYON": 4}
    shop.send(BatchReceived("b1@LYON"))
    shop.send(ReceiptUndone("b1@LYON"))
    assert shop.batch("b1@LYON").eta == day(2)


def test_goods_come_back_to_the_batch_they_were_shipped_from() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU), moved("b1", 5), LineReturned("o1", SKU))
    assert shop.available == {"b1": 4, "b1@LYON": 5}


def test_lines_that_were_split_follow_part_by_part() -> None:
    shop = Shop(bought("b1", 5), bought("b2", 4), AllocationRequired("o1", SKU, 9, split=True), moved("b1", 5, due=4))
    assert shop.parts == {"o1": (5, "b1@LYON"), "o1/2": (4, "b2")}


def test_shipped_goods_do_not_become_incoming() -> None:
    shop = Shop(bought("b1", 9, due=1), ordered("o1", 4), BatchReceived("b1"), LineShipped("o1", SKU), moved("b1", 5))
    with pytest.raises(ShippedAlready):
        shop.send(ReceiptUndone("b1"))

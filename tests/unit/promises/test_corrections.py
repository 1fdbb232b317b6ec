"""A batch was entered wrongly, was closed, or has a day that nobody knows or nobody means."""

from __future__ import annotations

from datetime import date

import pytest

from allocation.domain.errors import (
    BatchClosed,
    BatchConflict,
    FarDay,
    InvalidMessage,
    NotShippable,
    ShippedAlready,
    UnknownBatch,
)
from allocation.domain.events import (
    AllocationCancelled,
    BatchCorrected,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    Event,
    LinePinned,
    LineReturned,
    LineShipped,
)
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, ordered, ruled, told


def corrected(ref: str, due: int | None = None, expires: int | None = None, **more: str) -> BatchCorrected:
    eta = None if due is None else day(due)
    return BatchCorrected(ref, eta, None if expires is None else day(expires), **more)


# Corrections


def test_the_location_and_the_delivery_of_a_batch_are_corrected() -> None:
    shop = Shop(bought("b1", 9, location="OSLO"), ordered("o1", 4))
    assert shop.send(corrected("b1", location="LYON", delivery="po-1")) == []
    batch = shop.batch("b1")
    assert (batch.location, batch.delivery, shop.stands, shop.result) == ("LYON", "po-1", {"o1": "b1"}, "b1")


def test_lines_that_a_batch_does_not_last_for_any_more_are_replaced() -> None:
    shop = Shop(
        bought("b1", 9, expires_on=day(30)), ordered("o1", 4, by=9), ordered("o2", 4, by=3), bought("b2", 9, due=7)
    )
    raised = shop.send(corrected("b1", expires=5))
    assert shop.stands == {"o1": "b2", "o2": "b1"}
    assert told(raised) == [("o1", TODAY, day(7), 0)]


def test_a_line_that_no_batch_lasts_for_waits() -> None:
    shop = Shop(bought("b1", 9, expires_on=day(30)), ordered("o1", 4, by=9), corrected("b1", expires=5))
    assert shop.stands == {"o1": None}


def test_a_batch_lasts_longer_and_serves_who_waits() -> None:
    shop = Shop(bought("b1", 9, expires_on=day(5)), ordered("o1", 4, by=9))
    assert shop.stands == {"o1": None}
    shop.send(corrected("b1", expires=30))
    assert shop.stands == {"o1": "b1"}


def test_the_day_of_a_delivery_is_corrected() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4, by=3), bought("b2", 4, due=2))
    raised = shop.send(corrected("b1", due=6))
    assert (shop.stands, told(raised)) == ({"o1": "b2"}, [("o1", day(3), day(2), 0)])


def test_goods_that_were_entered_as_if_they_were_here_are_due() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), held("h1", 1))
    assert told(shop.send(corrected("b1", due=6))) == [("o1", TODAY, day(6), 0)]
    assert (shop.batch("b1").on_hand_quantity, shop.batch("b1").incoming_quantity) == (0, 9)


def test_goods_that_were_shipped_were_here() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU))
    with pytest.raises(ShippedAlready, match=r"^9 of batch b1 cannot be undone: 5 are on hand and 4 were shipped$"):
        shop.send(corrected("b1", due=6))


def test_of_a_batch_in_parts_the_day_of_the_rest_is_corrected() -> None:
    shop = Shop(bought("b1", 50, due=3), ordered("a", 8), ordered("b", 30), BatchReceived("b1", 10))
    assert told(shop.send(corrected("b1", due=6))) == [("b", day(3), day(6), 0)]


def test_a_corrected_batch_is_recognised_as_it_was_and_as_it_is() -> None:
    shop = Shop(
        bought("b1", 9, 3, expires_on=day(30)), corrected("b1", 6, 5, location="LYON"), corrected("b1", delivery="x")
    )
    shop.send(bought("b1", 9, 3, expires_on=day(30)))
    shop.send(bought("b1", 9, 6, expires_on=day(5), location="LYON", delivery="x"))
    with pytest.raises(
        BatchConflict, match=r"^Batch b1 already exists: 9 of LAMP, due 2026-02-03, expires on 2026-03-02$"
    ):
        shop.send(bought("b1", 9, 4, expires_on=day(30)))


def test_a_pinned_line_stays_on_a_corrected_batch() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4, by=1), LinePinned("o1", SKU, "b1", "vip"), bought("b2", 9))
    assert told(shop.send(corrected("b1", due=6))) == [("o1", TODAY, day(6), 5)]
    assert shop.stands == {"o1": "b1"}


def test_a_correction_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"^Nothing of batch b1 is corrected$"):
        Shop(bought("b1", 9)).send(BatchCorrected("b1"))


def test_a_lot_that_has_a_last_day_by_mistake_serves_the_lines_that_it_seemed_too_old_for() -> None:
    shop = Shop(bought("b1", 9, expires_on=day(3)), ordered("o1", 4, by=9))
    assert shop.stands == {"o1": None}
    shop.send(BatchCorrected("b1", clear="expires_on"))
    assert shop.stands == {"o1": "b1"}


def test_a_value_is_corrected_or_cleared() -> None:
    with pytest.raises(InvalidMessage, match=r"^location of batch b1 is LYON, and is to be cleared$"):
        Shop(bought("b1", 9)).send(BatchCorrected("b1", location="LYON", clear="location"))


def test_a_correction_of_an_unknown_batch_is_refused() -> None:
    with pytest.raises(UnknownBatch, match=r"^Unknown batch b9$"):
        Shop().send(corrected("b9", location="LYON"))


# A batch that was closed


@pytest.mark.parametrize("closing", [BatchQuantityChanged("b1", 0), BatchReceived("b1", 0, rest="closed")])
def test_a_batch_that_was_cut_to_nothing_is_not_added_again(closing: Event) -> None:
    shop = Shop(bought("b1", 9, due=3), closing)
    with pytest.raises(BatchClosed, match=r"^Batch b1 already exists, and its quantity was set to 0$"):
        shop.send(bought("b1", 9, due=3))
    assert shop.available == {"b1": 0}
    shop.send(BatchQuantityChanged("b1", 9))
    shop.send(bought("b1", 9, due=3))


def test_a_batch_whose_goods_are_all_in_inspection_is_not_closed() -> None:
    shop = Shop(
        *(bought("b1", 4), ordered("o1", 4), LineShipped("o1", SKU)),
        *(LineReturned("o1", SKU, disposition="inspect"), bought("b1", 4)),
    )
    assert shop.batch("b1").inspect_quantity == 4


# Inbound on a day that nobody knows


def test_a_delivery_on_an_unknown_day_is_promised_for_no_day() -> None:
    shop = Shop(bought("b1", 9, eta_unknown=True), ordered("o1", 4), ordered("o2", 4, by=3))
    assert shop.stands == {"o1": "b1", "o2": "b1"}
    batch = shop.batch("b1")
    assert (batch.on_hand_quantity, batch.incoming_quantity, batch.bought_as.eta) == (0, 9, None)
    with pytest.raises(NotShippable, match=r"cannot be shipped: batch b1 is due on a day not yet known$"):
        shop.send(LineShipped("o1", SKU))


def test_it_comes_after_every_other_delivery() -> None:
    shop = Shop(bought("b1", 9, eta_unknown=True), bought("b2", 9, due=300), ordered("o1", 4), ordered("o2", 9, by=3))
    assert shop.stands == {"o1": "b2", "o2": "b1"}


def test_its_day_becomes_known() -> None:
    shop = Shop(bought("b1", 9, eta_unknown=True), ordered("o1", 4, by=3))
    assert told(shop.send(BatchEtaChanged("b1", day(5)))) == [("o1", None, day(5), 2)]


def test_it_arrives() -> None:
    shop = Shop(bought("b1", 9, eta_unknown=True), ordered("o1", 4))
    assert told(shop.send(BatchReceived("b1", 4))) == [("o1", None, TODAY, 0)]
    shop.send(LineShipped("o1", SKU))
    assert shop.batch("b1").incoming_quantity == 5


def test_late_lines_on_it_move_to_an_earlier_delivery() -> None:
    shop = Shop(bought("b1", 9, eta_unknown=True), ruled(move_up=True), ordered("o1", 4, by=3))
    raised = shop.send(bought("b2", 9, due=3))
    assert (shop.stands, told(raised)) == ({"o1": "b2"}, [("o1", None, day(3), 0)])


def test_a_line_that_loses_its_stock_for_that_of_an_unknown_day_is_told() -> None:
    shop = Shop(bought("b1", 9, eta_unknown=True), bought("b2", 4, due=1), ordered("o1", 4))
    assert told(shop.send(BatchQuantityChanged("b2", 0))) == [("o1", day(1), None, 0)]
    assert shop.stands == {"o1": "b1"}


def test_it_is_repeated_like_any_batch() -> None:
    shop = Shop(bought("b1", 9, eta_unknown=True), bought("b1", 9, eta_unknown=True))
    with pytest.raises(BatchConflict, match=r"^Batch b1 already exists: 9 of LAMP, due on a day not yet known$"):
        shop.send(bought("b1", 9))


def test_an_eta_that_is_unknown_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"^eta is .*, and eta_unknown is true$"):
        Shop().send(bought("b1", 9, due=3, eta_unknown=True))


# Days that nobody means


@pytest.mark.parametrize("far", [day(3_655), date(9999, 12, 30), date.max])
def test_an_eta_more_than_ten_years_away_is_refused(far: date) -> None:
    told = f"^eta is {far}, which is more than ten years away$"
    with pytest.raises(FarDay, match=told):
        Shop().send(BatchCreated("b1", SKU, 9, far))
    shop = Shop(bought("b1", 9, due=3))
    for event in (BatchEtaChanged("b1", far), BatchCorrected("b1", far), BatchCreated("b2", SKU, 9, far)):
        with pytest.raises(FarDay, match=told):
            shop.send(event)


def test_an_expiry_more_than_ten_years_away_is_refused_unless_it_means_never() -> None:
    far = day(3_655)
    shop = Shop(bought("b1", 9))
    for event in (bought("b2", 9, expires_on=far), BatchCorrected("b1", expires_on=far)):
        with pytest.raises(FarDay, match=f"^expires_on is {far}, which is more than ten years away$"):
            shop.send(event)
    shop.send(bought("b2", 9, expires_on=date.max))


def test_a_day_ten_years_from_now_and_one_long_past_are_taken() -> None:
    shop = Shop(
        bought("b2", 9, due=-9_000), bought("b1", 9, due=3_653), ordered("o1", 4), AllocationCancelled("o1", SKU)
    )
    assert shop.available == {"b1": 9, "b2": 9}


def test_a_product_whose_first_batch_was_refused_is_none() -> None:
    shop = Shop()
    with pytest.raises(FarDay):
        shop.send(bought("b1", 9, due=9_999))
    with pytest.raises(Exception, match=r"^Invalid sku LAMP$"):
        shop.send(ordered("o1", 4))

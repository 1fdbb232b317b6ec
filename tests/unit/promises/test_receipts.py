"""A batch arrives, or some of it does, and sometimes it had not come after all."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from allocation.domain.errors import FarDay, InvalidMessage, NotArrived, NothingDue, ShippedAlready
from allocation.domain.events import (
    AllocationCancelled,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    HoldConfirmed,
    LinePinned,
    LineQuantityChanged,
    LineShipped,
    ReceiptUndone,
    Served,
)
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, kinds, ordered, ruled, told


def received(ref: str, qty: int | None = None, rest_due: int | None = None, **more: str) -> BatchReceived:
    return BatchReceived(ref, qty, rest_eta=None if rest_due is None else day(rest_due), **more)


def figures(shop: Shop, ref: str) -> tuple[int, int, int]:
    """The quantities on hand, incoming and available."""
    batch = shop.batch(ref)
    return batch.on_hand_quantity, batch.incoming_quantity, batch.available_quantity


def served(shop: Shop) -> set[str]:
    """The open lines whose stock has arrived while the rest of their batch is due."""
    return {name for name, (line, _, closed) in shop.product.changed_promises.items() if line.arrived and not closed}


# Some of a batch arrives


def test_ten_of_fifty_arrive_and_the_others_are_due_as_before() -> None:
    shop = Shop(bought("po-1", 50, due=1), ordered("a", 8), ordered("b", 30))
    raised = shop.send(received("po-1", 10))
    assert raised[0] == Served("a", SKU, 8, "po-1", arrived=True)
    assert told(raised) == [("a", day(1), TODAY, 0)], "b keeps its day"
    assert shop.result == "po-1"
    assert (figures(shop, "po-1"), shop.batch("po-1").eta) == ((10, 40, 12), day(1))
    raised = shop.send(received("po-1", 40))
    assert told(raised) == [("b", day(1), TODAY, 0)]
    assert (figures(shop, "po-1"), shop.batch("po-1").eta) == ((50, 0, 12), None)
    assert (shop.stands, served(shop)) == ({"a": "po-1", "b": "po-1"}, set())


def test_without_a_quantity_all_that_is_still_due_arrives() -> None:
    shop = Shop(bought("b1", 50, due=1), received("b1", 10), received("b1"))
    assert figures(shop, "b1") == (50, 0, 50)


def test_receipts_add_up() -> None:
    shop = Shop(bought("b1", 50, due=1), *(received("b1", qty) for qty in (10, 5, 20)))
    assert (figures(shop, "b1"), shop.batch("b1").eta) == ((35, 15, 50), day(1))


def test_nothing_of_it_arrives() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("o1", 8))
    assert shop.send(received("b1", 0)) == []
    assert (figures(shop, "b1"), shop.batch("b1").arrived) == ((0, 50, 42), None)


def test_lines_on_the_batch_are_served_by_priority_then_by_age_and_holds_last() -> None:
    shop = Shop(
        bought("b1", 50, due=1), held("h1", 5), ordered("o1", 5), ordered("o2", 5), ordered("o3", 5, priority=2)
    )
    shop.send(received("b1", 12))
    assert served(shop) == {"o3", "o1"}
    shop.send(received("b1", 8))
    assert served(shop) == {"o3", "o1", "o2", "h1"}


def test_a_line_that_is_too_large_lets_a_smaller_one_pass() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("large", 30), ordered("small", 8), received("b1", 10))
    assert served(shop) == {"small"}


def test_lines_that_need_arrived_and_due_stock_together_keep_their_day() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("o1", 30), ordered("o2", 20))
    assert shop.send(received("b1", 10)) == []
    assert (shop.stands, figures(shop, "b1")) == ({"o1": "b1", "o2": "b1"}, (10, 40, 0))
    shop.send(ordered("o3", 1))
    assert shop.stands["o3"] is None, "the ten are needed on the day the rest is there"


def test_a_new_line_gets_what_has_arrived_first_and_then_the_rest() -> None:
    shop = Shop(bought("b1", 50, due=4), received("b1", 10), ordered("o1", 6), ordered("o2", 6), ordered("o3", 4))
    assert served(shop) == {"o1", "o3"}
    assert shop.stands == {"o1": "b1", "o2": "b1", "o3": "b1"}


def test_the_part_that_has_arrived_is_in_the_warehouse_and_so_before_other_deliveries() -> None:
    shop = Shop(
        bought("soon", 50, due=2), bought("b1", 50, due=9), received("b1", 5), ordered("o1", 5), ordered("o2", 5)
    )
    assert shop.stands == {"o1": "b1", "o2": "soon"}


def test_a_line_that_is_needed_now_gets_what_has_arrived_and_otherwise_is_late() -> None:
    shop = Shop(bought("b1", 50, due=4), received("b1", 10), ordered("o1", 6, by=0), ordered("o2", 6, by=0))
    assert served(shop) == {"o1"}
    assert shop.stands == {"o1": "b1", "o2": "b1"}


def test_a_waiting_line_is_not_served_by_a_receipt_of_what_was_promised() -> None:
    shop = Shop(bought("b1", 10, due=4), ordered("o1", 10), ordered("waits", 4), received("b1", 4))
    assert shop.stands == {"o1": "b1", "waits": None}


def test_the_rest_can_get_another_day() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8), ordered("b", 30))
    raised = shop.send(received("b1", 10, rest_due=9))
    assert sorted(told(raised)) == [("a", day(1), TODAY, 0), ("b", day(1), day(9), 0)]
    assert (figures(shop, "b1"), shop.batch("b1").eta) == ((10, 40, 12), day(9))


def test_a_line_that_the_other_day_is_too_late_for_leaves_if_another_batch_is_sooner() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8, by=3), ordered("b", 30, by=3), bought("b2", 30, due=3))
    raised = shop.send(received("b1", 10, rest_due=9))
    assert shop.stands == {"a": "b1", "b": "b2"}
    assert sorted(told(raised)) == [("a", day(1), TODAY, 0), ("b", day(1), day(3), 0)]


def test_the_rest_is_closed_and_lines_that_no_longer_fit_are_replaced() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8), ordered("b", 30), bought("b2", 30, due=5))
    raised = shop.send(received("b1", 10, rest="closed"))
    assert shop.stands == {"a": "b1", "b": "b2"}
    assert sorted(told(raised)) == [("a", day(1), TODAY, 0), ("b", day(1), day(5), 0)]
    assert (figures(shop, "b1"), shop.batch("b1").eta) == ((10, 0, 2), None)


def test_what_is_left_of_a_batch_in_parts_can_be_closed() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8), ordered("b", 30), received("b1", 10))
    raised = shop.send(received("b1", 0, rest="closed"))
    assert (shop.stands, figures(shop, "b1")) == ({"a": "b1", "b": None}, (10, 0, 2))
    assert told(raised) == [("b", day(1), None, 0)]


def test_more_than_is_due_is_taken_and_serves_who_waits() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("o1", 50), ordered("waits", 4), received("b1", 10))
    shop.send(received("b1", 45))
    assert (shop.stands, figures(shop, "b1")) == ({"o1": "b1", "waits": "b1"}, (55, 0, 1))


def test_only_what_has_arrived_is_shipped() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8), ordered("b", 30), received("b1", 10), LineShipped("a", SKU))
    assert figures(shop, "b1") == (2, 40, 12)
    with pytest.raises(Exception, match=f"^The line of LAMP in order b cannot be shipped: batch b1 is due {day(1)}$"):
        shop.send(LineShipped("b", SKU))
    shop.send(received("b1"))
    shop.send(LineShipped("b", SKU))
    assert figures(shop, "b1") == (12, 0, 12)


def test_the_delay_of_a_batch_in_parts_moves_only_lines_on_the_rest() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8, by=1), ordered("b", 30, by=1), received("b1", 10))
    assert told(shop.send(BatchEtaChanged("b1", day(5)))) == [("b", day(1), day(5), 4)]
    shop.send(bought("b2", 30, due=1))
    assert told(shop.send(BatchEtaChanged("b1", day(9)))) == [("b", day(5), day(1), 0)]
    assert shop.stands == {"a": "b1", "b": "b2"}


def test_an_overdue_rest_is_promised_for_the_next_day() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("b", 30), received("b1", 10))
    shop.now += timedelta(days=5)
    assert told(shop.send(received("b1", 5, rest_due=9))) == [("b", day(6), day(9), 0)]


# Refusals


@pytest.mark.parametrize("first", [None, received("b1"), received("b1", 3, rest="closed")])
def test_a_batch_with_nothing_due_cannot_be_received(first: BatchReceived | None) -> None:
    shop = Shop(bought("b1", 9, due=None if first is None else 3))
    if first is not None:
        shop.send(first)
    for event in (received("b1"), received("b1", 5)):
        with pytest.raises(NothingDue, match=r"^Batch b1 cannot be received: nothing of it is due$"):
            shop.send(event)


def test_a_delivery_that_was_cut_to_nothing_cannot_be_received() -> None:
    shop = Shop(bought("b1", 9, due=3), BatchQuantityChanged("b1", 0))
    with pytest.raises(NothingDue, match=r"^Batch b1 cannot be received: nothing of it is due$"):
        shop.send(received("b1", 5))


@pytest.mark.parametrize(
    "event", [received("b1", 3, 5, rest="closed"), received("b1", None, 5), received("b1", 9, 5), received("b1", 10, 5)]
)
def test_a_day_for_a_rest_that_is_not_due_is_refused(event: BatchReceived) -> None:
    shop = Shop(bought("b1", 9, due=3))
    with pytest.raises(InvalidMessage, match=f"^rest_eta is {day(5)}, and nothing of batch b1 would be due any more$"):
        shop.send(event)


@pytest.mark.parametrize("far", [day(3_655), date.max])
def test_a_day_of_the_rest_that_is_more_than_ten_years_away_is_refused(far: date) -> None:
    shop = Shop(bought("b1", 9, due=3))
    with pytest.raises(FarDay, match=f"^rest_eta is {far}, which is more than ten years away$"):
        shop.send(BatchReceived("b1", 3, rest_eta=far))


# Goods that arrive in quarantine


def test_a_whole_batch_that_arrives_in_quarantine_is_blocked_and_its_lines_keep_it() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4), ordered("waits", 9))
    raised = shop.send(received("b1", quarantine="wet"))
    assert told(raised) == [("o1", day(3), TODAY, 0)]
    assert (shop.stands, shop.batch("b1").quarantine) == ({"o1": "b1", "waits": None}, "wet")
    shop.send(ordered("o2", 1))
    assert shop.stands["o2"] is None


def test_goods_that_arrive_in_quarantine_are_in_inspection_while_the_rest_is_due() -> None:
    shop = Shop(bought("b1", 50, due=3), ordered("o1", 4), ordered("o2", 43), ordered("o3", 2))
    shop.send(received("b1", 3, quarantine="wet"))
    batch = shop.batch("b1")
    assert (batch.inspect_quantity, batch.quarantine) == (3, None), "the rest may be sold"
    assert figures(shop, "b1") == (3, 47, 0)
    assert (shop.stands, served(shop)) == ({"o1": "b1", "o2": "b1", "o3": None}, set()), "three less are for sale"


def test_goods_in_quarantine_beside_others_that_have_arrived_are_in_inspection() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4), received("b1", 5), received("b1", quarantine="wet"))
    assert (figures(shop, "b1"), shop.batch("b1").inspect_quantity) == ((9, 0, 1), 4)
    assert (shop.batch("b1").eta, shop.batch("b1").quarantine) == (None, None)
    shop.send(LineShipped("o1", SKU))
    assert figures(shop, "b1") == (5, 0, 1)


def test_released_goods_serve_who_waits() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 8), received("b1", 4, quarantine="wet"))
    assert shop.stands == {"o1": None}
    shop.send(BatchReleased("b1"))
    assert (shop.stands, figures(shop, "b1")) == ({"o1": "b1"}, (4, 5, 1))


def test_released_goods_serve_the_lines_on_their_batch_first() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4), received("b1", 4, quarantine="wet"))
    assert told(shop.send(BatchReleased("b1"))) == [("o1", day(3), TODAY, 0)]
    assert served(shop) == {"o1"}
    shop.send(LineShipped("o1", SKU))


# A receipt is undone


def test_a_receipt_is_undone_and_the_batch_is_due_on_its_last_day() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4), received("b1"))
    raised = shop.send(ReceiptUndone("b1"))
    assert told(raised) == [("o1", TODAY, day(3), 0)]
    assert (shop.result, shop.batch("b1").eta, figures(shop, "b1")) == ("b1", day(3), (0, 9, 5))
    shop.send(received("b1"))
    assert (shop.batch("b1").eta, figures(shop, "b1")) == (None, (9, 0, 5))


def test_all_receipts_of_a_batch_in_parts_are_undone() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8), ordered("b", 30), received("b1", 10, rest_due=9))
    assert told(shop.send(ReceiptUndone("b1"))) == [("a", TODAY, day(9), 0)]
    assert (figures(shop, "b1"), served(shop), shop.batch("b1").arrived) == ((0, 50, 12), set(), None)


def test_some_of_a_receipt_is_undone_and_the_lines_with_stock_of_the_rest_keep_it() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4), ordered("o2", 3), received("b1"))
    raised = shop.send(ReceiptUndone("b1", 4))
    assert (figures(shop, "b1"), shop.batch("b1").eta, served(shop)) == ((5, 4, 2), day(3), {"o1"})
    assert told(raised) == [("o2", TODAY, day(3), 0)], "the newest line gets stock of what is due again"
    assert shop.stands == {"o1": "b1", "o2": "b1"}


def test_some_of_the_arrived_part_is_undone() -> None:
    shop = Shop(bought("b1", 50, due=3), ordered("o1", 4), ordered("o2", 5), received("b1", 10))
    raised = shop.send(ReceiptUndone("b1", 4))
    assert (figures(shop, "b1"), served(shop)) == ((6, 44, 41), {"o1"})
    assert told(raised) == [("o2", TODAY, day(3), 0)]


def test_lines_lose_the_undone_stock_in_the_order_of_losing() -> None:
    shop = Shop(
        *(bought("b1", 10, due=3), ordered("o1", 3), ordered("o2", 3, priority=4), held("h1", 2), ordered("o3", 2)),
        *(LinePinned("o3", SKU, "b1", "promised"), received("b1")),
    )
    shop.send(ReceiptUndone("b1", 4))
    assert served(shop) == {"o2", "o3"}, "the hold first, then the oldest line without a priority"
    assert shop.stands == dict.fromkeys(("o1", "o2", "h1", "o3"), "b1")


def test_a_line_that_is_late_for_what_is_due_again_moves_to_other_stock() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4, by=1), bought("b2", 9, due=1), received("b1"))
    shop.send(ReceiptUndone("b1"))
    assert shop.stands == {"o1": "b2"}


def test_goods_that_were_bought_in_the_warehouse_and_had_not_come_are_due_on_no_known_day() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4))
    assert told(shop.send(ReceiptUndone("b1"))) == [("o1", TODAY, None, 0)]
    assert shop.batch("b1").bought_as.eta_unknown


def test_goods_in_inspection_that_had_not_come_are_due_again() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 8), received("b1", 4, quarantine="wet"), ReceiptUndone("b1"))
    assert (figures(shop, "b1"), shop.batch("b1").inspect_quantity) == ((0, 9, 1), 0)
    assert shop.stands == {"o1": "b1"}


def test_a_receipt_whose_goods_were_shipped_cannot_be_undone() -> None:
    shop = Shop(bought("b1", 9, due=3), ordered("o1", 4), received("b1"), LineShipped("o1", SKU))
    with pytest.raises(ShippedAlready, match=r"^9 of batch b1 cannot be undone: 5 are on hand and 4 were shipped$"):
        shop.send(ReceiptUndone("b1"))
    with pytest.raises(ShippedAlready, match=r"^6 of batch b1 cannot be undone: 5 are on hand and 4 were shipped$"):
        shop.send(ReceiptUndone("b1", 6))
    shop.send(ReceiptUndone("b1", 5))
    assert (figures(shop, "b1"), shop.batch("b1").eta) == ((0, 5, 5), day(3))


def test_more_than_came_cannot_be_undone() -> None:
    shop = Shop(bought("b1", 50, due=3), received("b1", 10))
    with pytest.raises(ShippedAlready, match=r"^11 of batch b1 cannot be undone: 10 are on hand and 0 were shipped$"):
        shop.send(ReceiptUndone("b1", 11))


def test_a_batch_that_has_not_come_has_no_receipt_to_undo() -> None:
    shop = Shop(bought("b1", 9, due=3))
    with pytest.raises(NotArrived, match=r"^Nothing of batch b1 is in the warehouse$"):
        shop.send(ReceiptUndone("b1"))


# Lines on a batch in parts


def test_the_purchased_quantity_of_a_batch_in_parts_is_cut() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8), ordered("b", 30), ordered("c", 5), received("b1", 10))
    assert served(shop) == {"a"}
    raised = shop.send(BatchQuantityChanged("b1", 40))
    assert (figures(shop, "b1"), shop.stands["c"]) == ((10, 30, 2), None)
    assert told(raised) == [("c", day(1), None, 0)]


def test_a_batch_in_parts_that_is_cut_to_what_has_arrived_is_whole_and_its_lines_are_there_now() -> None:
    shop = Shop(
        bought("b1", 50, due=1), ordered("a", 8), ordered("b", 3), received("b1", 10), AllocationCancelled("a", SKU)
    )
    assert served(shop) == set()
    assert told(shop.send(BatchQuantityChanged("b1", 10))) == [("b", day(1), TODAY, 0)]
    assert (figures(shop, "b1"), shop.batch("b1").eta) == ((10, 0, 7), None)
    shop.send(LineShipped("b", SKU))


def test_a_batch_in_parts_is_cut_below_what_has_arrived() -> None:
    shop = Shop(bought("b1", 50, due=1), ordered("a", 8), ordered("b", 2), received("b1", 10))
    shop.send(BatchQuantityChanged("b1", 8))
    assert (shop.stands, figures(shop, "b1")) == ({"a": "b1", "b": None}, (8, 0, 0))


def test_a_cut_with_the_least_harm_takes_no_line_to_the_arrived_part_of_the_same_batch() -> None:
    shop = Shop(
        *(bought("b1", 30, due=4), ruled(least_harm=True)),
        *(ordered("o1", 9), ordered("o2", 9), ordered("o3", 2), received("b1", 8)),
    )
    shop.send(BatchQuantityChanged("b1", 8))
    assert shop.stands == {"o1": None, "o2": None, "o3": "b1"}


def test_a_line_is_pinned_to_what_has_arrived_of_a_batch() -> None:
    shop = Shop(bought("b1", 50, due=4), ordered("o1", 40), ordered("o2", 6), received("b1", 5), bought("b0", 9, due=1))
    assert served(shop) == set()
    shop.send(ordered("o3", 5))
    assert shop.stands["o3"] == "b0"
    shop.send(LinePinned("o3", SKU, "b1", "promised"))
    assert shop.stands == {"o1": "b1", "o2": "b0", "o3": "b1"}
    assert kinds(shop.send(LineShipped("o3", SKU))) == ["Shipped"]


def test_a_hold_of_the_arrived_part_becomes_a_line_that_can_be_shipped() -> None:
    shop = Shop(bought("b1", 50, due=4), received("b1", 5), held("h1", 5))
    assert served(shop) == {"h1"}
    shop.send(HoldConfirmed("h1", "o1"))
    shop.send(LineShipped("o1", SKU))
    assert figures(shop, "b1") == (0, 45, 45)


def test_a_large_line_is_split_over_both_parts() -> None:
    shop = Shop(bought("b1", 9, due=4), received("b1", 5), ordered("o1", 12, split=True))
    assert shop.parts == {"o1": (5, "b1"), "o1/2": (4, "b1"), "o1/3": (3, None)}
    assert served(shop) == {"o1"}


def test_a_line_on_the_arrived_part_grows_within_it_or_moves_to_the_rest() -> None:
    shop = Shop(bought("b1", 50, due=4), received("b1", 5), ordered("o1", 3))
    shop.send(LineQuantityChanged("o1", SKU, 5))
    assert served(shop) == {"o1"}
    assert told(shop.send(LineQuantityChanged("o1", SKU, 6))) == [("o1", TODAY, day(4), 0)]
    assert (shop.parts, served(shop)) == ({"o1": (6, "b1")}, set())


def test_cancelled_stock_of_the_arrived_part_goes_to_who_waits() -> None:
    shop = Shop(bought("b1", 9, due=4), received("b1", 5), ordered("o1", 5), ordered("o2", 4), ordered("waits", 5))
    shop.send(AllocationCancelled("o1", SKU))
    assert (shop.stands["waits"], served(shop)) == ("b1", {"waits"})


def test_late_lines_on_the_rest_move_up_to_the_arrived_part() -> None:
    shop = Shop(
        *(bought("b1", 20, due=4), ruled(move_up=True), received("b1", 5)),
        *(ordered("o1", 5, by=1), ordered("o2", 5, by=1)),
    )
    assert served(shop) == {"o1"}
    shop.send(AllocationCancelled("o1", SKU))
    assert served(shop) == {"o2"}


def test_safety_stock_counts_the_arrived_part_as_in_the_warehouse() -> None:
    shop = Shop(bought("b1", 50, due=4), ruled(safety_stock=3), received("b1", 5), ordered("o1", 2), ordered("o2", 1))
    assert served(shop) == {"o1"}
    assert shop.stands == {"o1": "b1", "o2": "b1"}


def test_a_quarantined_batch_in_parts_loses_all_its_lines() -> None:
    shop = Shop(bought("b1", 50, due=4), ordered("o1", 4), ordered("o2", 6), received("b1", 5))
    raised = shop.send(BatchQuarantined("b1", "wet"))
    assert shop.stands == {"o1": None, "o2": None}
    assert sorted(told(raised)) == [("o1", TODAY, None, 0), ("o2", day(4), None, 0)]
    shop.send(BatchReleased("b1"))
    assert (shop.stands, served(shop)) == ({"o1": "b1", "o2": "b1"}, {"o1"})

"""Days pass: stock expires, deliveries are overdue, lines become late; goods that do not last are for nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest

from allocation.domain.errors import (
    LineClosed,
    NotPast,
    NotPinnable,
    NotShippable,
    UnknownBatch,
    UnknownLine,
)
from allocation.domain.events import (
    AllocationCancelled,
    BatchCreated,
    BatchEtaChanged,
    BatchExpired,
    BatchQuarantined,
    BatchReceived,
    DeliveryOverdue,
    Event,
    HoldConfirmed,
    LineBecameLate,
    LinePinned,
    LineShipped,
    MoveUpRequired,
)
from tests.unit.promises.shop import SKU, Shop, bought, day, held, kinds, ordered, ruled, told


def milk(ref: str = "milk", qty: int = 5, until: int = 2, due: int | None = None) -> BatchCreated:
    return bought(ref, qty, due=due, expires_on=day(until))


def later(shop: Shop, days: int) -> Shop:
    shop.now += timedelta(days=days)
    return shop


# Stock expires


def test_the_lines_of_stock_that_expired_move_to_fresh_stock_or_wait() -> None:
    shop = later(Shop(milk(), ordered("m1", 2), ordered("m2", 3), bought("fresh", 4)), 3)
    raised = shop.send(BatchExpired("milk"))
    assert shop.stands == {"m1": "fresh", "m2": None}
    assert told(raised) == [("m2", day(3), None, 0)], "the other one can be shipped today as before"
    assert shop.result == "milk"


@pytest.mark.parametrize("strategy", ["warehouse-first", "first-expired", "just-in-time"])
def test_nobody_gets_stock_that_expired_also_before_that_is_said(strategy: str) -> None:
    shop = later(Shop(milk(), ruled(strategy=strategy)), 3)
    shop.send(ordered("m1", 2))
    shop.send(ordered("m2", 2, by=9))
    assert set(shop.stands.values()) == {None}


def test_the_last_day_is_a_day_that_stock_can_be_used_on() -> None:
    shop = later(Shop(milk(), ordered("m1", 2)), 2)
    shop.send(LineShipped("m1", SKU))
    with pytest.raises(NotPast, match=rf"^Batch milk expires on {day(2)} only$"):
        shop.send(BatchExpired("milk"))


def test_stock_that_never_expires_has_not_expired() -> None:
    with pytest.raises(NotPast, match=r"^Batch b1 does not expire$"):
        Shop(bought("b1", 5)).send(BatchExpired("b1"))


def test_a_pinned_line_loses_stock_that_expired_and_its_pin() -> None:
    shop = Shop(milk(), ordered("m1", 2), LinePinned("m1", SKU, "milk", "a friend"), bought("fresh", 9))
    later(shop, 3).send(BatchExpired("milk"))
    assert shop.stands == {"m1": "fresh"}
    assert shop.line("m1").line.priority == 0


def test_a_hold_finds_another_place_or_is_lost() -> None:
    shop = Shop(milk(), held("h1", 2, hours=999), held("h2", 3, hours=999), bought("fresh", 2))
    raised = later(shop, 3).send(BatchExpired("milk"))
    assert shop.stands == {"h1": "fresh", "h2": "lost"}
    assert kinds(raised).count("PromiseChanged") == 0


def test_what_was_shipped_stays_shipped() -> None:
    shop = Shop(milk(), ordered("m1", 2), LineShipped("m1", SKU), ordered("m2", 2))
    later(shop, 3).send(BatchExpired("milk"))
    assert shop.stands == {"m1": "shipped", "m2": None}


def test_a_second_time_nobody_moves() -> None:
    shop = later(Shop(milk(), ordered("m1", 2)), 3)
    shop.send(BatchExpired("milk"))
    assert shop.send(BatchExpired("milk")) == []


def test_stock_that_expired_moves_nobody_up() -> None:
    shop = Shop(milk(), ruled(move_up=True), ordered("m1", 5), bought("slow", 9, due=9), ordered("m2", 3, by=4))
    later(shop, 3)
    assert "MoveUpRequired" not in kinds(shop.send(BatchExpired("milk")))
    assert shop.stands == {"m1": "slow", "m2": "slow"}


@pytest.mark.parametrize("is_said", [True, False])
def test_stock_that_expired_is_not_shipped(is_said: bool) -> None:
    shop = later(Shop(milk(), ordered("m1", 2), held("h1", 1, hours=999)), 3)
    if is_said:
        shop.send(BatchExpired("milk"))
    else:
        shop.send(HoldConfirmed("h1", "m2"))
        with pytest.raises(NotShippable, match=rf"cannot be shipped: batch milk expired on {day(2)}$") as refusal:
            shop.send(LineShipped("m1", SKU))
        assert refusal.value.cure == "Pin the line to another batch, or correct the day."
    with pytest.raises((NotShippable, UnknownLine)):
        shop.send(LineShipped("m2", SKU))


def test_no_line_is_pinned_to_stock_that_expired() -> None:
    shop = later(Shop(milk(), bought("fresh", 5, due=3), ordered("m1", 2, by=9)), 3)
    with pytest.raises(NotPinnable, match=rf"cannot be pinned to milk: it expired on {day(2)}$") as refusal:
        shop.send(LinePinned("m1", SKU, "milk", "a friend"))
    assert refusal.value.cure == "Choose another batch."


def test_lines_leave_stock_that_expired_in_the_order_of_service() -> None:
    shop = Shop(milk(qty=9), ordered("m1", 3), ordered("m2", 3), ordered("first", 3, priority=5), bought("fresh", 6))
    later(shop, 3).send(BatchExpired("milk"))
    assert shop.stands == {"m1": "fresh", "m2": None, "first": "fresh"}


# Deliveries are overdue


def test_lines_of_a_delivery_that_did_not_come_are_promised_for_the_next_day() -> None:
    shop = later(Shop(bought("b1", 9, due=2), ordered("o1", 3), ordered("o2", 3, by=2)), 3)
    assert told(shop.send(DeliveryOverdue("b1"))) == [("o2", day(2), day(4), 2), ("o1", day(2), day(4), 0)]
    assert shop.stands == {"o1": "b1", "o2": "b1"}


def test_those_that_are_late_now_move_to_stock_that_is_there_sooner() -> None:
    shop = Shop(bought("b1", 9, due=2), ordered("patient", 3), ordered("o1", 3, by=3), ordered("o2", 3, by=3))
    shop.send(bought("spare", 3))
    raised = later(shop, 3).send(DeliveryOverdue("b1"))
    assert shop.stands == {"patient": "b1", "o1": "spare", "o2": "b1"}
    assert sorted(told(raised)) == [
        ("o1", day(2), day(3), 0),
        ("o2", day(2), day(4), 1),
        ("patient", day(2), day(4), 0),
    ]


def test_a_delivery_that_is_found_late_after_a_stop_is_told_from_the_day_it_was_due() -> None:
    shop = later(Shop(bought("b1", 9, due=2), ordered("o1", 3)), 30)
    assert told(shop.send(DeliveryOverdue("b1"))) == [("o1", day(2), day(31), 0)]


def test_holds_and_pinned_lines_stay_on_an_overdue_delivery() -> None:
    shop = Shop(bought("b1", 9, due=2), ordered("o1", 3, by=2), held("h1", 2, hours=999))
    shop.send(LinePinned("o1", SKU, "b1", "a friend"))
    shop.send(bought("spare", 9))
    assert told(later(shop, 3).send(DeliveryOverdue("b1"))) == [("o1", day(2), day(4), 2)]
    assert shop.stands == {"o1": "b1", "h1": "b1"}


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ([bought("b1", 9, due=4)], f"is due {day(4)}"),
        ([bought("b1", 9, due=3)], f"is due {day(3)}"),
        ([bought("b1", 9)], "is in the warehouse"),
        ([bought("b1", 9, due=1), BatchReceived("b1")], "is in the warehouse"),
    ],
)
def test_a_delivery_that_is_not_overdue_is_not_said_to_be(before: list[Event], why: str) -> None:
    with pytest.raises(NotPast, match=rf"^Batch b1 {why}$"):
        later(Shop(*before), 3).send(DeliveryOverdue("b1"))


def test_room_that_is_left_on_an_overdue_delivery_goes_to_a_waiting_line() -> None:
    shop = Shop(bought("b1", 5, due=2), ordered("o1", 5, by=2), ordered("waits", 5))
    shop.send(bought("spare", 5, due=3))
    assert shop.stands == {"o1": "b1", "waits": "spare"}
    shop.send(ordered("small", 5))
    shop.send(bought("here", 5))
    assert shop.stands["small"] == "here"
    shop.send(AllocationCancelled("small", SKU))
    shop.send(ordered("large", 6))
    later(shop, 3).send(DeliveryOverdue("b1"))
    assert shop.stands["o1"] == "here"


# Lines become late


def test_a_line_that_waits_past_its_day_is_late() -> None:
    shop = later(Shop(bought("b1", 1), ordered("o1", 3, by=2)), 3)
    before = shop.product.version_number
    assert shop.send(LineBecameLate("o1", SKU, 3, day(2))) == []
    assert (shop.result, shop.product.version_number) == (1, before)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (LineBecameLate("o1", SKU, 3, day(2)), "has stock of batch b1"),
        (LineBecameLate("o2", SKU, 9, day(3)), f"is needed by {day(3)}"),
        (LineBecameLate("o3", SKU, 9, day(2)), "is needed by no day"),
        (LineBecameLate("o4", SKU, 8, day(2)), f"is one of 9, needed by {day(2)}"),
        (LineBecameLate("o4", SKU, 9, day(1)), f"is one of 9, needed by {day(2)}"),
    ],
)
def test_a_line_that_is_not_late_is_not_said_to_be(said: LineBecameLate, why: str) -> None:
    shop = Shop(
        bought("b1", 3), ordered("o1", 3, by=2), ordered("o2", 9, by=3), ordered("o3", 9), ordered("o4", 9, by=2)
    )
    with pytest.raises(NotPast, match=rf"^The line of LAMP in order {said.orderid} {why}$"):
        later(shop, 3).send(said)


def test_only_open_lines_of_orders_become_late() -> None:
    shop = Shop(bought("b1", 3), ordered("o1", 9, by=2), AllocationCancelled("o1", SKU), held("h1", 1, hours=999))
    later(shop, 3)
    with pytest.raises(LineClosed):
        shop.send(LineBecameLate("o1", SKU, 9, day(2)))
    for orderid in ("h1", "nobody"):
        with pytest.raises(UnknownLine):
            shop.send(LineBecameLate(orderid, SKU, 1, day(2)))


@pytest.mark.parametrize("event", [BatchExpired("b9"), DeliveryOverdue("b9")])
def test_an_unknown_batch_has_no_days(event: Event) -> None:
    with pytest.raises(UnknownBatch, match=r"^Unknown batch b9$"):
        Shop(bought("b1", 1)).send(event)


# Goods that do not last


def test_goods_that_are_spoilt_when_they_come_are_for_nobody() -> None:
    shop = Shop(milk("ship", 9, until=5, due=1), ordered("m1", 3), ordered("m2", 3, by=9), bought("spare", 3, due=20))
    assert shop.stands == {"m1": "ship", "m2": "spare"}
    raised = shop.send(BatchEtaChanged("ship", day(6)))
    assert shop.stands == {"m1": None, "m2": "spare"}
    assert told(raised) == [("m1", day(1), None, 0)]


def test_goods_that_last_too_short_after_they_come_are_for_nobody_by_the_rules_of_the_product() -> None:
    shop = Shop(milk("ship", 9, until=9, due=1), ruled(shelf_life_days=4), ordered("m1", 3), ordered("m2", 3, by=4))
    shop.send(bought("spare", 3, due=7))
    shop.send(BatchEtaChanged("ship", day(5)))
    assert shop.stands == {"m1": "ship", "m2": "ship"}
    raised = shop.send(BatchEtaChanged("ship", day(6)))
    assert shop.stands == {"m1": "spare", "m2": None}
    assert sorted(told(raised)) == [("m1", day(5), day(7), 0), ("m2", day(5), None, 0)]


def test_a_pinned_line_and_a_hold_lose_goods_that_are_spoilt_when_they_come() -> None:
    shop = Shop(milk("ship", 9, until=5, due=1), ordered("m1", 3), held("h1", 2, hours=999))
    shop.send(LinePinned("m1", SKU, "ship", "a friend"))
    shop.send(BatchEtaChanged("ship", day(6)))
    assert shop.stands == {"m1": None, "h1": "lost"}


def test_a_pinned_line_keeps_goods_that_last_shorter_than_the_rules_ask_for() -> None:
    shop = Shop(milk("ship", 9, until=9, due=1), ruled(shelf_life_days=4), ordered("m1", 3))
    shop.send(LinePinned("m1", SKU, "ship", "a friend"))
    shop.send(BatchEtaChanged("ship", day(8)))
    assert shop.stands == {"m1": "ship"}


def test_who_loses_spoilt_goods_is_served_before_those_that_are_only_late() -> None:
    shop = Shop(
        *(milk("ship", 9, until=9, due=1), ordered("late", 3, by=4), ordered("lost", 3, by=9, priority=5)),
        *(bought("spare", 3, due=4), ruled(shelf_life_days=2)),
    )
    shop.send(BatchEtaChanged("ship", day(5)))
    assert shop.stands == {"late": "ship", "lost": "spare"}


def test_a_delivery_that_is_overdue_beyond_its_expiry_loses_its_lines() -> None:
    shop = later(Shop(milk("ship", 9, until=3, due=2), ordered("m1", 3), bought("spare", 3, due=9)), 3)
    assert told(shop.send(DeliveryOverdue("ship"))) == [("m1", day(2), day(9), 0)]
    assert shop.stands == {"m1": "spare"}


def test_goods_that_come_spoilt_are_for_nobody() -> None:
    shop = later(Shop(milk("ship", 9, until=3, due=2), ordered("m1", 3)), 4)
    shop.send(BatchReceived("ship"))
    assert shop.stands == {"m1": None}


def test_a_batch_in_quarantine_can_expire_too() -> None:
    shop = Shop(milk(), ordered("m1", 2), BatchQuarantined("milk", "wet", keep_lines=True), bought("fresh", 9))
    later(shop, 3).send(BatchExpired("milk"))
    assert shop.stands == {"m1": "fresh"}


def test_late_lines_move_up_from_an_overdue_delivery_when_asked() -> None:
    shop = Shop(bought("b1", 9, due=2), ordered("o1", 3, by=3))
    later(shop, 3).send(bought("here", 3))
    shop.send(MoveUpRequired(SKU))
    assert shop.stands == {"o1": "here"}

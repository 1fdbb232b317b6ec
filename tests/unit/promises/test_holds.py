"""A cart's stock is kept until a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from allocation.domain.errors import (
    HoldConflict,
    HoldEndedAlready,
    HoldStillRuns,
    InvalidMoment,
    LineConflict,
    NotEnoughStock,
    UnknownHold,
    UnknownSku,
)
from allocation.domain.events import (
    Allocated,
    AllocationCancelled,
    BatchCreated,
    BatchQuantityChanged,
    Deallocated,
    Held,
    HoldConfirmed,
    HoldEnded,
    HoldExpired,
    HoldReleased,
    StockHeld,
)
from tests.unit.promises.shop import SKU, Shop, at, bought, held, ordered

CONFIRMED = HoldConfirmed("h1", "o1")


def test_a_hold_counts_as_allocated() -> None:
    shop = Shop(bought("b1", 5))
    assert shop.send(held("h1", 4)) == [Held("h1", SKU, 4, "b1", at(1))]
    assert (shop.result, shop.available) == ("b1", {"b1": 1})
    shop.send(ordered("o1", 2))
    assert shop.stands == {"h1": "b1", "o1": None}


def test_a_hold_does_not_wait() -> None:
    with pytest.raises(NotEnoughStock, match=r"^No batch of LAMP has 6 free$"):
        Shop(bought("b1", 5)).send(held("h1", 6))


def test_the_same_hold_again_is_the_same_and_a_later_moment_extends_it() -> None:
    shop = Shop(bought("b1", 5), held("h1", 4, hours=2))
    assert (shop.send(held("h1", 4, hours=2)), shop.result) == ([], "b1")
    assert (shop.send(held("h1", 4, hours=1)), shop.result) == ([], "b1"), "an earlier one does not shorten it"
    assert shop.send(held("h1", 4, hours=3)) == [Held("h1", SKU, 4, "b1", at(3))]
    assert shop.line("h1").line.expires_at == at(3)


def test_a_confirmed_hold_is_a_line_of_the_order_where_it_was_held() -> None:
    shop = Shop(bought("b1", 5), bought("b0", 5, due=1), held("h1", 4))
    assert shop.send(CONFIRMED) == [Allocated("o1", SKU, 4, "b1"), HoldEnded("h1", SKU, 4, "b1", "confirmed")]
    assert (shop.stands, shop.result, shop.available["b1"]) == ({"h1": "confirmed", "o1": "b1"}, "b1", 1)


def test_a_hold_is_confirmed_once_and_tells_where_the_line_is_by_now() -> None:
    shop = Shop(bought("b1", 5), held("h1", 4), CONFIRMED)
    assert (shop.send(CONFIRMED), shop.result) == ([], "b1")
    shop.send(BatchQuantityChanged("b1", 3))
    assert (shop.send(CONFIRMED), shop.result) == ([], None)


def test_a_late_confirm_never_revives_a_hold() -> None:
    shop = Shop(bought("b1", 5), held("h1", 4))
    shop.now = at(1)
    with pytest.raises(HoldEndedAlready, match=r"^Hold h1 is over: expired$"):
        shop.send(CONFIRMED)
    with pytest.raises(HoldEndedAlready, match=r"^Hold h1 is over: expired$"):
        shop.send(held("h1", 4, hours=9))


def test_an_expired_hold_goes_to_who_waits_but_not_before() -> None:
    shop = Shop(bought("b1", 5), held("h1", 4), ordered("o1", 5))
    with pytest.raises(HoldStillRuns, match=r"^Hold h1 runs until 2026-01-31 13:00:00\+00:00$"):
        shop.send(HoldExpired("h1"))
    shop.now = at(1)
    assert shop.send(HoldExpired("h1"))[0] == HoldEnded("h1", SKU, 4, "b1", "expired")
    assert (shop.stands, shop.result) == ({"h1": "expired", "o1": "b1"}, "h1")
    assert shop.send(HoldExpired("h1")) == []


def test_a_released_hold_goes_to_who_waits() -> None:
    shop = Shop(bought("b1", 5), held("h1", 4), ordered("o1", 5))
    assert shop.send(HoldReleased("h1"))[0] == HoldEnded("h1", SKU, 4, "b1", "released")
    assert shop.stands == {"h1": "released", "o1": "b1"}
    assert shop.send(HoldReleased("h1")) == []


@pytest.mark.parametrize("event", [CONFIRMED, held("h1", 4), HoldExpired("h1")])
def test_what_is_over_is_over(event: HoldConfirmed) -> None:
    shop = Shop(bought("b1", 5), held("h1", 4), HoldReleased("h1"))
    with pytest.raises(HoldEndedAlready, match=r"^Hold h1 is over: released$"):
        shop.send(event)


def test_holds_lose_their_stock_before_lines_and_move_if_they_can() -> None:
    shop = Shop(bought("b1", 9), held("h1", 2), ordered("o1", 4), held("h2", 3), bought("b2", 2))
    raised = shop.send(BatchQuantityChanged("b1", 4))
    assert raised == [
        Deallocated("h2", SKU, 3, "b1"),
        Deallocated("h1", SKU, 2, "b1"),
        Held("h1", SKU, 2, "b2", at(1)),
        HoldEnded("h2", SKU, 3, None, "lost"),
    ]
    assert shop.stands == {"h1": "b2", "o1": "b1", "h2": "lost"}


def test_a_hold_may_stay_after_all_where_a_large_line_left_room() -> None:
    shop = Shop(bought("b1", 12), ordered("o1", 10), held("h1", 2), BatchQuantityChanged("b1", 5))
    assert shop.stands == {"o1": None, "h1": "b1"}


def test_lines_go_before_holds_where_both_lost_their_batch() -> None:
    shop = Shop(bought("b1", 6), held("h1", 3), ordered("o1", 3), bought("b2", 3), BatchQuantityChanged("b1", 0))
    assert shop.stands == {"h1": "lost", "o1": "b2"}


def test_the_id_of_a_hold_is_unique_over_all_products() -> None:
    shop = Shop(bought("b1", 5), BatchCreated("r1", "RUG", 5), held("h1", 2))
    with pytest.raises(HoldConflict, match=r"^h1 is already the id of a hold of 2 of LAMP$"):
        shop.send(StockHeld("h1", "RUG", 2, at(1)))


@pytest.mark.parametrize("event", [held("h1", 3), ordered("h1", 2)])
def test_an_id_belongs_to_one_hold(event: StockHeld) -> None:
    shop = Shop(bought("b1", 9), held("h1", 2))
    with pytest.raises(HoldConflict, match=r"^h1 is already the id of a hold of 2 of LAMP$"):
        shop.send(event)


@pytest.mark.parametrize("event", [held("o1", 2), HoldConfirmed("h1", "h1"), HoldConfirmed("h1", "h2")])
def test_orders_and_holds_of_a_product_share_no_id(event: StockHeld) -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 2), held("h1", 2), held("h2", 2))
    with pytest.raises(HoldConflict):
        shop.send(event)


@pytest.mark.parametrize(("qty", "told"), [(3, " with quantity 3, not 2"), (2, "")])
def test_a_hold_does_not_become_a_line_that_is_there(qty: int, told: str) -> None:
    shop = Shop(bought("b1", 9), ordered("o1", qty), held("h1", 2))
    with pytest.raises(LineConflict, match=f"^Order o1 already has a line of LAMP{told}$"):
        shop.send(CONFIRMED)


def test_a_confirmed_line_that_was_cancelled_is_not_revived() -> None:
    shop = Shop(bought("b1", 5), held("h1", 4), CONFIRMED, AllocationCancelled("o1", SKU))
    assert (shop.send(CONFIRMED), shop.result, shop.available) == ([], None, {"b1": 5})


@pytest.mark.parametrize("event", [CONFIRMED, HoldReleased("h1"), HoldExpired("h1")])
def test_an_unknown_hold_is_refused(event: HoldConfirmed) -> None:
    with pytest.raises(UnknownHold, match=r"^Unknown hold h1$"):
        Shop(bought("b1", 5), ordered("h1", 1)).send(event)


def test_of_an_unknown_product_nothing_is_held() -> None:
    with pytest.raises(UnknownSku):
        Shop().send(held("h1", 1))


@pytest.mark.parametrize(
    ("expires_at", "why"),
    [
        (at(0), "past"),
        (at(-1), "past"),
        (at(0) + timedelta(days=3_650, seconds=1), "more than 3,650 days away"),
        (datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-12))), "more than 3,650 days away"),
    ],
)
def test_a_hold_ends_in_the_near_future(expires_at: datetime, why: str) -> None:
    with pytest.raises(InvalidMoment, match=f"which is {why}$"):
        Shop(bought("b1", 5)).send(StockHeld("h1", SKU, 1, expires_at))


def test_a_moment_is_the_same_in_any_time_zone() -> None:
    elsewhere = timezone(timedelta(hours=2))
    shop = Shop(bought("b1", 5), StockHeld("h1", SKU, 1, at(1).astimezone(elsewhere)))
    expires_at = shop.line("h1").line.expires_at
    assert expires_at is not None
    assert (expires_at, expires_at.tzinfo) == (at(1), UTC)

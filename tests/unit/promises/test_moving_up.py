"""The rule `move_up`: lines promised too late move to stock that comes in time."""

from __future__ import annotations

import pytest

from allocation.domain.events import (
    AllocationCancelled,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    Deallocated,
    Event,
    LinePinned,
    LineQuantityChanged,
    MoveUpRequired,
    RulesChanged,
)
from tests.builders import on
from tests.unit.promises.shop import SKU, TODAY, Shop, at, bought, day, held, kinds, ordered, ruled, told

UP = ruled(move_up=True)
SLOW = bought("slow", 9, due=9)
LATE = (SLOW, ordered("o1", 3, by=4), ordered("o2", 3, by=4), ordered("o3", 3))


def test_late_lines_stay_unless_the_rules_say_otherwise() -> None:
    shop = Shop(*LATE)
    assert kinds(shop.send(bought("soon", 9, due=3))) == []
    assert set(shop.stands.values()) == {"slow"}


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], bought("soon", 9, due=3)),
        ([bought("soon", 9, due=12)], BatchEtaChanged("soon", day(3))),
        ([bought("soon", 9, due=12)], BatchReceived("soon")),
        ([bought("soon", 1, due=3)], BatchQuantityChanged("soon", 6)),
        ([BatchQuarantined("slow", "wet", keep_lines=True)], bought("soon", 6, due=3)),
    ],
)
def test_late_lines_move_to_stock_that_comes_to_be_in_time(before: list[Event], event: Event) -> None:
    shop = Shop(*LATE, UP, *before)
    raised = shop.send(event)
    assert shop.stands == {"o1": "soon", "o2": "soon", "o3": "slow"}
    assert told(raised) == [(orderid, day(9), shop.batch("soon").day(on(TODAY)), 0) for orderid in ("o1", "o2")]


def test_they_move_when_somebody_else_makes_room_in_time() -> None:
    shop = Shop(bought("soon", 3, due=3), ordered("first", 3), *LATE, UP)
    shop.send(AllocationCancelled("first", SKU))
    assert shop.stands == {"first": "cancelled", "o1": "soon", "o2": "slow", "o3": "slow"}


def test_they_move_when_stock_may_be_sold_again() -> None:
    shop = Shop(bought("soon", 6, due=3), UP, BatchQuarantined("soon", "wet", keep_lines=True), *LATE)
    assert set(shop.stands.values()) == {"slow"}
    shop.send(BatchReleased("soon"))
    assert shop.stands == {"o1": "soon", "o2": "soon", "o3": "slow"}


def test_they_move_by_priority_then_by_age_as_far_as_there_is_room() -> None:
    shop = Shop(
        *(bought("slow", 12, due=9), UP),
        *(ordered("o1", 3, by=4), ordered("o2", 3, by=4), ordered("o3", 3, by=4, priority=5), ordered("o4", 2, by=4)),
    )
    shop.send(bought("soon", 8, due=3))
    assert shop.stands == {"o1": "soon", "o2": "slow", "o3": "soon", "o4": "soon"}


def test_who_waits_comes_first_and_gets_what_they_leave() -> None:
    slow = (bought("slow", 11, due=9), *LATE[1:])
    shop = Shop(*slow, UP, ordered("w1", 4), ordered("w2", 5))
    assert (shop.stands["w1"], shop.stands["w2"]) == (None, None)
    shop.send(bought("soon", 7, due=3))
    assert shop.stands == {"o1": "soon", "o2": "slow", "o3": "slow", "w1": "soon", "w2": "slow"}


def test_pinned_lines_and_holds_stay() -> None:
    shop = Shop(*LATE[:2], UP, held("h1", 2), LinePinned("o1", SKU, "slow", "as promised"))
    shop.send(bought("soon", 9, due=3))
    assert shop.stands == {"o1": "slow", "h1": "slow"}


def test_no_more_lines_move_than_the_rules_allow() -> None:
    shop = Shop(*LATE, ruled(move_up=True, most_moved=1))
    shop.send(bought("soon", 9, due=3))
    assert shop.stands == {"o1": "soon", "o2": "slow", "o3": "slow"}


def test_what_is_late_on_time_already_or_still_late_stays() -> None:
    shop = Shop(SLOW, UP, ordered("o1", 3, by=10), ordered("o2", 3, by=4))
    assert kinds(shop.send(bought("soon", 9, due=5))) == ["MoveUpRequired"]
    assert shop.stands == {"o1": "slow", "o2": "slow"}


def test_a_line_long_overdue_moves_to_nothing() -> None:
    shop = Shop(SLOW, UP, ordered("o1", 3, by=1))
    shop.now = at(24 * 3)
    assert kinds(shop.send(bought("here", 9))) == ["MoveUpRequired"]


def test_they_move_when_asked_to_whatever_the_rules_say() -> None:
    shop = Shop(*LATE, bought("soon", 9, due=3))
    shop.send(MoveUpRequired(SKU))
    assert shop.stands == {"o1": "soon", "o2": "soon", "o3": "slow"}


CHAIN = (
    *(bought("soon", 3, due=5), ordered("first", 3, by=3)),
    *(bought("slow", 3, due=9), ordered("second", 3, by=6)),
)


def test_a_line_gets_the_stock_that_another_one_leaves_if_it_is_in_time() -> None:
    shop = Shop(*CHAIN, UP)
    raised = shop.send(bought("here", 3))
    assert shop.stands == {"first": "here", "second": "soon"}
    assert told(raised) == [("first", day(5), TODAY, 0), ("second", day(9), day(5), 0)]


def test_lines_that_were_passed_over_are_looked_at_again() -> None:
    """The large line comes first by its priority, when the stock in time is not left yet."""
    shop = Shop(
        *(bought("soon", 5, due=5), ordered("first", 3, by=3)),
        *(bought("slow", 5, due=9), ordered("large", 5, by=6, priority=5), UP),
    )
    shop.send(bought("here", 3))
    assert shop.stands == {"first": "here", "large": "soon"}


def test_late_lines_get_the_stock_that_is_left_before_waiting_lines_do() -> None:
    shop = Shop(*CHAIN, UP, ordered("waits", 3))
    shop.send(RulesChanged(SKU, move_up=True, most_waiting=3))
    shop.send(bought("here", 1))
    assert shop.stands["waits"] is None
    shop.send(BatchQuantityChanged("here", 6))
    assert shop.stands == {"first": "here", "second": "soon", "waits": "here"}


def test_a_chain_is_no_longer_than_the_rules_allow() -> None:
    shop = Shop(*CHAIN, ruled(move_up=True, most_moved=1))
    shop.send(bought("here", 3))
    assert shop.stands == {"first": "here", "second": "slow"}


def test_they_move_as_soon_as_the_rules_say_so() -> None:
    shop = Shop(*LATE, bought("soon", 9, due=3))
    raised = shop.send(UP)
    assert shop.stands == {"o1": "soon", "o2": "soon", "o3": "slow"}
    assert [orderid for orderid, *_ in told(raised)] == ["o1", "o2"]


def test_they_move_to_the_stock_that_a_pinned_line_leaves() -> None:
    shop = Shop(bought("soon", 3, due=3), ordered("first", 3), bought("slow", 6, due=9), ordered("o1", 3, by=4), UP)
    shop.send(LinePinned("first", SKU, "slow", "a friend"))
    assert shop.stands == {"first": "slow", "o1": "soon"}


def test_they_move_to_the_stock_that_is_left_beside_a_pinned_line() -> None:
    shop = Shop(bought("soon", 3, due=3), ordered("first", 3), bought("slow", 9, due=9), ordered("o1", 2, by=4), UP)
    shop.send(bought("more", 3, due=8))
    shop.send(ordered("pinned", 1))
    shop.send(LinePinned("pinned", SKU, "soon", "a friend"))
    assert shop.stands == {"first": "more", "o1": "soon", "pinned": "soon"}


def test_a_line_that_loses_its_stock_and_gets_it_back_is_told_nothing() -> None:
    """It has no place in time until another line has moved up."""
    urgent = [ordered(orderid, 3, by=3, priority=9) for orderid in ("u1", "u2")]
    shop = Shop(
        *(bought("soon", 13, due=5), *urgent, ordered("first", 3, by=3), ordered("second", 4, by=6)),
        *(bought("slow", 4, due=9), ruled(move_up=True, most_moved=2), bought("here", 9)),
    )
    assert shop.stands == {"u1": "here", "u2": "here", "first": "soon", "second": "soon"}
    raised = shop.send(BatchQuantityChanged("soon", 6))
    assert [each.orderid for each in raised if isinstance(each, Deallocated)] == ["second", "first", "second"]
    assert (shop.stands["first"], shop.stands["second"]) == ("here", "soon")
    assert told(raised) == [("first", day(5), TODAY, 0)]


def test_a_line_is_told_one_day_however_often_it_moves() -> None:
    shop = Shop(*CHAIN, bought("last", 3, due=20), UP)
    raised = shop.send(BatchEtaChanged("slow", day(12)))
    assert told(raised) == [("second", day(9), day(12), 6)]
    raised = shop.send(BatchReceived("soon"))
    assert told(raised) == [("first", day(5), TODAY, 0)]


def test_a_line_that_gets_the_stock_that_others_leave_is_told_nothing() -> None:
    """It waited until they moved."""
    lines = (ordered("o1", 2), ordered("o2", 2, by=4), ordered("o3", 2, by=4), ordered("o4", 5))
    shop = Shop(bought("slow", 11, due=9), ruled(move_up=True, most_moved=1), *lines, bought("soon", 4, due=3))
    assert shop.stands == {"o1": "slow", "o2": "soon", "o3": "slow", "o4": "slow"}
    assert told(shop.send(LineQuantityChanged("o1", SKU, 6))) == [("o3", day(9), day(3), 0)]
    assert shop.stands == {"o1": "slow", "o2": "soon", "o3": "soon", "o4": "slow"}

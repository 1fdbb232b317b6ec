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
    Event,
    LinePinned,
    MoveUpRequired,
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

"""A batch is late, early or arrives; lines are needed by a day."""

from __future__ import annotations

from datetime import timedelta

import pytest

from allocation.domain.errors import BatchArrived, LineConflict, NothingDue, UnknownBatch
from allocation.domain.events import (
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    LinePinned,
    LineShipped,
)
from tests.unit.promises.shop import SKU, TODAY, Shop, bought, day, held, kinds, ordered, ruled, told


def test_a_line_gets_the_first_batch_that_comes_by_the_day_it_is_needed() -> None:
    shop = Shop(bought("late", 9, due=9), bought("soon", 9, due=3), ordered("o1", 5, by=5), ordered("o2", 5, by=5))
    assert shop.stands == {"o1": "soon", "o2": "late"}


def test_a_late_promise_is_better_than_none_and_the_earliest_of_them_is_taken() -> None:
    shop = Shop(bought("later", 9, due=9), bought("late", 9, due=7), ordered("o1", 5, by=5))
    assert shop.stands == {"o1": "late"}


def test_the_customs_story_lines_that_would_be_late_move_and_all_others_stay() -> None:
    shop = Shop(
        *(bought("fork", 9, due=1), bought("spare", 4, due=3)),
        *(ordered("patient", 2), ordered("urgent", 2, by=4), ordered("urgent too", 3, by=4), ordered("small", 2, by=4)),
    )
    raised = shop.send(BatchEtaChanged("fork", day(20)))
    assert shop.stands == {"patient": "fork", "urgent": "spare", "urgent too": "fork", "small": "spare"}
    assert sorted(told(raised)) == [
        ("patient", day(1), day(20), 0),
        ("small", day(1), day(3), 0),
        ("urgent", day(1), day(3), 0),
        ("urgent too", day(1), day(20), 16),
    ]


def test_a_line_that_nothing_serves_sooner_keeps_what_it_has() -> None:
    shop = Shop(bought("b1", 9, due=1), bought("b2", 9, due=20), ordered("o1", 5, by=4))
    assert told(shop.send(BatchEtaChanged("b1", day(20)))) == [("o1", day(1), day(20), 16)]
    assert shop.stands == {"o1": "b1"}


def test_lines_stay_though_another_batch_serves_them_earlier_now() -> None:
    shop = Shop(bought("b1", 9, due=1), bought("b2", 9, due=2), ordered("o1", 5))
    shop.send(BatchEtaChanged("b1", day(8)))
    assert shop.stands == {"o1": "b1"}
    shop.send(ordered("o2", 4))
    assert shop.stands == {"o1": "b1", "o2": "b2"}, "new lines mind the new day"


def test_an_early_arrival_is_told_and_moves_nobody() -> None:
    shop = Shop(bought("b1", 9, due=9), ordered("o1", 5, by=4))
    assert told(shop.send(BatchEtaChanged("b1", day(2)))) == [("o1", day(9), day(2), 0)]


def test_the_same_day_again_is_told_to_nobody() -> None:
    shop = Shop(bought("b1", 9, due=9), ordered("o1", 5))
    assert shop.send(BatchEtaChanged("b1", day(9))) == []


def test_the_room_that_a_leaving_line_makes_goes_to_who_waits() -> None:
    shop = Shop(
        *(bought("b1", 9, due=1), bought("b2", 5, due=3)),
        *(ordered("urgent", 4, by=4), ordered("o2", 5), ordered("waits", 6)),
    )
    assert shop.stands == {"urgent": "b1", "o2": "b1", "waits": None}
    shop.send(BatchQuantityChanged("b1", 11))
    assert shop.stands["waits"] is None
    shop.send(BatchEtaChanged("b1", day(20)))
    assert shop.stands == {"urgent": "b2", "o2": "b1", "waits": "b1"}


def test_those_who_leave_are_served_by_priority_then_by_age() -> None:
    shop = Shop(
        bought("b1", 9, due=1),
        *(ordered("o1", 3, by=4), ordered("o2", 3, by=4, priority=5), ordered("o3", 3, by=4)),
        bought("spare", 6, due=3),
    )
    shop.send(BatchEtaChanged("b1", day(9)))
    assert shop.stands == {"o1": "spare", "o2": "spare", "o3": "b1"}


def test_a_pinned_line_and_a_hold_stay_on_a_late_batch() -> None:
    shop = Shop(bought("b1", 9, due=1), ordered("o1", 3, by=4), held("h1", 2), LinePinned("o1", SKU, "b1", "promised"))
    shop.send(bought("spare", 9, due=2))
    assert kinds(shop.send(BatchEtaChanged("b1", day(9)))) == ["PromiseChanged"]
    assert shop.stands == {"o1": "b1", "h1": "b1"}


def test_no_more_lines_leave_than_may_be_moved() -> None:
    shop = Shop(
        *(bought("b1", 9, due=1), ruled(most_moved=1)),
        *(ordered("o1", 3, by=4), ordered("o2", 3, by=4), bought("spare", 9, due=3)),
    )
    shop.send(BatchEtaChanged("b1", day(9)))
    assert shop.stands == {"o1": "spare", "o2": "b1"}


def test_a_batch_received_is_in_the_warehouse() -> None:
    shop = Shop(bought("b1", 9, due=9), bought("b0", 9, due=1), ordered("o1", 5))
    assert told(shop.send(BatchReceived("b0"))) == [("o1", day(1), TODAY, 0)]
    assert shop.result == "b0"
    shop.send(ordered("o2", 4))
    assert (shop.stands, shop.batch("b0").eta) == ({"o1": "b0", "o2": "b0"}, None)


def test_what_is_told_of_a_delivery_after_it_arrived_is_refused() -> None:
    shop = Shop(bought("b1", 9, due=2), ordered("o1", 4, by=3), BatchReceived("b1"), bought("here", 9))
    for ref in ("b1", "here"):
        with pytest.raises(BatchArrived, match=rf"^Batch {ref} cannot be due on 2026-02-09: it is in the warehouse$"):
            shop.send(BatchEtaChanged(ref, day(9)))
    assert shop.stands == {"o1": "b1"}


def test_a_batch_received_short_frees_lines_and_tells_each_one_day_only() -> None:
    shop = Shop(bought("b1", 9, due=2), bought("b2", 4, due=5), ordered("o1", 4), ordered("o2", 5))
    raised = shop.send(BatchReceived("b1", 4, rest="closed"))
    assert shop.stands == {"o1": "b1", "o2": None}
    assert sorted(told(raised)) == [("o1", day(2), TODAY, 0), ("o2", day(2), None, 0)]


def test_a_batch_received_with_more_serves_who_waits() -> None:
    shop = Shop(bought("b1", 5, due=2), ordered("o1", 5), ordered("o2", 4))
    shop.send(BatchReceived("b1", 9))
    assert shop.stands == {"o1": "b1", "o2": "b1"}


def test_who_is_late_in_the_warehouse_does_not_leave_for_a_batch_that_is_overdue() -> None:
    shop = Shop(bought("b1", 9, due=1), ordered("o1", 3, by=1), ordered("o2", 3), bought("overdue", 3, due=1))
    shop.now += timedelta(days=5)
    raised = shop.send(BatchReceived("b1", 3, rest="closed"))
    assert shop.stands == {"o1": "b1", "o2": "overdue"}
    assert told(raised) == [("o1", day(6), day(5), 4)], "both were overdue and promised for the next day"


def test_a_batch_of_which_nothing_is_due_cannot_be_received() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), LineShipped("o1", SKU))
    with pytest.raises(NothingDue, match=r"^Batch b1 cannot be received: nothing of it is due$"):
        shop.send(BatchReceived("b1", 3))


@pytest.mark.parametrize("event", [BatchEtaChanged("b9", TODAY), BatchReceived("b9")])
def test_an_unknown_batch_is_refused(event: BatchEtaChanged | BatchReceived) -> None:
    with pytest.raises(UnknownBatch, match=r"^Unknown batch b9$"):
        Shop().send(event)


def test_the_same_line_needed_by_another_day_is_refused() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4, by=3))
    with pytest.raises(LineConflict, match=f"^Order o1 already has a line of LAMP needed by {day(3)}, not no day$"):
        shop.send(ordered("o1", 4))


def test_late_lines_that_no_batch_can_take_in_time_move_to_the_one_that_is_the_least_late() -> None:
    shop = Shop(bought("b1", 9, due=1), *(ordered(f"o{number}", 3, by=4) for number in (1, 2, 3)))
    for ref, due in (("later", 12), ("soon", 8), ("in-time", 4), ("never", 40)):
        shop.send(bought(ref, 3, due=due))
    raised = shop.send(BatchEtaChanged("b1", day(30)))
    assert shop.stands == {"o1": "in-time", "o2": "soon", "o3": "later"}
    assert sorted(late for *_, late in told(raised)) == [0, 4, 8]

"""What is answered to each event."""

from __future__ import annotations

import pytest

from allocation.domain import errors, events
from allocation.domain.events import Event
from allocation.entrypoints.answers import ANSWERS, answer, moves
from allocation.entrypoints.refusals import KINDS, REFUSALS, tell
from allocation.service_layer.messages import EVENTS, Outcome, incoming_types, new_message


def test_every_event_from_outside_has_an_answer() -> None:
    assert set(ANSWERS) == {EVENTS[name] for name in incoming_types()}


def test_an_answer_names_the_batch() -> None:
    message = new_message(events.AllocationRequired("o1", "LAMP", 3), "test")
    assert answer(Outcome(message, "b1", [])) == {"batchref": "b1"}
    assert answer(Outcome(message, None, [])) == {"batchref": None}


def test_a_line_that_was_split_is_answered_with_its_parts() -> None:
    message = new_message(events.AllocationRequired("o1", "LAMP", 3, split=True), "test")
    parts = [{"orderid": "o1", "qty": 2, "batchref": "b1"}, {"orderid": "o1/2", "qty": 1, "batchref": None}]
    assert answer(Outcome(message, parts, [])) == {"batchref": "b1", "parts": parts}


def test_what_is_cut_off_a_line_comes_from_where_that_was() -> None:
    raised = [
        events.Deallocated("o1", "LAMP", 9, "b1"),
        events.Split("o1", "LAMP", 5, 4, "o1/2", 7),
        events.Allocated("o1", "LAMP", 5, "b1"),
        events.Split("o1/2", "LAMP", 3, 1, "o1/3", 8),
        events.Allocated("o1/2", "LAMP", 3, "b2"),
        events.Backordered("o1/3", "LAMP", 1),
        events.Split("o2", "LAMP", 1, 1, "o2/2", 9),
        events.Allocated("o2", "LAMP", 1, "b2"),
        events.Backordered("o2/2", "LAMP", 1),
    ]
    assert [tuple(move.values()) for move in moves(raised)] == [
        ("o1/2", "LAMP", 3, "b1", "b2"),
        ("o1/3", "LAMP", 1, "b1", None),
        ("o2", "LAMP", 1, None, "b2"),
    ]


def test_a_count_is_answered_with_what_moved() -> None:
    message = new_message(events.BatchQuantityChanged("b1", 3), "test")
    raised = [events.Deallocated("o1", "LAMP", 3, "b1"), events.Backordered("o1", "LAMP", 3), events.OutOfStock("LAMP")]
    moved = [{"orderid": "o1", "sku": "LAMP", "qty": 3, "from": "b1", "to": None}]
    assert answer(Outcome(message, "b1", raised)) == {"batchref": "b1", "moved": moved}


def test_a_repair_is_answered_with_the_counters_that_were_off() -> None:
    message = new_message(events.RepairRequired("LAMP"), "test")
    raised = [
        events.AllocatedQuantityRepaired("LAMP", "b1", 7, 3),
        events.ShippedQuantityRepaired("LAMP", "b1", 0, 2),
        events.WaitingLinesRepaired("LAMP", 0, 1),
    ]
    repaired = [
        {"counter": "allocated_quantity", "batchref": "b1", "stored": 7, "counted": 3},
        {"counter": "shipped_quantity", "batchref": "b1", "stored": 0, "counted": 2},
        {"counter": "waiting_lines", "batchref": None, "stored": 0, "counted": 1},
    ]
    assert answer(Outcome(message, "LAMP", raised)) == {"sku": "LAMP", "repaired": repaired}


def freed(orderid: str, batchref: str) -> Event:
    return events.Deallocated(orderid, "LAMP", 3, batchref)


def placed(orderid: str, batchref: str) -> Event:
    return events.Allocated(orderid, "LAMP", 3, batchref)


def left_waiting(orderid: str) -> Event:
    return events.Backordered(orderid, "LAMP", 3)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        ([], []),
        ([freed("o1", "b1"), placed("o1", "b2")], [("o1", "b1", "b2")]),
        ([freed("o1", "b1"), left_waiting("o1")], [("o1", "b1", None)]),
        ([placed("o1", "b1")], [("o1", None, "b1")]),
        ([freed("o1", "b1"), placed("o1", "b1")], []),
        ([left_waiting("o1")], []),
        ([freed("o1", "b1"), placed("o1", "b2"), freed("o1", "b2"), placed("o1", "b3")], [("o1", "b1", "b3")]),
        (
            [freed("o2", "b1"), freed("o1", "b1"), placed("o1", "b2"), left_waiting("o2")],
            [("o2", "b1", None), ("o1", "b1", "b2")],
        ),
    ],
)
def test_moves_are_the_net_change_of_each_line_as_first_touched(
    raised: list[Event], expected: list[tuple[str, str | None, str | None]]
) -> None:
    assert [(move["orderid"], move["from"], move["to"]) for move in moves(raised)] == expected


def test_lines_of_one_order_move_apart() -> None:
    raised = [events.Deallocated("o1", "LAMP", 3, "b1"), events.Allocated("o1", "VASE", 4, "b2")]
    assert [(move["sku"], move["qty"], move["from"], move["to"]) for move in moves(raised)] == [
        ("LAMP", 3, "b1", None),
        ("VASE", 4, None, "b2"),
    ]


def test_every_refusal_is_in_the_table_and_every_kind_has_its_own_slug() -> None:
    refusals = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Refusal)}
    assert refusals - {errors.Refusal} <= set(REFUSALS)
    assert len({kind.slug for kind in KINDS}) == len(KINDS)


def test_a_failure_is_not_described_to_the_outside() -> None:
    told = tell(RuntimeError("secret"))
    assert told.kind.status == 500
    assert "secret" not in told.message + told.detail

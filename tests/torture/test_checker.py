"""The checker finds every fault that it is there to find: each forged history has one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.torture.checker import KINDS, check
from tests.torture.history import Answer, Batch, Line, Sent, Stored

SKU = "LAMP"


class Run(NamedTuple):
    sent: list[Sent]
    stored: Stored


def sent(key: str, at: float, path: str, answer: dict[str, Any], **body: Any) -> Sent:
    return Sent(key, path, body, SKU, at, at + 0.5, 1, [Answer(201, answer)])


def event(position: int, id_: str, type_: str, **body: Any) -> dict[str, Any]:
    key, _, step = id_.partition("~")
    cause = key if step else None
    named = {"id": id_, "correlation_id": key, "causation_id": cause, "type": type_, "sku": SKU}
    return {"position": position, **named, "body": body}


def a_right_run() -> Run:
    """A batch of 10, an order of 6 on it, one of 5 that waits, and a cut to 7."""
    line = {"orderid": "o1", "sku": SKU, "qty": 6}
    other = {"orderid": "o2", "sku": SKU, "qty": 5}
    events = [
        event(1, "k1", "BatchCreated", ref="b1", sku=SKU, qty=10, eta=None),
        event(2, "k2", "AllocationRequired", **line),
        event(3, "k2~1", "Allocated", **line, batchref="b1"),
        event(4, "k3", "AllocationRequired", **other),
        event(5, "k3~1", "Backordered", **other),
        event(6, "k3~2", "OutOfStock", sku=SKU),
        event(7, "k4", "BatchQuantityChanged", ref="b1", qty=7),
    ]
    messages = [
        sent("k1", 1, "/add_batch", {"batchref": "b1"}, ref="b1", sku=SKU, qty=10),
        sent("k2", 2, "/allocate", {"batchref": "b1"}, **line),
        sent("k3", 3, "/allocate", {"batchref": None}, **other),
        sent("k4", 4, "/change_batch_quantity", {"batchref": "b1", "moved": []}, ref="b1", qty=7),
    ]
    lines = [Line("o1", SKU, 6, "b1"), Line("o2", SKU, 5, None)]
    return Run(messages, Stored(events, lines, [Batch("b1", SKU, 7, 6)]))


def faults(run: Run) -> dict[str, int]:
    return {kind: len(found) for kind, found in check(*run).items() if found}


def test_a_right_run_has_no_fault() -> None:
    assert faults(a_right_run()) == {}


def test_a_message_that_nobody_got_an_answer_for_may_be_in_the_ledger_or_not() -> None:
    for kept in (True, False):
        run = a_right_run()
        run.sent[3].acknowledged_at, run.sent[3].answers = None, []
        if not kept:
            run.stored.events = run.stored.events[:-1]
        assert faults(run) == {"silent": 1}


def test_messages_under_way_at_the_same_time_may_be_in_any_order() -> None:
    run = a_right_run()
    run.sent[3].sent_at, run.sent[3].acknowledged_at = 3.2, 3.4
    run.stored.events = [*run.stored.events[:3], run.stored.events[6], *run.stored.events[3:6]]
    assert faults(run) == {}


def lose_a_message(run: Run) -> None:
    run.stored.events = run.stored.events[:-1]


def lose_a_line(run: Run) -> None:
    run.stored.lines = run.stored.lines[:1]


def apply_a_message_twice(run: Run) -> None:
    run.stored.events = [*run.stored.events, {**run.stored.events[-1], "position": 8}]


def keep_a_line_twice(run: Run) -> None:
    run.stored.lines = [*run.stored.lines, run.stored.lines[1]]


def allocate_a_line_twice(run: Run) -> None:
    again = event(8, "k5", "AllocationRequired", **run.sent[1].body)
    run.sent.append(sent("k5", 5, "/allocate", {"batchref": "b1"}, **run.sent[1].body))
    run.stored.events = [*run.stored.events, again, event(9, "k5~1", "Allocated", **again["body"], batchref="b1")]


def answer_a_retry_differently(run: Run) -> None:
    run.sent[2].answers.append(Answer(201, {"batchref": "b1"}))


def answer_otherwise_than_recorded(run: Run) -> None:
    run.sent[1].answers = [Answer(201, {"batchref": None})]


def reorder(run: Run) -> None:
    events = run.stored.events
    run.stored.events = [events[0], *events[3:6], *events[1:3], events[6]]


def promise_more_than_there_is(run: Run) -> None:
    run.stored.events = copy.deepcopy(run.stored.events)
    run.stored.events[0]["body"]["qty"] = run.sent[0].body["qty"] = 5  # type: ignore[index]


def hold_more_than_there_is(run: Run) -> None:
    run.stored.batches = [Batch("b1", SKU, 5, 6)]


def miscount(run: Run) -> None:
    run.stored.batches = [Batch("b1", SKU, 7, 5)]


def drop_a_step(run: Run) -> None:
    run.stored.events = [each for each in run.stored.events if each["id"] != "k3~1"]


def leave_a_line_called(run: Run) -> None:
    called = event(8, "k4~1", "AllocationRequired", orderid="o2", sku=SKU, qty=5)
    run.stored.events = [*run.stored.events, called]


def change_a_quantity(run: Run) -> None:
    run.stored.lines = [run.stored.lines[0], Line("o2", SKU, 50, None)]


def invent_a_message(run: Run) -> None:
    run.stored.events = [*run.stored.events, event(8, "k9", "BatchQuantityChanged", ref="b1", qty=9)]


def keep_another_message_than_sent(run: Run) -> None:
    run.stored.events = [*run.stored.events[:-1], event(7, "k4", "BatchQuantityChanged", ref="b1", qty=8)]


def refuse(run: Run) -> None:
    run.sent[2].answers = [Answer(500, {"message": "The service failed"})]


def differ(run: Run) -> None:
    run.stored.differences = 1


@pytest.mark.parametrize(
    ("forge", "expected"),
    [
        (lose_a_message, {"lost": 1}),
        (lose_a_line, {"lost": 1}),
        (apply_a_message_twice, {"twice": 1, "torn": 1}),
        (keep_a_line_twice, {"twice": 1}),
        (allocate_a_line_twice, {"twice": 1, "oversold": 1}),
        (answer_a_retry_differently, {"answers": 1}),
        (answer_otherwise_than_recorded, {"answers": 1}),
        (reorder, {"order": 1}),
        (promise_more_than_there_is, {"oversold": 1}),
        (hold_more_than_there_is, {"oversold": 1}),
        (miscount, {"torn": 1}),
        (drop_a_step, {"answers": 1, "torn": 1}),
        (leave_a_line_called, {"torn": 1}),
        (change_a_quantity, {"torn": 1}),
        (invent_a_message, {"unasked": 1}),
        (keep_another_message_than_sent, {"unasked": 1}),
        (refuse, {"refused": 1}),
        (differ, {"verify": 1}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_fault_is_found(forge: Callable[[Run], None], expected: dict[str, int]) -> None:
    run = a_right_run()
    forge(run)
    assert faults(run) == expected
    assert expected.keys() <= KINDS.keys()

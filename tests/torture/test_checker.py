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
    lines = [Line("o1", SKU, 6, "b1", "allocated"), Line("o2", SKU, 5, None, "waiting")]
    return Run(messages, Stored(events, lines, [Batch("b1", SKU, 7, 6)]))


def a_longer_run() -> Run:
    """The same; then a cart holds the last one and orders it, o1 leaves, o2 is cancelled, and cannot be shipped."""
    run = a_right_run()
    cart = {"holdid": "h1", "sku": SKU, "qty": 1}
    until, line = {"expires_at": "2035-01-31T12:00:00Z"}, {"orderid": "o3", "sku": SKU, "qty": 1}
    o1, o2 = {"orderid": "o1", "sku": SKU}, {"orderid": "o2", "sku": SKU}
    run.stored.events = [
        *run.stored.events,
        event(8, "k5", "StockHeld", **cart, **until),
        event(9, "k5~1", "Held", **cart, **until, batchref="b1"),
        event(10, "k6", "HoldConfirmed", holdid="h1", orderid="o3"),
        event(11, "k6~1", "HoldEnded", **cart, batchref="b1", how="confirmed"),
        event(12, "k6~2", "Allocated", **line, batchref="b1"),
        event(13, "k7", "LineShipped", **o1),
        event(14, "k7~1", "Shipped", **o1, qty=6, batchref="b1"),
        event(15, "k8", "LineQuantityChanged", **o2, qty=4),
        event(16, "k8~1", "Resized", **o2, qty=4, before=5),
        event(17, "k9", "AllocationCancelled", **o2),
        event(18, "k9~1", "Cancelled", **o2, qty=4, batchref=None),
    ]
    run.sent.extend(
        [
            sent("k5", 5, "/hold_stock", {"batchref": "b1"}, **cart, **until),
            sent("k6", 6, "/confirm_hold", {"batchref": "b1"}, holdid="h1", orderid="o3"),
            sent("k7", 7, "/ship_line", {"batchref": "b1"}, **o1),
            sent("k8", 8, "/change_line_quantity", {"batchref": None, "moved": []}, **o2, qty=4),
            sent("k9", 9, "/cancel_allocation", {"moved": []}, **o2),
            Sent("k10", "/ship_line", o2, SKU, 10, 10.5, 1, [Answer(409, {"type": "/problems/line-closed"})]),
        ]
    )
    run.stored.lines = [Line("o1", SKU, 6, "b1", "shipped"), Line("o3", SKU, 1, "b1", "allocated")]
    run.stored.batches = [Batch("b1", SKU, 7, 7)]
    return run


def a_run_in_parts(last: int) -> Run:
    """Of 10 due 4 come, 2 of them are taken back, then 8 come and 1 breaks: 9 are left, and ``last`` is allocated."""
    line = {"orderid": "o1", "sku": SKU, "qty": last}
    told: list[tuple[str, str, dict[str, Any]]] = [
        ("/add_batch", "BatchCreated", {"ref": "b1", "sku": SKU, "qty": 10, "eta": "2035-01-31"}),
        ("/receive_batch", "BatchReceived", {"ref": "b1", "qty": 4}),
        ("/undo_receipt", "ReceiptUndone", {"ref": "b1", "qty": 2}),
        ("/receive_batch", "BatchReceived", {"ref": "b1", "qty": 8}),
        ("/adjust_batch", "StockAdjusted", {"ref": "b1", "by": -1, "reason": "broken"}),
        ("/allocate", "AllocationRequired", line),
    ]
    messages = [
        sent(f"k{number}", number, path, {"batchref": "b1"}, **body) for number, (path, _, body) in enumerate(told)
    ]
    events = [event(number, f"k{number}", type_, **body) for number, (_, type_, body) in enumerate(told)]
    allocated = event(len(told), f"k{len(told) - 1}~1", "Allocated", **line, batchref="b1")
    lines = [Line("o1", SKU, last, "b1", "allocated")]
    return Run(messages, Stored([*events, allocated], lines, [Batch("b1", SKU, 9, last)]))


def test_stock_that_came_in_parts_may_be_promised_and_no_more() -> None:
    assert faults(a_run_in_parts(9)) == {}
    assert faults(a_run_in_parts(10)) == {"oversold": 2}


def faults(run: Run) -> dict[str, int]:
    return {kind: len(found) for kind, found in check(*run).items() if found}


def test_a_right_run_has_no_fault() -> None:
    assert faults(a_right_run()) == {}
    assert faults(a_longer_run()) == {}
    assert faults(a_tidied_run()) == {}


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
    run.stored.lines = [run.stored.lines[0], Line("o2", SKU, 50, None, "waiting")]


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


def without(run: Run, *ids: str) -> None:
    run.stored.events = [each for each in run.stored.events if each["id"] not in ids]


def lose_a_cancellation(run: Run) -> None:
    without(run, "k9", "k9~1")


def lose_a_shipment_in_the_rows(run: Run) -> None:
    run.stored.lines = [Line("o1", SKU, 6, "b1", "allocated"), run.stored.lines[1]]


def ship_twice(run: Run) -> None:
    run.sent.append(sent("k11", 11, "/ship_line", {"batchref": "b1"}, orderid="o1", sku=SKU))
    again = event(20, "k11~1", "Shipped", orderid="o1", sku=SKU, qty=6, batchref="b1")
    run.stored.events = [*run.stored.events, event(19, "k11", "LineShipped", orderid="o1", sku=SKU), again]


def resize_in_the_ledger_alone(run: Run) -> None:
    without(run, "k9", "k9~1")
    del run.sent[8:]
    run.stored.lines = [*run.stored.lines, Line("o2", SKU, 5, None, "waiting")]


def hold_on_when_it_was_ordered(run: Run) -> None:
    without(run, "k6~1")
    run.stored.lines = [*run.stored.lines, Line("h1", SKU, 1, "b1", "held")]
    run.stored.batches = [Batch("b1", SKU, 8, 8)]


def leave_a_hold_without_a_place(run: Run) -> None:
    cart = {"orderid": "h1", "sku": SKU, "qty": 1}
    run.stored.events = [
        *run.stored.events[:9],
        event(10, "k5~2", "Deallocated", **cart, batchref="b1"),
        *run.stored.events[9:],
    ]


def keep_what_was_cancelled(run: Run) -> None:
    run.stored.lines = [*run.stored.lines, Line("o2", SKU, 4, None, "waiting")]


def do_what_was_refused(run: Run) -> None:
    run.stored.events = [*run.stored.events, event(19, "k10", "LineShipped", orderid="o2", sku=SKU)]


def refuse_what_is_known(run: Run) -> None:
    run.sent[9].answers = [Answer(409, {"type": "/problems/unknown-line"})]


def answer_another_batch(run: Run) -> None:
    run.sent[6].answers = [Answer(201, {"batchref": "b2"})]


@pytest.mark.parametrize(
    ("forge", "expected"),
    [
        (lose_a_cancellation, {"lost": 2}),
        (lose_a_shipment_in_the_rows, {"torn": 1}),
        (ship_twice, {"twice": 1, "oversold": 1}),
        (resize_in_the_ledger_alone, {"torn": 1}),
        (hold_on_when_it_was_ordered, {"torn": 1, "oversold": 2}),
        (leave_a_hold_without_a_place, {"torn": 1}),
        (keep_what_was_cancelled, {"torn": 1}),
        (do_what_was_refused, {"answers": 1}),
        (refuse_what_is_known, {"refused": 1}),
        (answer_another_batch, {"answers": 1}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_fault_in_the_life_of_a_promise_is_found(forge: Callable[[Run], None], expected: dict[str, int]) -> None:
    run = a_longer_run()
    forge(run)
    assert faults(run) == expected


def test_what_was_sent_twice_may_be_refused_and_done_by_who_was_slower() -> None:
    run = a_longer_run()
    run.sent[9].attempts = 2
    do_what_was_refused(run)
    assert faults(run) == {}


def a_tidied_run() -> Run:
    """The longer one, of which o1 and o2 went in the end; that o2 is not there is then the answer."""
    run = a_longer_run()
    run.stored.earlier = run.stored.events
    without(run, "k2", "k2~1", "k3", "k3~1", "k3~2", "k7", "k7~1", "k8", "k8~1", "k9", "k9~1")
    run.stored.lines = run.stored.lines[1:]
    run.sent[9].answers = [Answer(404, {"type": "/problems/unknown-line"})]
    return run


def remove_an_open_line(run: Run) -> None:
    without(run, "k6", "k6~1", "k6~2")
    run.stored.lines = []


def remove_messages_of_an_open_line(run: Run) -> None:
    without(run, "k6~2")


def remove_a_message_about_no_line(run: Run) -> None:
    without(run, "k4")


def forget_in_the_counters(run: Run) -> None:
    run.stored.batches = [Batch("b1", SKU, 7, 1)]


def know_nothing_of_a_line_that_stays(run: Run) -> None:
    run.sent[9].body = {"orderid": "o3", "sku": SKU}


def remove_a_line_that_only_the_rows_lost(run: Run) -> None:
    run.stored.lines = []


@pytest.mark.parametrize(
    ("forge", "expected"),
    [
        (remove_an_open_line, {"lost": 1}),
        (remove_messages_of_an_open_line, {"lost": 1}),
        (remove_a_message_about_no_line, {"lost": 1}),
        (forget_in_the_counters, {"torn": 1}),
        (know_nothing_of_a_line_that_stays, {"refused": 1}),
        (remove_a_line_that_only_the_rows_lost, {"lost": 1, "torn": 1}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_removed_too_early_or_in_part_is_found(forge: Callable[[Run], None], expected: dict[str, int]) -> None:
    run = a_tidied_run()
    forge(run)
    assert faults(run) == expected

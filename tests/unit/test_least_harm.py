"""The least harmful way to place lines anew, next to the greedy one: on the real solver."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allocation.adapters import least_harm
from allocation.adapters.least_harm import solve
from allocation.domain.events import AllocationRequired, Deallocated
from allocation.domain.harm import Solver, Task, no_solver
from allocation.domain.lines import HELD_PRIORITY
from allocation.domain.model import Batch, OrderLine, Product
from allocation.domain.rules import Rules, late_days
from tests.builders import on

SKU = "GENTLE-SOFA"
TODAY = date(2026, 1, 1)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)
NEVER = 10_000


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


def shop(batches: Mapping[str, tuple[int, date | None]], lines: list[OrderLine], **rules: Any) -> Product:
    """The lines stand on the first batch."""
    (first, (qty, eta)), *others = batches.items()
    product = Product(SKU, [], rules=Rules(least_harm=True, **rules), today=on(TODAY))
    product.add_batch(Batch(first, SKU, qty, eta))
    for line in lines:
        if line.expires_at is not None:
            assert product.hold_stock(line, NOW) == first
        else:
            assert product.allocate(line) == first
    for ref, (room, due) in others:
        product.add_batch(Batch(ref, SKU, room, due))
    product.events.clear()
    return product


def play(product: Product) -> list[str]:
    """Handle what was raised; return the orders that lost their batch."""
    lost = []
    while product.events:
        match product.events.pop(0):
            case Deallocated(orderid):
                lost.append(orderid)
            case AllocationRequired(orderid, sku, qty, need_by, priority):
                product.allocate(OrderLine(orderid, sku, qty, need_by=need_by, priority=priority))
    return lost


def places(product: Product) -> dict[str, str | None]:
    return {orderid: promise.batchref for orderid, promise in product.changed_promises.items()}


def line(orderid: str, qty: int, need_by: date | None = None, priority: int = 0) -> OrderLine:
    return OrderLine(orderid, SKU, qty, need_by=need_by, priority=priority)


def hold(holdid: str, qty: int) -> OrderLine:
    return replace(line(holdid, qty, priority=HELD_PRIORITY), expires_at=UNTIL)


def test_one_large_line_leaves_instead_of_three_small_ones() -> None:
    orders = [line("large", 10), line("a", 1), line("b", 1), line("c", 1)]
    for solver, lost in ((no_solver, ["c", "b", "a"]), (solve, ["large"])):
        sofas = shop({"cut": (13, None), "other": (10, day(5))}, orders)
        sofas.change_batch_quantity("cut", 10, solver)
        assert play(sofas) == lost
    assert places(sofas) == {"large": "other", "a": "cut", "b": "cut", "c": "cut"}


def test_of_as_many_lines_those_leave_that_are_the_least_late() -> None:
    orders = [line("patient", 5, day(30)), line("urgent", 5, day(2))]
    for solver, lost in ((no_solver, ["urgent"]), (solve, ["patient"])):
        sofas = shop({"cut": (10, None), "late": (5, day(20))}, orders)
        sofas.change_batch_quantity("cut", 5, solver)
        assert play(sofas) == lost


def test_holds_leave_before_any_order_does() -> None:
    """An order of three would cover the shortage alone, and two holds are two lines."""
    carts = [hold("h1", 2), hold("h2", 2)]
    sofas = shop({"cut": (7, None), "other": (9, day(5))}, [line("order", 3), *carts])
    sofas.change_batch_quantity("cut", 4, solve)
    assert play(sofas) == ["h2", "h1"]
    assert places(sofas) == {"order": "cut", "h1": "other", "h2": "other"}


def test_only_the_holds_leave_that_have_to() -> None:
    carts = [hold(name, 2) for name in ("h1", "h2", "h3")]
    sofas = shop({"cut": (9, None)}, [line("order", 3), *carts])
    sofas.change_batch_quantity("cut", 6, solve)
    assert play(sofas) == ["h3", "h2"]
    assert places(sofas) == {"order": "cut", "h1": "cut", "h2": None, "h3": None}


def test_orders_leave_with_the_least_harm_once_all_holds_have_left() -> None:
    orders = [line("large", 10), line("a", 1), line("b", 1), hold("h1", 2)]
    sofas = shop({"cut": (14, None), "other": (10, day(5))}, orders)
    sofas.change_batch_quantity("cut", 3, solve)
    assert play(sofas) == ["h1", "large"]
    assert places(sofas) == {"large": "other", "a": "cut", "b": "cut", "h1": None}


def test_lateness_counts_by_priority() -> None:
    orders = [line("dear", 5, day(2), priority=5), line("other", 5, day(2))]
    sofas = shop({"cut": (10, None), "late": (5, day(20))}, orders)
    sofas.change_batch_quantity("cut", 5, solve)
    assert play(sofas) == ["other"]


def test_a_line_that_is_to_wait_takes_no_room_that_is_planned_for_others() -> None:
    orders = [line("large", 3, priority=1), line("small", 1, priority=1), line("a", 1), line("b", 1), line("c", 1)]
    sofas = shop({"cut": (7, None), "one": (1, day(2)), "three": (3, day(1))}, orders)
    sofas.change_batch_quantity("cut", 0, solve)
    play(sofas)
    assert [orderid for orderid, batchref in places(sofas).items() if batchref is None] == ["large"]


def test_a_delay_makes_as_few_days_late_as_can_be() -> None:
    """The oldest line would take all the room there is in time; two others fit into it."""
    orders = [line("large", 10, day(6)), line("a", 5, day(6)), line("b", 5, day(6))]
    for solver, lost in ((no_solver, ["large"]), (solve, ["b", "a"])):
        sofas = shop({"delayed": (20, day(5)), "in-time": (10, day(6))}, orders)
        sofas.change_batch_eta("delayed", day(30), solver)
        assert play(sofas) == lost
    assert places(sofas) == {"large": "delayed", "a": "in-time", "b": "in-time"}


def test_no_more_lines_move_than_the_rules_allow() -> None:
    orders = [line(str(number), 1, day(6)) for number in range(4)]
    sofas = shop({"delayed": (4, day(5)), "in-time": (10, day(6))}, orders, most_moved=2)
    sofas.change_batch_eta("delayed", day(30), solve)
    assert len(play(sofas)) == 2


def test_without_a_plan_the_newest_lines_leave() -> None:
    asked: list[Task] = []

    def solve_nothing(task: Task) -> None:
        asked.append(task)

    sofas = shop({"cut": (10, None)}, [line("old", 5), line("new", 5)])
    sofas.change_batch_quantity("cut", 5, solve_nothing)
    assert [(task.leaving, task.missing) for task in asked] == [(1, 5)]
    assert play(sofas) == ["new"]


def test_what_is_not_found_within_the_limits_is_done_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)
    orders = [
        line(str(number), dice.randint(20, 60), day(dice.randint(0, 40)), dice.randint(0, 9)) for number in range(60)
    ]
    rooms = {f"b{number}": (dice.randint(50, 200), day(dice.randint(1, 60))) for number in range(12)}
    batches = {"cut": (sum(each.qty for each in orders), None)} | rooms

    def cut(solver: Solver) -> dict[str, str | None]:
        sofas = shop(batches, orders)
        sofas.change_batch_quantity("cut", 100, solver)
        play(sofas)
        return places(sofas)

    usual = cut(no_solver)
    assert cut(solve) != usual
    for limit in ("MAX_WORK", "MAX_COUNTS"):
        with monkeypatch.context() as patch:
            patch.setattr(least_harm, limit, 0)
            assert cut(solve) == usual


def harm(product: Product, lost: list[str]) -> tuple[int, int]:
    days = {batch.reference: batch.day(on(TODAY)) for batch in product.batches}
    late = 0
    for promise in product.changed_promises.values():
        waits = promise.batchref is None
        each = NEVER if waits else late_days(promise.line, days[promise.batchref or ""])
        late += each * (promise.line.priority + 1)
    return len(lost), late


quantities = st.integers(1, 6)
days = st.none() | st.integers(0, 12).map(day)
orders = st.lists(st.tuples(quantities, days, st.integers(0, 2)), min_size=1, max_size=7)
rooms = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 15)), max_size=3)


@example(
    orders=[(1, None, 0), (1, None, 1), (3, None, 1), (1, None, 1), (1, TODAY, 0)], rooms=[(1, 2), (3, 1)], share=0.0
)
@given(orders=orders, rooms=rooms, share=st.floats(0, 0.95))
def test_a_cut_is_never_more_harmful_than_the_greedy_one(
    orders: list[tuple[int, date | None, int]], rooms: list[tuple[int, int]], share: float
) -> None:
    total = sum(qty for qty, *_ in orders)
    found = []
    for solver in (no_solver, solve):
        lines = [line(str(number), *each) for number, each in enumerate(orders)]
        batches = {"cut": (total, None)} | {f"b{n}": (room, day(due)) for n, (room, due) in enumerate(rooms)}
        sofas = shop(batches, lines)
        sofas.change_batch_quantity("cut", int(total * share), solver)
        found.append(harm(sofas, play(sofas)))
        assert all(batch.available_quantity >= 0 for batch in sofas.batches)
    greedy, least = found
    assert least <= greedy


@given(orders=orders, rooms=rooms, delay=st.integers(1, 20))
def test_a_delay_is_never_more_harmful_than_the_greedy_one(
    orders: list[tuple[int, date | None, int]], rooms: list[tuple[int, int]], delay: int
) -> None:
    total = sum(qty for qty, *_ in orders)
    found = []
    for solver in (no_solver, solve):
        lines = [line(str(number), *each) for number, each in enumerate(orders)]
        batches = {"slow": (total, day(1))} | {f"b{n}": (room, day(due)) for n, (room, due) in enumerate(rooms)}
        sofas = shop(batches, lines)
        sofas.change_batch_eta("slow", day(1 + delay), solver)
        lost, late = harm(sofas, play(sofas))
        found.append((late, lost))
    greedy, least = found
    assert least <= greedy

"""The rules of one product on plain objects, its events handled as the bus handles them."""

from __future__ import annotations

from datetime import date

import pytest

from allocation.domain.errors import BatchConflict, LineConflict
from allocation.domain.events import (
    Allocated,
    AllocationRequired,
    Backordered,
    Deallocated,
    Event,
    OutOfStock,
    PromiseChanged,
)
from allocation.domain.model import Batch, OrderLine, Product
from tests.builders import on

SKU = "RETRO-CLOCK"
TODAY, TOMORROW, LATER = date(2026, 1, 1), date(2026, 1, 2), date(2026, 2, 1)


def product(*batches: tuple[str, int] | tuple[str, int, date]) -> Product:
    made = Product(SKU, batches=[], today=on(TODAY))
    for batch in batches:
        add(made, *batch)
    made.events.clear()
    return made


def add(to: Product, ref: str, qty: int, eta: date | None = None) -> list[Event]:
    to.add_batch(Batch(ref, SKU, qty, eta))
    return play(to)


def order(of: Product, orderid: str, qty: int) -> str | None:
    ref = of.allocate(OrderLine(orderid, SKU, qty))
    play(of)
    return ref


def count(of: Product, ref: str, qty: int) -> list[Event]:
    of.change_batch_quantity(ref, qty)
    return play(of)


def play(of: Product) -> list[Event]:
    """All events, after the lines that they call were allocated."""
    raised: list[Event] = []
    while of.events:
        event = of.events.pop(0)
        raised.append(event)
        if isinstance(event, AllocationRequired):
            of.allocate(OrderLine(event.orderid, event.sku, event.qty, need_by=event.need_by, priority=event.priority))
    return raised


def available(of: Product) -> dict[str, int]:
    return {batch.reference: batch.available_quantity for batch in of.batches}


def standing(of: Product) -> dict[str, str | None]:
    return {orderid: promise.batchref for orderid, promise in of.changed_promises.items()}


def test_prefers_warehouse_batches_to_shipments() -> None:
    clocks = product(("shipment", 100, TODAY), ("in-stock", 100))
    assert order(clocks, "o1", 10) == "in-stock"
    assert available(clocks) == {"in-stock": 90, "shipment": 100}


def test_prefers_earlier_batches() -> None:
    clocks = product(("later", 100, LATER), ("today", 100, TODAY), ("tomorrow", 100, TOMORROW))
    assert order(clocks, "o1", 10) == "today"


@pytest.mark.parametrize("eta", [None, TODAY])
def test_among_equals_prefers_the_batch_created_first(eta: date | None) -> None:
    clocks = Product(SKU, batches=[])
    for ref in ("z-first", "a-second", "m-third"):
        add(clocks, ref, 10, eta)
    assert [order(clocks, f"o{number}", 10) for number in range(3)] == ["z-first", "a-second", "m-third"]


def test_skips_batches_that_have_too_little_room() -> None:
    clocks = product(("small", 5), ("shipment", 100, TODAY))
    assert order(clocks, "o1", 6) == "shipment"
    assert order(clocks, "o2", 5) == "small"


def test_a_line_goes_whole_into_one_batch() -> None:
    clocks = product(("one", 5), ("two", 5))
    assert order(clocks, "o1", 6) is None
    assert available(clocks) == {"one": 5, "two": 5}


def test_every_promise_is_a_fact() -> None:
    clocks = product(("b1", 10))
    clocks.allocate(OrderLine("o1", SKU, 10))
    clocks.allocate(OrderLine("o2", SKU, 1))
    assert clocks.events == [Allocated("o1", SKU, 10, "b1"), Backordered("o2", SKU, 1), OutOfStock(SKU)]


def test_the_same_line_again_gets_the_same_answer_whatever_room_is_left() -> None:
    clocks = product(("b1", 10))
    order(clocks, "o1", 10)
    version = clocks.version_number
    assert clocks.allocate(OrderLine("o1", SKU, 10)) == "b1"
    assert (clocks.events, clocks.version_number, available(clocks)) == ([], version, {"b1": 0})


def test_a_waiting_line_again_goes_on_waiting_and_nobody_is_told_twice() -> None:
    clocks = product(("b1", 10))
    order(clocks, "o1", 11)
    assert clocks.allocate(OrderLine("o1", SKU, 11)) is None
    assert (clocks.events, clocks.waiting_lines) == ([], 1)


@pytest.mark.parametrize("taken", [10, 11], ids=["allocated", "waiting"])
def test_a_line_with_another_quantity_is_refused_and_changes_nothing(taken: int) -> None:
    clocks = product(("b1", 10))
    order(clocks, "o1", taken)
    before = (clocks.version_number, available(clocks), standing(clocks))
    with pytest.raises(
        LineConflict, match=f"^Order o1 already has a line of RETRO-CLOCK with quantity {taken}, not 3$"
    ):
        clocks.allocate(OrderLine("o1", SKU, 3))
    assert (clocks.version_number, available(clocks), standing(clocks)) == before
    assert clocks.events == []


def test_the_same_batch_again_changes_nothing() -> None:
    clocks = product(("b1", 10, TODAY))
    count(clocks, "b1", 4)
    version = clocks.version_number
    assert add(clocks, "b1", 10, TODAY) == []
    assert (clocks.version_number, available(clocks)) == (version, {"b1": 4})


def test_a_different_batch_under_a_known_reference_is_refused() -> None:
    clocks = product(("b1", 10, TODAY))
    with pytest.raises(BatchConflict, match=r"^Batch b1 already exists: 10 of RETRO-CLOCK, due 2026-01-01$"):
        add(clocks, "b1", 11, TODAY)
    assert available(clocks) == {"b1": 10}


def test_a_smaller_count_frees_the_newest_lines_and_calls_them_oldest_first() -> None:
    clocks = product(("b1", 30))
    for number in range(1, 4):
        order(clocks, f"o{number}", 10)
    assert count(clocks, "b1", 12) == [
        Deallocated("o3", SKU, 10, "b1"),
        Deallocated("o2", SKU, 10, "b1"),
        AllocationRequired("o2", SKU, 10),
        AllocationRequired("o3", SKU, 10),
        Backordered("o2", SKU, 10),
        PromiseChanged("o2", SKU, 10, TODAY, None, 0),
        OutOfStock(SKU),
        Backordered("o3", SKU, 10),
        PromiseChanged("o3", SKU, 10, TODAY, None, 0),
        OutOfStock(SKU),
    ]
    assert (available(clocks), clocks.waiting_lines) == ({"b1": 2}, 2)


def test_freed_lines_move_to_other_batches_in_order_of_preference() -> None:
    clocks = product(("b1", 20), ("b2", 10, TODAY), ("b3", 10, TOMORROW))
    order(clocks, "o1", 10)
    order(clocks, "o2", 10)
    count(clocks, "b1", 0)
    assert standing(clocks) == {"o1": "b2", "o2": "b3"}


def test_a_line_keeps_its_age_wherever_it_moves() -> None:
    clocks = product(("b1", 10), ("b2", 20, TODAY))
    order(clocks, "oldest", 10)
    order(clocks, "middle", 5)
    count(clocks, "b1", 0)
    order(clocks, "newest", 5)
    assert standing(clocks) == {"oldest": "b2", "middle": "b2", "newest": "b2"}
    freed = [event.orderid for event in count(clocks, "b2", 10) if isinstance(event, Deallocated)]
    assert freed == ["newest", "middle"]


def test_room_that_a_large_line_leaves_goes_to_those_who_wait() -> None:
    clocks = product(("b1", 10))
    order(clocks, "large", 10)
    order(clocks, "small", 4)
    assert count(clocks, "b1", 9)[-1] == Allocated("small", SKU, 4, "b1")
    assert standing(clocks) == {"large": None, "small": "b1"}


def test_waiting_lines_are_served_oldest_first_skipping_those_that_do_not_fit() -> None:
    clocks = product(("b0", 1))
    for orderid, qty in [("o1", 8), ("o2", 20), ("o3", 3), ("o4", 2)]:
        order(clocks, orderid, qty)
    assert add(clocks, "b1", 12) == [
        AllocationRequired("o1", SKU, 8),
        AllocationRequired("o3", SKU, 3),
        Allocated("o1", SKU, 8, "b1"),
        Allocated("o3", SKU, 3, "b1"),
    ]
    assert (clocks.waiting_lines, available(clocks)) == (2, {"b0": 1, "b1": 1})


def test_a_larger_count_serves_those_who_wait() -> None:
    clocks = product(("b1", 10))
    order(clocks, "o1", 12)
    assert count(clocks, "b1", 12) == [AllocationRequired("o1", SKU, 12), Allocated("o1", SKU, 12, "b1")]
    assert clocks.waiting_lines == 0


def test_an_older_waiting_line_goes_before_a_younger_one_that_was_freed() -> None:
    clocks = product(("b1", 5))
    order(clocks, "waits", 6)
    order(clocks, "holds", 5)
    assert count(clocks, "b1", 20)[-1] == Allocated("waits", SKU, 6, "b1")
    count(clocks, "b1", 10)
    assert standing(clocks) == {"waits": "b1", "holds": None}


def test_the_same_count_again_changes_nothing() -> None:
    clocks = product(("b1", 10))
    version = clocks.version_number
    assert count(clocks, "b1", 10) == []
    assert clocks.version_number == version


def test_a_batch_the_product_does_not_have_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(LookupError, match="product RETRO-CLOCK has no batch b9"):
        product().change_batch_quantity("b9", 1)


def test_every_change_has_its_own_position() -> None:
    clocks = product(("b1", 10), ("b2", 10))
    order(clocks, "o1", 1)
    order(clocks, "o2", 100)
    batches = [batch.position for batch in clocks.batches]
    lines = [promise.line.position for promise in clocks.changed_promises.values()]
    assert [*batches, *lines] == [1, 2, 3, 4]

"""What the chapter expects of a batch: its lines are a set, so the same line counts once."""

from __future__ import annotations

from datetime import date

import pytest

from allocation.domain.model import Batch, OrderLine

DUE = date(2026, 3, 2)


def batch_and_line(available: int, wanted: int) -> tuple[Batch, OrderLine]:
    return Batch("shelf-1", "COSY-LAMP", available, eta=DUE), OrderLine("order-a", "COSY-LAMP", wanted)


def test_allocating_reduces_the_available_quantity() -> None:
    batch = Batch("shelf-1", "LOW-TABLE", qty=30, eta=DUE)
    batch.allocate(OrderLine("order-a", "LOW-TABLE", 4))
    assert batch.available_quantity == 26


@pytest.mark.parametrize(("available", "wanted", "fits"), [(30, 4, True), (4, 4, True), (4, 30, False)])
def test_a_line_can_be_allocated_if_as_much_is_available(available: int, wanted: int, fits: bool) -> None:
    batch, line = batch_and_line(available, wanted)
    assert batch.can_allocate(line) is fits


def test_a_line_of_another_sku_cannot_be_allocated() -> None:
    batch = Batch("shelf-1", "HARD-CHAIR", 100, eta=None)
    assert batch.can_allocate(OrderLine("order-a", "DEAR-TOASTER", 10)) is False


def test_the_same_line_again_changes_nothing() -> None:
    batch, line = batch_and_line(30, 4)
    batch.allocate(line)
    batch.allocate(line)
    batch.allocate(OrderLine("order-a", "COSY-LAMP", 4))
    assert batch.available_quantity == 26


def test_a_line_that_was_allocated_twice_is_freed_once() -> None:
    batch, line = batch_and_line(30, 4)
    batch.allocate(line)
    batch.allocate(line)
    assert batch.deallocate_one() == line
    assert batch.available_quantity == 30
    with pytest.raises(LookupError):
        batch.deallocate_one()


def test_only_lines_that_are_allocated_can_be_deallocated() -> None:
    batch, line = batch_and_line(30, 4)
    batch.deallocate(line)
    assert batch.available_quantity == 30
    batch.allocate(line)
    batch.deallocate(OrderLine("order-b", "COSY-LAMP", 4))
    assert batch.available_quantity == 26
    batch.deallocate(line)
    batch.deallocate(line)
    assert batch.available_quantity == 30


def test_a_line_that_was_deallocated_can_be_allocated_again() -> None:
    batch, line = batch_and_line(30, 4)
    batch.allocate(line)
    batch.deallocate(line)
    batch.allocate(line)
    assert batch.available_quantity == 26

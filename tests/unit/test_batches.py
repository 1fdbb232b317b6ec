from __future__ import annotations

from datetime import date

import pytest

from allocation.domain.errors import BatchConflict
from allocation.domain.model import Batch, OrderLine

SKU = "SMALL-TABLE"


def line(orderid: str, qty: int, position: int = 0) -> OrderLine:
    return OrderLine(orderid, SKU, qty, position)


def batch_with(qty: int, *lines: OrderLine) -> Batch:
    batch = Batch("batch-1", SKU, qty)
    for each in lines:
        batch.allocate(each)
    return batch


def test_allocating_takes_from_the_available_quantity() -> None:
    batch = batch_with(20, line("o1", 2))
    assert (batch.purchased_quantity, batch.allocated_quantity, batch.available_quantity) == (20, 2, 18)


@pytest.mark.parametrize(("available", "wanted", "fits"), [(20, 2, True), (2, 2, True), (2, 3, False), (0, 1, False)])
def test_a_line_fits_whole_or_not_at_all(available: int, wanted: int, fits: bool) -> None:
    assert batch_with(available).can_allocate(line("o1", wanted)) is fits


def test_a_line_of_another_sku_never_fits() -> None:
    assert not batch_with(20).can_allocate(OrderLine("o1", "LARGE-TABLE", 1))


def test_deallocate_one_frees_the_newest_line() -> None:
    batch = batch_with(20, line("second", 2, 2), line("third", 3, 3), line("first", 1, 1))
    assert [batch.deallocate_one().orderid for _ in range(3)] == ["third", "second", "first"]
    assert batch.available_quantity == 20


def test_the_lines_over_a_quantity_are_the_newest_and_no_more_than_needed() -> None:
    batch = batch_with(20, *[line(f"o{number}", 5, number) for number in range(1, 5)])
    assert [each.orderid for each in batch.lines_over(11)] == ["o4", "o3"]


def test_no_line_is_over_a_quantity_that_fits() -> None:
    assert batch_with(20, line("o1", 5, 1), line("o2", 5, 2)).lines_over(10) == []


def test_every_line_is_over_nothing() -> None:
    batch = batch_with(20, line("o1", 5, 1), line("o2", 5, 2))
    assert [each.orderid for each in batch.lines_over(0)] == ["o2", "o1"]
    assert batch.available_quantity == 10


def test_a_spared_line_is_over_only_if_there_is_no_other() -> None:
    batch = batch_with(20, line("o1", 5, 1), line("o2", 5, 2))
    spared = {"o2"}
    assert [each.orderid for each in batch.lines_over(5, lambda each: each.orderid in spared)] == ["o1"]
    assert [each.orderid for each in batch.lines_over(4, lambda each: each.orderid in spared)] == ["o1", "o2"]


def test_a_quantity_below_zero_is_refused_and_changes_nothing() -> None:
    batch = batch_with(20, line("o1", 5))
    with pytest.raises(ValueError, match="batch batch-1 cannot hold -1"):
        batch.count(-1)
    assert (batch.purchased_quantity, batch.allocated_quantity) == (20, 5)


def test_a_batch_that_counts_more_than_its_lines_says_so() -> None:
    batch = Batch("batch-1", SKU, 20, allocated_quantity=5)
    with pytest.raises(LookupError, match="batch-1 counts more allocated than it has lines for"):
        batch.lines_over(1)


def test_a_batch_is_recognised_after_it_was_recounted() -> None:
    batch = Batch("batch-1", SKU, 20, date(2026, 1, 31))
    batch.count(7)
    batch.check_is_same(Batch("batch-1", SKU, 20, date(2026, 1, 31)))


@pytest.mark.parametrize(
    "other",
    [
        Batch("batch-1", SKU, 21, date(2026, 1, 31)),
        Batch("batch-1", "LARGE-TABLE", 20, date(2026, 1, 31)),
        Batch("batch-1", SKU, 20, date(2026, 2, 1)),
        Batch("batch-1", SKU, 20),
    ],
    ids=["quantity", "sku", "eta", "warehouse"],
)
def test_a_different_batch_under_a_known_reference_is_refused(other: Batch) -> None:
    with pytest.raises(BatchConflict, match=r"^Batch batch-1 already exists: 20 of SMALL-TABLE, due 2026-01-31$"):
        Batch("batch-1", SKU, 20, date(2026, 1, 31)).check_is_same(other)


def test_a_batch_in_the_warehouse_is_refused_with_its_words() -> None:
    with pytest.raises(BatchConflict, match="20 of SMALL-TABLE, in the warehouse"):
        batch_with(20).check_is_same(Batch("batch-1", SKU, 20, date(2026, 1, 31)))

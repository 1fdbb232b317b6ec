"""Stock as the warehouse knows it, through the bus, on every kind of store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from allocation.adapters.long_reader import LongReader
from allocation.adapters.memory import MemoryTables
from allocation.domain.errors import (
    BatchClosed,
    BatchConflict,
    CountImpossible,
    CountOutdated,
    DeliveryArrived,
    FarDay,
    InvalidSku,
    RetiredProduct,
    UnknownDelivery,
)
from allocation.domain.events import (
    AllocationRequired,
    BatchCorrected,
    BatchCounted,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    DeliveryEtaChanged,
    DeliveryReceived,
    Event,
    LineReturned,
    LineShipped,
    ProductReinstated,
    ProductRetired,
    ReceiptUndone,
    StockAdjusted,
    StockTransferred,
)
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.store import BatchRow, LineRow
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import audit_all
from tests.bookkeeping import audited
from tests.builders import handle_together, message
from tests.contract.conftest import Place

SKU = "MILK"
NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
DUE = date(2026, 2, 1)
LATER = date(2026, 2, 9)


def at(hour: float) -> datetime:
    return NINE + timedelta(hours=hour - 9)


class Desk:
    """Sends messages at an hour of the day. Each call is a service that was started anew, so that nothing is warm."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def send(self, *events: Event, hour: float = 9) -> list[Any]:
        """The result of each message, or its refusal. They arrive together, as one group."""

        async def work() -> list[Outcome | Exception]:
            writer = Writer(self._place.store, clock=lambda: at(hour))
            writer.start()
            try:
                return await handle_together(writer, *map(message, events))
            finally:
                await writer.close()

        return [each.result if isinstance(each, Outcome) else each for each in self._place.runner.run(work())]

    def each(self, *events: Event, hour: float = 9) -> list[Any]:
        """The same, one after the other."""
        return [result for event in events for result in self.send(event, hour=hour)]

    def batch(self, ref: str) -> BatchRow:
        return next(row for row in self._place.load(refs={ref}).batches if row.ref == ref)

    def line(self, orderid: str) -> LineRow:
        [row] = self._place.load(lines={(orderid, SKU)}).lines
        return row

    def check(self) -> None:
        """The books agree with the rows."""
        where = self._place.where
        if isinstance(where, MemoryTables):
            assert audited(where).differences == []
        else:
            assert self._place.runner.run(LongReader(where).run(audit_all))[1] == []


@pytest.fixture
def desk(place: Place) -> Desk:
    return Desk(place)


def test_ten_of_fifty_arrive_and_later_the_rest(desk: Desk) -> None:
    desk.each(
        *(BatchCreated("po-1", SKU, 50, DUE), AllocationRequired("a", SKU, 8), AllocationRequired("b", SKU, 30)),
        BatchReceived("po-1", 10),
    )
    row = desk.batch("po-1")
    assert (row.eta, row.purchased_quantity, row.arrived_quantity, row.arrived_allocated) == (DUE, 50, 10, 8)
    assert (desk.line("a").arrived, desk.line("b").arrived) == (True, None)
    desk.check()
    desk.each(LineShipped("a", SKU), BatchReceived("po-1", 40), LineShipped("b", SKU))
    row = desk.batch("po-1")
    assert (row.eta, row.arrived_quantity, row.arrived_allocated, row.last_eta) == (None, None, None, DUE)
    assert (row.purchased_quantity, row.shipped_quantity) == (50, 38)
    desk.check()


def test_the_same_story_in_one_group(desk: Desk) -> None:
    desk.send(
        *(BatchCreated("po-1", SKU, 50, DUE), AllocationRequired("a", SKU, 8), AllocationRequired("b", SKU, 30)),
        *(BatchReceived("po-1", 10), LineShipped("a", SKU), ReceiptUndone("po-1", 2), BatchReceived("po-1", 42)),
    )
    row = desk.batch("po-1")
    assert (row.eta, row.arrived_quantity, row.purchased_quantity, row.shipped_quantity) == (None, None, 50, 8)
    desk.check()


def test_lines_that_were_served_and_undone_are_kept(desk: Desk) -> None:
    desk.each(
        *(BatchCreated("b1", SKU, 9, DUE), AllocationRequired("o1", SKU, 4), AllocationRequired("o2", SKU, 3)),
        *(BatchReceived("b1"), ReceiptUndone("b1", 4)),
    )
    assert (desk.batch("b1").arrived_quantity, desk.batch("b1").arrived_allocated) == (5, 4)
    assert (desk.line("o1").arrived, desk.line("o2").arrived) == (True, None)
    desk.check()
    desk.each(ReceiptUndone("b1"))
    assert (desk.batch("b1").arrived_quantity, desk.line("o1").arrived) == (None, None)
    desk.check()


# Counts as of a time


def moved_since(kind: str) -> tuple[Sequence[Event], int]:
    """Messages about a batch of ten of which four were shipped, and by how much they change the stock on hand."""
    ordered = AllocationRequired("o2", SKU, 2)
    kinds: dict[str, tuple[Sequence[Event], int]] = {
        "shipped": ([ordered, LineShipped("o2", SKU)], -2),
        "returned": ([LineReturned("o1", SKU, 3)], 3),
        "inspected": ([LineReturned("o1", SKU, 3, disposition="inspect")], 3),
        "scrapped": ([LineReturned("o1", SKU, 3, scrapped=True)], 0),
        "adjusted": ([StockAdjusted("b1", -1, "lost"), StockAdjusted("b1", 3, "found")], 2),
        "transferred": ([StockTransferred("b1", "LYON", 2)], -2),
        "received": ([BatchReceived("po-1", 5), BatchReceived("po-1", 3, quarantine="wet")], 0),
        "purchased": ([BatchQuantityChanged("b1", 12)], 2),
    }
    return kinds[kind]


KINDS = ["shipped", "returned", "inspected", "scrapped", "adjusted", "transferred", "received", "purchased"]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_count_reckons_with_what_came_or_left_since(desk: Desk, kind: str, together: bool) -> None:
    """At ten there were six on the shelf, as was known; the count is entered at twelve."""
    events, by = moved_since(kind)
    count = BatchCounted("b1", 6, counted_at=at(10))
    desk.each(
        *(BatchCreated("b1", SKU, 10), BatchCreated("po-1", SKU, 50, DUE), AllocationRequired("o1", SKU, 4)),
        LineShipped("o1", SKU),
    )
    if together:
        results = desk.send(*events, count, hour=12)
    else:
        desk.each(*events, hour=11)
        results = desk.send(count, hour=12)
    assert results[-1] == "b1"
    row = desk.batch("b1")
    assert row.purchased_quantity - row.shipped_quantity + row.inspect_quantity == 6 + by
    assert row.counted_at == at(10)
    desk.check()


@pytest.mark.parametrize("together", [False, True])
def test_a_count_differs_by_what_is_missing(desk: Desk, together: bool) -> None:
    desk.each(BatchCreated("b1", SKU, 50, DUE), BatchReceived("b1", 10), AllocationRequired("o1", SKU, 4))
    later = (BatchReceived("b1", 5), LineShipped("o1", SKU))
    count = BatchCounted("b1", 9, counted_at=at(10))
    if together:
        desk.send(*later, count, hour=11)
    else:
        desk.each(*later, hour=11)
        desk.send(count, hour=12)
    row = desk.batch("b1")
    assert (row.purchased_quantity, row.arrived_quantity, row.shipped_quantity) == (49, 14, 4), "one was missing at ten"
    desk.check()


def test_what_came_or_left_before_the_count_is_not_reckoned_with(desk: Desk) -> None:
    desk.each(BatchCreated("b1", SKU, 10), AllocationRequired("o1", SKU, 4), LineShipped("o1", SKU), hour=9)
    desk.each(StockAdjusted("b1", -1, "lost"), hour=9.5)
    desk.each(BatchCounted("b1", 5, counted_at=at(10)), hour=12)
    assert desk.batch("b1").purchased_quantity == 9
    desk.check()


@pytest.mark.parametrize("together", [False, True])
def test_a_batch_that_was_entered_after_the_count_was_there_all_the_same(desk: Desk, together: bool) -> None:
    created, count = BatchCreated("b1", SKU, 10), BatchCounted("b1", 9, counted_at=at(8))
    desk.send(BatchCreated("b0", SKU, 1), hour=7)
    if together:
        desk.send(created, count, hour=12)
    else:
        desk.each(created, count, hour=12)
    assert desk.batch("b1").purchased_quantity == 9
    desk.check()


def test_a_count_that_cannot_be_or_comes_after_a_later_one_is_refused(desk: Desk) -> None:
    desk.each(BatchCreated("b1", SKU, 10), AllocationRequired("o1", SKU, 4), hour=9)
    desk.each(LineShipped("o1", SKU), hour=11)
    refused, taken, outdated = desk.each(
        BatchCounted("b1", 3, counted_at=at(10)),
        BatchCounted("b1", 4, counted_at=at(10)),
        BatchCounted("b1", 4, counted_at=at(9.5)),
        hour=12,
    )
    assert isinstance(refused, CountImpossible)
    assert taken == "b1"
    assert isinstance(outdated, CountOutdated)
    row = desk.batch("b1")
    assert (row.purchased_quantity, row.shipped_quantity) == (4, 4)
    desk.check()


# Deliveries


def delivery() -> list[Event]:
    return [
        *(BatchCreated("b1", SKU, 9, DUE, delivery="po-1"), BatchCreated("b2", "BED", 9, DUE, delivery="po-1")),
        *(BatchCreated("b3", SKU, 9, DUE, delivery="po-2"), BatchCreated("b4", "RUG", 9, delivery="po-1")),
    ]


@pytest.mark.parametrize("together", [False, True])
def test_a_delivery_of_several_products_is_late_and_arrives(desk: Desk, together: bool) -> None:
    late, arrived = DeliveryEtaChanged("po-1", LATER), DeliveryReceived("po-1")
    results = desk.send(*delivery(), late) if together else [*desk.each(*delivery()), *desk.send(late)]
    assert results == ["b1", "b2", "b3", "b4", "po-1"]
    assert [desk.batch(ref).eta for ref in ("b1", "b2", "b3", "b4")] == [LATER, LATER, DUE, None]
    desk.check()
    again, none, unknown = desk.send(arrived, arrived, DeliveryReceived("po-9"))
    assert again == "po-1"
    assert isinstance(none, DeliveryArrived)
    assert isinstance(unknown, UnknownDelivery)
    assert [desk.batch(ref).eta for ref in ("b1", "b2", "b3", "b4")] == [None, None, DUE, None]
    desk.check()


def test_a_delivery_is_one_cascade_of_the_ledger(desk: Desk, place: Place) -> None:
    desk.each(*delivery(), AllocationRequired("o1", SKU, 4), DeliveryEtaChanged("po-1", LATER))
    told = [
        row[1:4:2] + row[4:5]
        for row in place.contents().ledger
        if row[3] in {"DeliveryEtaChanged", "BatchEtaChanged", "PromiseChanged"}
    ]
    assert told == [
        (0, "DeliveryEtaChanged", ""),
        (1, "BatchEtaChanged", "BED"),
        (2, "BatchEtaChanged", SKU),
        (3, "PromiseChanged", SKU),
    ]


def test_all_of_a_delivery_moves_or_nothing(desk: Desk) -> None:
    desk.each(*delivery())
    taken, refused, after = desk.send(
        AllocationRequired("o1", SKU, 1), DeliveryEtaChanged("po-1", date(2050, 1, 1)), AllocationRequired("o2", SKU, 1)
    )
    assert isinstance(refused, FarDay)
    assert (taken, after) == ("b1", "b1")
    assert [desk.batch(ref).eta for ref in ("b1", "b2")] == [DUE, DUE]
    desk.check()


# Transfers, corrections and retired products


@pytest.mark.parametrize("together", [False, True])
def test_a_part_becomes_a_batch_that_later_messages_can_name(desk: Desk, together: bool) -> None:
    story = (
        *(BatchCreated("b1", SKU, 9, location="OSLO"), StockTransferred("b1", "LYON", 4, eta=LATER)),
        *(AllocationRequired("o1", SKU, 5), AllocationRequired("o2", SKU, 4), BatchReceived("b1@LYON", 3)),
    )
    results = desk.send(*story) if together else desk.each(*story)
    assert results == ["b1", "b1@LYON", "b1", "b1@LYON", "b1@LYON"]
    row = desk.batch("b1@LYON")
    assert (row.location, row.eta, row.purchased_quantity, row.arrived_quantity) == ("LYON", LATER, 4, 3)
    desk.check()


@pytest.mark.parametrize("together", [False, True])
def test_the_reference_of_a_part_is_unique_over_all_products(desk: Desk, together: bool) -> None:
    story = (
        *(BatchCreated("b1", SKU, 9), BatchCreated("b2", "BED", 9), StockTransferred("b1", "LYON", 4, new_ref="b2")),
        *(StockTransferred("b1", "LYON", 4, new_ref="b3"), BatchCreated("b3", "BED", 4, location="LYON")),
        StockTransferred("b2", "LYON", 4, new_ref="b3"),
    )
    _, _, taken, moved, created, again = desk.send(*story) if together else desk.each(*story)
    assert moved == "b3"
    assert all(isinstance(each, BatchConflict) for each in (taken, created, again))
    assert desk.batch("b1").purchased_quantity == 5
    desk.check()


def test_a_corrected_batch_is_recognised_by_a_service_that_was_started_since(desk: Desk) -> None:
    first = BatchCreated("b1", SKU, 9, DUE, LATER)
    correction = BatchCorrected("b1", LATER, date(2026, 3, 1), "LYON", "po-1")
    as_it_is = BatchCreated("b1", SKU, 9, LATER, date(2026, 3, 1), "LYON", "po-1")
    assert desk.each(first, correction, first, as_it_is) == ["b1"] * 4
    assert isinstance(desk.send(BatchCreated("b1", SKU, 9, DUE))[0], BatchConflict)
    desk.check()


def test_a_batch_that_was_cut_to_nothing_is_closed(desk: Desk) -> None:
    *_, refused = desk.each(BatchCreated("b1", SKU, 9), BatchQuantityChanged("b1", 0), BatchCreated("b1", SKU, 9))
    assert isinstance(refused, BatchClosed)
    desk.check()


def test_a_retired_product_stays_retired_until_it_is_reinstated(desk: Desk) -> None:
    order = AllocationRequired("o1", SKU, 4)
    _, retired, refused, reinstated, taken = desk.each(
        BatchCreated("b1", SKU, 9), ProductRetired(SKU), order, ProductReinstated(SKU), order
    )
    assert (retired, reinstated, taken) == (SKU, SKU, "b1")
    assert isinstance(refused, RetiredProduct)
    desk.check()


def test_an_order_after_a_refused_first_batch_is_refused_in_the_same_group_too(desk: Desk) -> None:
    far, order = BatchCreated("b1", SKU, 9, date(2050, 1, 1)), AllocationRequired("o1", SKU, 4)
    results = desk.send(far, order)
    assert [type(each) for each in results] == [FarDay, InvalidSku]
    assert desk.send(BatchCreated("b1", SKU, 9, DUE), far, order)[::2] == ["b1", "b1"]
    desk.check()


def test_a_day_that_nobody_knows_is_kept(desk: Desk) -> None:
    desk.each(BatchCreated("b1", SKU, 9, eta_unknown=True), AllocationRequired("o1", SKU, 4), BatchReceived("b1", 4))
    row = desk.batch("b1")
    assert (row.eta, row.arrived_quantity, row.arrived_allocated) == (date.max, 4, 4)
    assert desk.each(BatchCreated("b1", SKU, 9, eta_unknown=True), LineShipped("o1", SKU)) == ["b1", "b1"]
    desk.check()

"""What a message leaves in the ledger: rows, the facts kept in them, and the effects still to come."""

from __future__ import annotations

from allocation.domain.events import (
    Allocated,
    AllocationRequired,
    Backordered,
    BatchQuantityChanged,
    Deallocated,
    Event,
    OutOfStock,
)
from allocation.service_layer.messages import Message
from allocation.service_layer.writing.ledger import Trail, fold, unfold
from allocation.service_layer.writing.store import DeliveryRow, MessageRow

ORDER = AllocationRequired("o1", "LAMP", 2)
# A count that frees two lines: one finds another batch, one waits.
CUT: Trail = [
    (BatchQuantityChanged("b1", 0), None),
    (Deallocated("o2", "LAMP", 3, "b1"), 0),
    (Deallocated("o1", "LAMP", 2, "b1"), 0),
    (AllocationRequired("o1", "LAMP", 2), 0),
    (AllocationRequired("o2", "LAMP", 3), 0),
    (Allocated("o1", "LAMP", 2, "b2"), 3),
    (Backordered("o2", "LAMP", 3), 4),
    (OutOfStock("LAMP"), 4),
]


def rows_of(trail: Trail, result: object = None) -> list[MessageRow]:
    return list(fold(Message(trail[0][0], "m1", "test"), result, trail, lambda _: "LAMP")[0])


def test_an_order_and_its_promise_are_one_row() -> None:
    (row,) = rows_of([(ORDER, None), (Allocated("o1", "LAMP", 2, "b1"), 0)], "b1")
    assert row == MessageRow(
        *("m1", 0, None, "AllocationRequired", "LAMP", "o1", '{"orderid":"o1","sku":"LAMP","qty":2}'),
        facts='[[1,"Allocated",{"orderid":"o1","sku":"LAMP","qty":2,"batchref":"b1"}]]',
        result='"b1"',
        actor="test",
    )


def test_what_tells_of_another_line_or_sets_something_off_has_a_row_of_its_own() -> None:
    rows = rows_of(CUT)
    assert [(row.step, row.causation_step, row.type, row.orderid) for row in rows] == [
        (0, None, "BatchQuantityChanged", None),
        (1, 0, "Deallocated", "o2"),
        (2, 0, "Deallocated", "o1"),
        (3, 0, "AllocationRequired", "o1"),
        (4, 0, "AllocationRequired", "o2"),
    ]


def test_nothing_is_lost_by_folding() -> None:
    told: dict[int, Event] = dict(entry for row in rows_of(CUT) for entry in unfold(row))
    assert [told[step] for step in range(len(CUT))] == [event for event, _ in CUT]


def test_a_row_without_facts_is_one_message() -> None:
    """So are all rows that were written before facts were kept with their causes."""
    (row,) = rows_of([(ORDER, None)])
    assert row.facts is None
    assert list(unfold(row)) == [(0, ORDER)]


def test_an_effect_has_all_it_needs_with_it() -> None:
    _, deliveries = fold(Message(ORDER, "m1", "test"), None, CUT, lambda _: "LAMP")
    assert deliveries == [
        DeliveryRow("m1", 7, "send_out_of_stock_notification", "LAMP", "OutOfStock", '{"sku":"LAMP"}')
    ]


def test_equal_events_of_a_cascade_are_one_delivery_of_a_declared_effect() -> None:
    """A webhook gets each of them: its messages have ids, by which a receiver tells them apart."""
    trail = [*CUT, (OutOfStock("LAMP"), 3), (OutOfStock("RUG"), 3)]
    effects: dict[type[Event], list[str]] = {OutOfStock: ["send_out_of_stock_notification", "webhook/w1"]}

    def sku_of(event: Event) -> str:
        return event.sku if isinstance(event, OutOfStock) else "LAMP"

    _, deliveries = fold(Message(ORDER, "m1", "test"), None, trail, sku_of, lambda kind: effects.get(kind, ()))
    assert [(row.step, row.effect, row.sku) for row in deliveries] == [
        (7, "send_out_of_stock_notification", "LAMP"),
        (7, "webhook/w1", "LAMP"),
        (8, "webhook/w1", "LAMP"),
        (9, "send_out_of_stock_notification", "RUG"),
        (9, "webhook/w1", "RUG"),
    ]

from __future__ import annotations

from typing import Any

import pytest

from allocation.domain import events
from allocation.service_layer import handlers, messagebus
from allocation.service_layer.messagebus import UndeclaredEvent
from tests.fakes import FakeUnitOfWork


class RecordingUnitOfWork(FakeUnitOfWork):
    """Remembers what the bus notes: each event and the step of its cause."""

    def __init__(self) -> None:
        super().__init__()
        self.trail: list[tuple[str, int | None]] = []

    def record(self, event: events.Event, cause: int | None) -> int:
        self.trail.append((type(event).__name__, cause))
        return len(self.trail) - 1


def test_events_are_handled_in_the_order_raised_and_know_their_direct_cause() -> None:
    uow = RecordingUnitOfWork()
    messagebus.handle(events.BatchCreated("b1", "RUG", 10), uow)
    messagebus.handle(events.AllocationRequired("o1", "RUG", 6), uow)
    uow.trail.clear()
    messagebus.handle(events.BatchQuantityChanged("b1", 5), uow)
    assert uow.trail == [
        ("BatchQuantityChanged", None),
        ("Deallocated", 0),
        ("AllocationRequired", 0),
        ("Backordered", 2),
        ("PromiseChanged", 2),
        ("OutOfStock", 2),
    ]


def test_an_event_that_is_not_declared_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    declared: Any = handlers.RAISES
    monkeypatch.setitem(declared, handlers.allocate, frozenset({events.Allocated}))
    uow = FakeUnitOfWork()
    messagebus.handle(events.BatchCreated("b1", "RUG", 10), uow)
    with pytest.raises(UndeclaredEvent, match=r"^allocate raised Backordered: declare it in handlers\.RAISES$"):
        messagebus.handle(events.AllocationRequired("o1", "RUG", 11), uow)


def test_events_are_collected_once_from_every_product_seen() -> None:
    uow = FakeUnitOfWork()
    messagebus.handle(events.BatchCreated("b1", "RUG", 10), uow)
    with uow:
        product = uow.products.get("RUG")
        assert product is not None
        product.events.append(events.OutOfStock("RUG"))
    assert list(uow.collect_new_events()) == [events.OutOfStock("RUG")]
    assert list(uow.collect_new_events()) == []
    assert product.events == []


def test_leaving_without_commit_rolls_back() -> None:
    class RollingUnitOfWork(FakeUnitOfWork):
        rolled_back = 0

        def rollback(self) -> None:
            self.rolled_back += 1

    uow = RollingUnitOfWork()

    def fail() -> None:
        with uow:
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        fail()
    assert uow.rolled_back == 1
    assert not uow.committed

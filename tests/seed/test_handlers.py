"""What the chapter expects of the handlers: through the bus, with doubles that know only what the chapter knows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pytest
import structlog

from allocation.adapters import email, repository
from allocation.config import Settings
from allocation.domain import events
from allocation.domain.model import Product
from allocation.service_layer import handlers, messagebus, unit_of_work
from allocation.service_layer.delivering.effects import bind
from tests.fakes import FakeStockTeam


class FakeRepository(repository.AbstractRepository):
    """The chapter's three methods, and nothing that came later."""

    def __init__(self, products: Iterable[Product]) -> None:
        super().__init__()
        self._products = list(products)

    def _add(self, product: Product) -> None:
        self._products.append(product)

    def _get(self, sku: str) -> Product | None:
        return next((product for product in self._products if product.sku == sku), None)

    def _get_by_batchref(self, batchref: str) -> Product | None:
        with_it = (p for p in self._products if batchref in [batch.reference for batch in p.batches])
        return next(with_it, None)


class FakeUnitOfWork(unit_of_work.AbstractUnitOfWork):
    """Products and `committed`, and nothing that came later."""

    def __init__(self) -> None:
        self.products = FakeRepository([])
        self.committed = False

    def _commit(self) -> None:
        self.committed = True

    def rollback(self) -> None:
        """Nothing to take back."""


class UnitOfWorkWithALedger(FakeUnitOfWork):
    """Notes what the bus handles, as the service's does."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: list[events.Event] = []

    def record(self, event: events.Event, cause: int | None) -> int:
        self.ledger.append(event)
        return len(self.ledger) - 1


def played(*history: events.Event) -> FakeUnitOfWork:
    uow = FakeUnitOfWork()
    for event in history:
        messagebus.handle(event, uow)
    uow.committed = False
    return uow


def available(uow: FakeUnitOfWork, sku: str) -> dict[str, int]:
    product = uow.products.get(sku)
    assert product is not None
    return {batch.reference: batch.available_quantity for batch in product.batches}


def test_the_port_is_one_wherever_it_is_imported_from() -> None:
    assert repository.AbstractRepository is unit_of_work.AbstractRepository


def test_a_repository_that_keeps_no_holds_knows_none() -> None:
    uow = played(events.BatchCreated("shelf-1", "SOLEMN-MIRROR", 40, None))
    assert uow.products.get_by_holdid("cart-1") is None
    assert uow.products.seen == set()


class TestAddBatch:
    def test_the_first_batch_makes_the_product(self) -> None:
        uow = FakeUnitOfWork()
        messagebus.handle(events.BatchCreated("shelf-1", "WOBBLY-STOOL", 40, None), uow)
        assert available(uow, "WOBBLY-STOOL") == {"shelf-1": 40}
        assert uow.committed

    def test_another_batch_joins_the_product(self) -> None:
        uow = played(events.BatchCreated("shelf-1", "STRIPED-MAT", 40, None))
        messagebus.handle(events.BatchCreated("shelf-2", "STRIPED-MAT", 39, None), uow)
        assert available(uow, "STRIPED-MAT") == {"shelf-1": 40, "shelf-2": 39}


class TestAllocate:
    def test_the_first_result_is_the_reference_of_the_batch(self) -> None:
        uow = played(events.BatchCreated("shelf-1", "FANCY-LANTERN", 40, None))
        results = messagebus.handle(events.AllocationRequired("order-a", "FANCY-LANTERN", 15), uow)
        assert results.pop(0) == "shelf-1"

    def test_an_unknown_sku_is_an_error_that_the_handlers_name(self) -> None:
        uow = played(events.BatchCreated("shelf-1", "REAL-THING", 40, None))
        with pytest.raises(handlers.InvalidSku, match="Invalid sku NO-SUCH-THING"):  # type: ignore[attr-defined]
            messagebus.handle(events.AllocationRequired("order-a", "NO-SUCH-THING", 15), uow)
        assert not uow.committed

    def test_commits(self) -> None:
        uow = played(events.BatchCreated("shelf-1", "SOLEMN-MIRROR", 40, None))
        messagebus.handle(events.AllocationRequired("order-a", "SOLEMN-MIRROR", 15), uow)
        assert uow.committed

    def test_out_of_stock_is_mailed_to_the_stock_team(self) -> None:
        """The bus leaves the mail to what runs after the commit, from the ledger. Here the mail is logged."""
        uow = UnitOfWorkWithALedger()
        messagebus.handle(events.BatchCreated("shelf-1", "RARE-DRAPES", 14, None), uow)
        messagebus.handle(events.AllocationRequired("order-a", "RARE-DRAPES", 15), uow)
        effects = bind(handlers.EFFECTS, notifications=email.notifications(Settings()), stock_team=FakeStockTeam())
        with structlog.testing.capture_logs() as log:
            for event in uow.ledger:
                for effect in handlers.EFFECTS.get(type(event), []):
                    effects[effect.__name__](event)
        assert [(mail["to"], mail["subject"]) for mail in log] == [
            ("stock@example.com", "Out of stock for RARE-DRAPES")
        ]


class TestChangeBatchQuantity:
    def test_a_larger_batch_has_more_available(self) -> None:
        uow = played(events.BatchCreated("shelf-1", "CHARMING-BENCH", 40, None))
        messagebus.handle(events.BatchQuantityChanged("shelf-1", 55), uow)
        assert available(uow, "CHARMING-BENCH") == {"shelf-1": 55}
        assert uow.committed

    def test_lines_that_no_longer_fit_are_allocated_to_another_batch(self) -> None:
        uow = played(
            events.BatchCreated("shelf-1", "NEUTRAL-DESK", 40, None),
            events.BatchCreated("at-sea", "NEUTRAL-DESK", 40, date(2026, 3, 2)),
            events.AllocationRequired("order-a", "NEUTRAL-DESK", 18),
            events.AllocationRequired("order-b", "NEUTRAL-DESK", 18),
        )
        assert available(uow, "NEUTRAL-DESK") == {"shelf-1": 4, "at-sea": 40}
        messagebus.handle(events.BatchQuantityChanged("shelf-1", 21), uow)
        assert available(uow, "NEUTRAL-DESK") == {"shelf-1": 3, "at-sea": 22}

"""Doubles that behave: a unit of work on plain objects, as the seed's tests use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

from allocation.domain.lines import Today
from allocation.domain.model import Product, Promise
from allocation.service_layer.handlers import Mail
from allocation.service_layer.unit_of_work import AbstractRepository, AbstractUnitOfWork


class FakeRepository(AbstractRepository):
    def __init__(self, products: Iterable[Product]) -> None:
        super().__init__()
        self._products = set(products)

    def _add(self, product: Product) -> None:
        product.today = Today(date(2026, 1, 1), date(2026, 1, 2))
        self._products.add(product)

    def _get(self, sku: str) -> Product | None:
        return next((product for product in self.all() if product.sku == sku), None)

    def _get_by_batchref(self, batchref: str) -> Product | None:
        return next((product for product in self._products if product.batch(batchref) is not None), None)

    def _get_by_holdid(self, holdid: str) -> Product | None:
        return next((product for product in self._products if _is_hold(product.promise(holdid))), None)

    def batches_of(self, delivery: str) -> Sequence[tuple[Product, str]]:
        found = [(product, batch) for product in self.all() for batch in product.batches if batch.delivery == delivery]
        self.seen.update(product for product, _ in found)
        return sorted(((product, batch.reference) for product, batch in found), key=lambda each: (each[0].sku, each[1]))

    def all(self) -> Iterable[Product]:
        """Except those whose first batch was refused."""
        return [product for product in self._products if product.version_number]


def _is_hold(promise: Promise | None) -> bool:
    return promise is not None and promise.line.expires_at is not None


class FakeUnitOfWork(AbstractUnitOfWork):
    products: FakeRepository

    def __init__(self) -> None:
        self.products = FakeRepository([])
        self.committed = False
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def _commit(self) -> None:
        self.committed = True

    def rollback(self) -> None:
        """Plain objects have nothing to go back to; `committed` tells."""


class FakeStockTeam:
    """Informed by a mail without details."""

    def mail(self, sku: str, message_id: str) -> Mail:
        return Mail("stock@example.com", f"Out of stock for {sku}", "", message_id)

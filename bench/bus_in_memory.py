"""`python -m bench.bus_in_memory SKUS`: prints the microseconds that one allocation takes."""

import sys
import time

from allocation.domain.events import AllocationRequired
from allocation.domain.model import Batch, Product
from allocation.service_layer import messagebus
from allocation.service_layer.unit_of_work import AbstractRepository, AbstractUnitOfWork
from bench.books import BooksDoNotBalance
from bench.plan import BATCHES_PER_SKU, ROOM_PER_BATCH

MESSAGES = 100_000


class InMemoryProducts(AbstractRepository):
    def __init__(self) -> None:
        super().__init__()
        self.by_sku: dict[str, Product] = {}

    def _add(self, product: Product) -> None:
        self.by_sku[product.sku] = product

    def _get(self, sku: str) -> Product | None:
        return self.by_sku.get(sku)

    def _get_by_batchref(self, batchref: str) -> Product | None:
        return next((each for each in self.by_sku.values() if each.batch(batchref)), None)

    def _get_by_holdid(self, holdid: str) -> Product | None:
        return next((each for each in self.by_sku.values() if each.promise(holdid)), None)


class InMemoryUnitOfWork(AbstractUnitOfWork):
    def __init__(self) -> None:
        self.products: InMemoryProducts = InMemoryProducts()

    def _commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass


def microseconds_per_message(skus: int) -> float:
    uow = InMemoryUnitOfWork()
    for item in range(skus):
        _add_stock(uow, f"SKU-{item}")
    messages = [AllocationRequired(f"order-{number}", f"SKU-{number % skus}", 1) for number in range(MESSAGES)]
    started = time.perf_counter()
    for message in messages:
        messagebus.handle(message, uow)
    seconds = time.perf_counter() - started
    _check_books(uow)
    return seconds / MESSAGES * 1e6


def _add_stock(uow: InMemoryUnitOfWork, sku: str) -> None:
    product = Product(sku, batches=[])
    for number in range(BATCHES_PER_SKU):
        product.add_batch(Batch(f"{sku}-{number}", sku, ROOM_PER_BATCH))
    uow.products.add(product)


def _check_books(uow: InMemoryUnitOfWork) -> None:
    products = uow.products.by_sku.values()
    held = sum(batch.allocated_quantity for each in products for batch in each.batches)
    if held != MESSAGES:
        raise BooksDoNotBalance(f"{MESSAGES} orders were handled, batches hold {held}")


if __name__ == "__main__":
    print(microseconds_per_message(int(sys.argv[1])))

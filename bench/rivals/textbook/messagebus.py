"""Unit of work, handlers and the loop; every event is a transaction of its own."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from bench.rivals.textbook.model import (
    AllocationRequired,
    Batch,
    BatchQuantityChanged,
    Event,
    InvalidSku,
    OrderLine,
    OutOfStock,
    Product,
)


class UnitOfWork:
    """A session per `with` block; collects the events of the products it has seen."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: list[Product] = []

    def __enter__(self) -> Self:
        self.session = Session(self._engine)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.session.rollback()
        self.session.close()

    def commit(self) -> None:
        self.session.commit()

    def product(self, sku: str) -> Product | None:
        return self._saw(self.session.get(Product, sku))

    def product_of_batch(self, ref: str) -> Product | None:
        batch = self.session.query(Batch).filter_by(reference=ref).one_or_none()
        return None if batch is None else self.product(batch.sku)

    def collect_new_events(self) -> Iterator[Event]:
        for product in self._seen:
            while product.events:
                yield product.events.pop(0)
        self._seen.clear()

    def _saw(self, product: Product | None) -> Product | None:
        if product is not None:
            self._seen.append(product)
        return product


def handle(event: Event, uow: UnitOfWork) -> list[Any]:
    results = []
    queue: list[Event] = [event]
    while queue:
        event = queue.pop(0)
        for handler in HANDLERS[type(event)]:
            results.append(handler(event, uow))
            queue.extend(uow.collect_new_events())
    return results


def allocate(event: AllocationRequired, uow: UnitOfWork) -> str | None:
    with uow:
        product = uow.product(event.sku)
        if product is None:
            raise InvalidSku(f"Invalid sku {event.sku}")
        ref = product.allocate(OrderLine(event.orderid, event.sku, event.qty))
        uow.commit()
    return ref


def change_batch_quantity(event: BatchQuantityChanged, uow: UnitOfWork) -> None:
    with uow:
        product = uow.product_of_batch(event.ref)
        if product is None:
            raise LookupError(f"Unknown batch {event.ref}")
        product.change_batch_quantity(event.ref, event.qty)
        uow.commit()


def send_out_of_stock_notification(_event: OutOfStock, _uow: UnitOfWork) -> None:
    """Sends nothing: mail is no part of any contender's measurement."""


HANDLERS: dict[type[Event], list[Callable[..., Any]]] = {
    AllocationRequired: [allocate],
    BatchQuantityChanged: [change_batch_quantity],
    OutOfStock: [send_out_of_stock_notification],
}

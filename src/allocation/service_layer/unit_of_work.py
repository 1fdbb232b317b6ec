"""The unit of work of the seed: the context of a handler, and the bus's source of new events."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from types import TracebackType
from typing import Self

from allocation.domain.events import Event
from allocation.domain.harm import Solver, no_solver
from allocation.domain.model import Product


class AbstractRepository(abc.ABC):
    """Products by SKU or batch reference. It remembers all products seen, so that their events can be collected."""

    def __init__(self) -> None:
        self.seen: set[Product] = set()

    def add(self, product: Product) -> None:
        self._add(product)
        self.seen.add(product)

    def get(self, sku: str) -> Product | None:
        """The product, or None if no batch of it was ever bought."""
        return self._saw(self._get(sku))

    def get_by_batchref(self, batchref: str) -> Product | None:
        """The product that has the batch, or None if no batch has this reference."""
        return self._saw(self._get_by_batchref(batchref))

    def get_by_holdid(self, holdid: str) -> Product | None:
        """The product of the hold with this id, ended holds included, or None if there never was such a hold."""
        return self._saw(self._get_by_holdid(holdid))

    def batches_of(self, delivery: str) -> Sequence[tuple[Product, str]]:
        """The batches that come with a delivery: the product and the reference of each, by SKU."""
        return ()

    def moved(self, sku: str, ref: str, since: datetime) -> int:
        """By how much the stock on hand of a batch changed since that time, as far as it is stored."""
        return 0

    def _saw(self, product: Product | None) -> Product | None:
        if product is not None:
            self.seen.add(product)
        return product

    @abc.abstractmethod
    def _add(self, product: Product) -> None: ...

    @abc.abstractmethod
    def _get(self, sku: str) -> Product | None: ...

    @abc.abstractmethod
    def _get_by_batchref(self, batchref: str) -> Product | None: ...

    def _get_by_holdid(self, holdid: str) -> Product | None:
        """None, as for an unknown hold. A repository whose products may have holds overrides this."""
        return None


class AbstractUnitOfWork(abc.ABC):
    """All of a handler's changes or none: `commit` accepts them, and leaving without it rolls them back.

    ``now`` is the recorded time of all changes. ``solve`` finds the least harmful reallocation, for products with that
    rule.
    """

    products: AbstractRepository
    now: datetime
    solve: Solver = staticmethod(no_solver)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.rollback()

    def commit(self) -> None:
        self._commit()

    def collect_new_events(self) -> Iterator[Event]:
        """Yield the events of every product seen since the last call, by SKU, each once, in the order raised."""
        products = [*self.products.seen]
        if products[1:]:  # as few messages have; this is called twice a message, so the usual way calls nothing
            products.sort(key=attrgetter("sku"))
            self._record_given_of(products)
        for product in products:
            if product.given:
                given, product.given = product.given, []
                self.record_given(given)
            raised, product.events = product.events, []
            yield from raised
        self.products.seen.clear()

    def _record_given_of(self, products: Iterable[Product]) -> None:
        """Record the facts of all of them before any event is handled, since they have one cause."""
        given: list[Event] = []
        for product in products:
            given += product.given
            product.given = []
        if given:
            self.record_given(given)

    def record(self, event: Event, cause: int | None) -> int:
        """Record that the bus handles ``event``, raised by the message of step ``cause``; return its own step."""
        return 0

    def record_given(self, facts: Iterable[Event]) -> None:  # noqa: B027 - without a ledger there is nothing to note
        """Record facts of types that senders can send too: here a rule raised them, and they have been applied."""

    @abc.abstractmethod
    def _commit(self) -> None: ...

    @abc.abstractmethod
    def rollback(self) -> None:
        """Discard uncommitted changes."""

"""The products of a group: from memory, where the group before left them, or loaded in part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from allocation.domain.batches import Batch
from allocation.domain.events import BatchCreated, StockHeld, StockTransferred
from allocation.domain.lines import Fit, Miscount, OrderLine, Promise, Today
from allocation.domain.model import Product
from allocation.domain.rules import Rules
from allocation.domain.standing import transferred_as
from allocation.service_layer.unit_of_work import AbstractRepository
from allocation.service_layer.writing.movements import moved_since
from allocation.service_layer.writing.rows import (
    batch_of,
    line_of,
    promise_of,
    row_of_batch,
    row_of_line,
    rules_of,
    text_of,
)
from allocation.service_layer.writing.store import (
    BatchRow,
    Changes,
    Loaded,
    MessageRow,
    ProductRow,
    ProductVersion,
    Session,
    Wanted,
)


class LookedUp:
    """The data that a group loaded beside its products, and the session to load more."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.promises: dict[tuple[str, str], Promise | None] = {}  # by order and SKU; None: it was never taken
        self.sku_of: dict[str, str | None] = {}  # by batch; None: there is none
        self.sku_of_hold: dict[str, str | None] = {}  # by hold; the same


class StoredRecords:
    """The records of one product: rows fetched ahead, otherwise a look-up in the session."""

    def __init__(self, sku: str, looked_up: LookedUp) -> None:
        self._sku = sku
        self.looked_up = looked_up  # by the group that has the product now

    def promise(self, orderid: str) -> Promise | None:
        promises, key = self.looked_up.promises, (orderid, self._sku)
        if key not in promises:
            row = self.looked_up.session.line(self._sku, orderid)
            promises[key] = promise_of(row) if row else None
        return promises[key]

    def batch(self, ref: str) -> Batch | None:
        if self.looked_up.sku_of.get(ref, self._sku) != self._sku:
            return None
        row = self.looked_up.session.batch(self._sku, ref)
        return batch_of(row, self) if row else None

    def priorities(self, ref: str | None) -> Sequence[int]:
        return self.looked_up.session.priorities(self._sku, ref)

    def newest_lines(self, ref: str, priority: int, before: int) -> Sequence[OrderLine]:
        return [line_of(row) for row in self.looked_up.session.newest_lines(self._sku, ref, before, priority)]

    def any_waiting(self, fits: Sequence[Fit]) -> bool:
        return self.looked_up.session.any_waiting(self._sku, fits)

    def waiting_lines(self, priority: int, after: int, fits: Sequence[Fit]) -> Sequence[OrderLine]:
        return [line_of(row) for row in self.looked_up.session.waiting_lines(self._sku, after, fits, priority)]

    def late_lines(
        self, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[Promise]:
        session = self.looked_up.session
        return [promise_of(row) for row in session.late_lines(self._sku, today, fits, rewritten, after)]

    def miscounts(self) -> Sequence[Miscount]:
        return self.looked_up.session.miscounts(self._sku)


class WarmProduct(NamedTuple):
    """A product that a group leaves in memory for the next, and its records."""

    product: Product
    records: StoredRecords


NOTHING_WARM: Final[Mapping[str, WarmProduct]] = {}


class StoredProducts(AbstractRepository):
    """The products of one group. Each is there from a group before, or is loaded once, in part."""

    def __init__(self, session: Session, today: Today, usual_rules: Rules, kept: Mapping[str, WarmProduct]) -> None:
        super().__init__()
        self._looked_up = LookedUp(session)
        self._today = today
        self._usual_rules = usual_rules
        self._products: dict[str, Product | None] = {}
        self._stored: dict[str, WarmProduct] = {}  # products that storage knows
        self._loaded_versions: dict[str, int] = {}
        self._accepted_versions: dict[str, int] = {}
        self._used: set[str] = set()  # SKUs of accepted messages, with or without a change
        for each in kept.values():
            each.records.looked_up = self._looked_up
            self._put(each)

    def load(self, wanted: Wanted) -> Sequence[MessageRow]:
        """Fetch all wanted data at once; return the messages found."""
        looked_up = self._looked_up
        found = looked_up.session.load(wanted)
        batches: dict[str, list[BatchRow]] = defaultdict(list)
        for batch in found.batches:
            batches[batch.sku].append(batch)
        looked_up.promises |= dict.fromkeys(wanted.lines)
        for line in found.lines:
            looked_up.promises[line.orderid, line.sku] = promise_of(line)
        self._learn_skus(found, wanted)
        for sku in wanted.skus:
            self._products.setdefault(sku, None)
        for product in found.products:
            if self._products.get(product.sku) is None:
                self._put(_loaded(product, batches[product.sku], self._usual_rules, looked_up))
        return found.messages

    def sku_of(self, ref: str) -> str | None:
        """The SKU that batch ``ref`` is of."""
        if ref not in self._looked_up.sku_of:
            self.load(Wanted(refs={ref}))
        return self._looked_up.sku_of[ref]

    def sku_of_hold(self, holdid: str) -> str | None:
        """The SKU that stock is held of under this id."""
        if holdid not in self._looked_up.sku_of_hold:
            self.load(Wanted(holdids={holdid}))
        return self._looked_up.sku_of_hold[holdid]

    def version_of(self, sku: str) -> int:
        """The product's version now; 0 while there is none."""
        product = self._get(sku)
        return product.version_number if product is not None else 0

    @property
    def loaded_versions(self) -> Mapping[str, int]:
        """The version of each product when it was loaded; 0 if storage does not know it."""
        return self._loaded_versions

    def batches_of(self, delivery: str) -> Sequence[tuple[Product, str]]:
        stored = self._looked_up.session.delivered(delivery)
        missing = {ref for sku, ref in stored if sku not in self._products}
        if missing:
            self.load(Wanted(refs=missing))
        self._looked_up.sku_of |= {ref: sku for sku, ref in stored}
        known = dict.fromkeys(stored)
        for sku, product in self._products.items():  # a message of the group may have named the delivery
            known |= {(sku, ref): None for ref in (product.changed_batches if product is not None else ())}
        products = ((self.get(sku), ref) for sku, ref in sorted(known))
        return [
            (product, ref) for product, ref in products if product is not None and _comes_with(product, ref, delivery)
        ]

    def moved(self, sku: str, ref: str, since: datetime) -> int:
        return moved_since(self._looked_up.session, sku, ref, since)

    def learn(self, event: BatchCreated | StockHeld | StockTransferred) -> None:
        """A message of the group created a batch or a hold: it is of this SKU."""
        if isinstance(event, BatchCreated):
            self._looked_up.sku_of[event.ref] = event.sku
        elif isinstance(event, StockTransferred):
            if event.qty is not None:
                self._looked_up.sku_of[transferred_as(event)] = self.sku_of(event.ref)
        else:
            self._looked_up.sku_of_hold[event.holdid] = event.sku

    def _learn_skus(self, found: Loaded, wanted: Wanted) -> None:
        looked_up = self._looked_up
        looked_up.sku_of |= {batch.ref: batch.sku for batch in found.batches}
        for ref in wanted.refs:
            looked_up.sku_of.setdefault(ref, None)
        if wanted.holdids:
            looked_up.sku_of_hold |= {line.orderid: line.sku for line in found.lines if line.expires_at is not None}
            for holdid in wanted.holdids:
                looked_up.sku_of_hold.setdefault(holdid, None)

    @property
    def skus(self) -> Iterable[str]:
        """Of all products asked for."""
        return self._products

    def write_to(self, changes: Changes) -> None:
        """Add the rows that differ from storage, by SKU. Rows with a position above the loaded version are new.

        A product that a message did not change is added with its version. Otherwise another process could change it
        meanwhile, and the ledger would have the two messages in the wrong order.
        """
        for sku, product in sorted(self._products.items()):
            if product is None or sku not in self._used:
                continue
            product.check_told()
            loaded = self._loaded_versions.get(sku, 0)
            numbers = (sku, product.version_number, product.waiting_lines)
            rules = None if product.rules is self._usual_rules else text_of(product.rules)  # which few products have
            life = (rules, product.retired or None)
            if loaded:
                changes.products.append(ProductVersion(*numbers, loaded, *life))
            else:
                changes.new_products.append(ProductRow(*numbers, *life))
            for batch in product.changed_batches.values():
                _batches_for(batch, loaded, changes).append(row_of_batch(batch))
            for promise in product.changed_promises.values():
                rows = changes.new_lines if promise.line.position > loaded else changes.lines
                rows.append(row_of_line(promise))

    def leave(self) -> Sequence[WarmProduct]:
        """The products for the next group, without their changes, which are storage's now.

        Products that the group created are not included. After this call the group cannot load more.
        """
        self._looked_up.promises = {}
        self._looked_up.sku_of = {}
        self._looked_up.sku_of_hold = {}
        return [kept for kept in self._stored.values() if kept.product.leave_changes()]

    def accept(self) -> None:
        """Keep the present state of the products seen so far."""
        for product in self.seen:
            self._accepted_versions[product.sku] = product.version_number
            self._used.add(product.sku)

    def all_accepted(self) -> bool:
        """Whether every product seen is as it was last accepted."""
        for product in self.seen:  # noqa: SIM110 - called twice a message; a generator costs as much as all the rest
            if product.version_number != self._accepted_versions.get(product.sku, 0):
                return False
        return True

    def _put(self, kept: WarmProduct) -> None:
        product = kept.product
        product.today = self._today
        self._stored[product.sku] = kept
        self._products[product.sku] = product
        self._loaded_versions[product.sku] = self._accepted_versions[product.sku] = product.version_number

    def _add(self, product: Product) -> None:
        product.begin(self._usual_rules, self._today)
        self._products[product.sku] = product
        self._loaded_versions[product.sku] = 0

    def _get(self, sku: str) -> Product | None:
        if sku not in self._products:
            self.load(Wanted(skus={sku}))
        product = self._products[sku]
        return product if product is not None and product.version_number else None  # its first batch was refused

    def _get_by_batchref(self, batchref: str) -> Product | None:
        sku = self.sku_of(batchref)
        return None if sku is None else self._get(sku)

    def _get_by_holdid(self, holdid: str) -> Product | None:
        sku = self.sku_of_hold(holdid)
        return None if sku is None else self._get(sku)


def _loaded(row: ProductRow, batches: Iterable[BatchRow], usual_rules: Rules, looked_up: LookedUp) -> WarmProduct:
    records = StoredRecords(row.sku, looked_up)
    product = Product(
        row.sku,
        [batch_of(batch, records) for batch in batches],
        row.version_number,
        waiting_lines=row.waiting_lines,
        rules=usual_rules if row.rules is None else rules_of(row.rules),
        usual_rules=usual_rules,
        retired=bool(row.retired),
        records=records,
    )
    return WarmProduct(product, records)


def _comes_with(product: Product, ref: str, delivery: str) -> bool:
    batch = product.batch(ref)
    return batch is not None and batch.delivery == delivery


def _batches_for(batch: Batch, loaded: int, changes: Changes) -> list[BatchRow]:
    if batch.position > loaded:
        return changes.new_batches
    return changes.rewritten_batches if batch.is_rewritten else changes.batches

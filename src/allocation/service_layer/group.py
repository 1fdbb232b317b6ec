"""A group of messages handled in one transaction: its unit of work, its products, and the rows it leaves.

Inside a group ``commit`` accepts a handler's changes; the writer makes them durable with everybody else's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

import msgspec

from allocation.domain.errors import IdempotencyKeyReused
from allocation.domain.events import BatchCreated, Event
from allocation.domain.model import Batch, Miscount, OrderLine, Product, Promise
from allocation.service_layer import messagebus
from allocation.service_layer.ledger import EffectsOf, declared_effects, fold, unfold
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.store import (
    BatchRow,
    Changes,
    LineRow,
    MessageRow,
    ProductRow,
    ProductVersion,
    Session,
    Wanted,
)
from allocation.service_layer.unit_of_work import AbstractRepository, AbstractUnitOfWork


class SpoiledGroup(Exception):
    """A message left changes behind that it must not: what the group has in memory cannot be trusted any more."""


class StoredRecords:
    """What storage knows of one product: rows that were fetched ahead, otherwise a look-up in the session."""

    def __init__(
        self, session: Session, sku: str, known: dict[str, Promise | None], sku_of: Mapping[str, str | None]
    ) -> None:
        self._session = session
        self._sku = sku
        self._known = known
        self._sku_of = sku_of  # of the batches looked up so far; None: there is none

    def promise(self, orderid: str) -> Promise | None:
        if orderid not in self._known:
            row = self._session.line(self._sku, orderid)
            self._known[orderid] = Promise(_line(row), row.batchref) if row else None
        return self._known[orderid]

    def batch(self, ref: str) -> Batch | None:
        if self._sku_of.get(ref, self._sku) != self._sku:
            return None
        row = self._session.batch(self._sku, ref)
        return _batch(row, self) if row else None

    def newest_lines(self, ref: str, before: int) -> Sequence[OrderLine]:
        return [_line(row) for row in self._session.newest_lines(self._sku, ref, before)]

    def waiting_lines(self, after: int, max_qty: int) -> Sequence[OrderLine]:
        return [_line(row) for row in self._session.waiting_lines(self._sku, after, max_qty)]

    def miscounts(self) -> Sequence[Miscount]:
        return self._session.miscounts(self._sku)


class StoredProducts(AbstractRepository):
    """The products of one transaction. Each is loaded once, in part, and locked."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._products: dict[str, Product | None] = {}
        self._loaded_versions: dict[str, int] = {}
        self._accepted_versions: dict[str, int] = {}
        self._used: set[str] = set()  # SKUs of which a message was accepted, whether it changed anything or not
        self._sku_of: dict[str, str | None] = {}

    def load(self, wanted: Wanted) -> Sequence[MessageRow]:
        """Fetch all that is wanted at once; return the messages found."""
        found = self._session.load(wanted)
        batches: dict[str, list[BatchRow]] = defaultdict(list)
        for batch in found.batches:
            batches[batch.sku].append(batch)
            self._sku_of[batch.ref] = batch.sku
        known: dict[str, dict[str, Promise | None]] = defaultdict(dict)
        for orderid, sku in wanted.lines:
            known[sku][orderid] = None
        for line in found.lines:
            known[line.sku][line.orderid] = Promise(_line(line), line.batchref)
        for ref in wanted.refs:
            self._sku_of.setdefault(ref, None)
        for sku in wanted.skus:
            self._products.setdefault(sku, None)
        for product in found.products:
            if self._products.get(product.sku) is not None:
                continue
            records = StoredRecords(self._session, product.sku, known[product.sku], self._sku_of)
            self._loaded_versions[product.sku] = product.version_number
            self._accepted_versions[product.sku] = product.version_number
            self._products[product.sku] = Product(
                product.sku,
                [_batch(row, records) for row in batches[product.sku]],
                product.version_number,
                waiting_lines=product.waiting_lines,
                records=records,
            )
        return found.messages

    def sku_of(self, ref: str) -> str | None:
        """The SKU that batch ``ref`` is of."""
        if ref not in self._sku_of:
            self.load(Wanted(refs={ref}))
        return self._sku_of[ref]

    def learn(self, ref: str, sku: str) -> None:
        """Batch ``ref`` is of this SKU: a message of the group created it."""
        self._sku_of[ref] = sku

    def write_to(self, changes: Changes) -> None:
        """Add the rows that differ from storage, by SKU. What has a position above the version loaded is new.

        A product that a message found as it should be comes with the version it has, or else somebody else could
        change it meanwhile, and the ledger would tell the two in the wrong order.
        """
        for sku, product in sorted(self._products.items()):
            if product is None or sku not in self._used:
                continue
            loaded = self._loaded_versions.get(sku, 0)
            numbers = (sku, product.version_number, product.waiting_lines)
            if loaded:
                changes.products.append(ProductVersion(*numbers, loaded))
            else:
                changes.new_products.append(ProductRow(*numbers))
            for batch in product.changed_batches.values():
                (changes.new_batches if batch.position > loaded else changes.batches).append(_batch_row(batch))
            for line, batchref in product.changed_promises.values():
                rows = changes.new_lines if line.position > loaded else changes.lines
                rows.append(LineRow(line.orderid, sku, line.qty, batchref, line.position))

    def accept(self) -> None:
        """Keep what the products seen by now have become."""
        for product in self.seen:
            self._accepted_versions[product.sku] = product.version_number
            self._used.add(product.sku)

    def all_accepted(self) -> bool:
        """Whether every product seen is as it was last accepted."""
        for product in self.seen:  # noqa: SIM110 - called twice a message; a generator costs as much as all the rest
            if product.version_number != self._accepted_versions.get(product.sku, 0):
                return False
        return True

    def _add(self, product: Product) -> None:
        self._products[product.sku] = product
        self._loaded_versions[product.sku] = 0

    def _get(self, sku: str) -> Product | None:
        if sku not in self._products:
            self.load(Wanted(skus={sku}))
        return self._products[sku]

    def _get_by_batchref(self, batchref: str) -> Product | None:
        sku = self.sku_of(batchref)
        return None if sku is None else self._get(sku)


class GroupUnitOfWork(AbstractUnitOfWork):
    """One transaction for many messages, each with its own outcome."""

    products: StoredProducts

    def __init__(self, session: Session, recorded_at: datetime, effects_of: EffectsOf = declared_effects) -> None:
        self.products = StoredProducts(session)
        self._effects_of = effects_of
        self._changes = Changes(recorded_at)
        self._outcomes: dict[str, Outcome] = {}
        self._trail: list[tuple[Event, int | None]] = []
        self._accepted = False

    def load(self, wanted: Wanted) -> None:
        """Fetch what the messages will need."""
        self._recall_outcomes(self.products.load(wanted))

    def handle(self, message: Message) -> Outcome:
        """Put one message through the bus, or return the first outcome of a repeated one."""
        self._accepted = False
        known = self._outcomes.get(message.id)
        if known is not None:
            if known.message.event != message.event:
                raise IdempotencyKeyReused(message.id)
            return known
        self._trail = []
        results = messagebus.handle(message.event, self)
        if isinstance(message.event, BatchCreated):
            self.products.learn(message.event.ref, message.event.sku)
        outcome = Outcome(message, results[0], [event for event, _ in self._trail[1:]])
        if message.keyed:
            self._outcomes[message.id] = outcome
        self._append_to_ledger(message, results[0])
        return outcome

    def knows(self, message: Message) -> bool:
        """Whether a message with this id is in the ledger."""
        return message.id in self._outcomes

    @property
    def has_accepted(self) -> bool:
        """Whether the message now handled has changes accepted already."""
        return self._accepted

    def changes(self) -> Changes:
        """Everything that was accepted, to be asked for once, at the end."""
        self.products.write_to(self._changes)
        return self._changes

    def record(self, event: Event, cause: int | None) -> int:
        self._trail.append((event, cause))
        return len(self._trail) - 1

    def _commit(self) -> None:
        self._accepted = True
        self.products.accept()

    def rollback(self) -> None:
        if not self.products.all_accepted():
            raise SpoiledGroup("a handler left without committing what it changed")

    def _recall_outcomes(self, rows: Iterable[MessageRow]) -> None:
        cascades: dict[str, list[MessageRow]] = defaultdict(list)
        for row in rows:
            cascades[row.correlation_id].append(row)
        for id_, cascade in cascades.items():
            told = sorted((entry for row in cascade for entry in unfold(row)), key=itemgetter(0))
            (_, event), *raised = told
            first = next(row for row in cascade if row.step == 0)
            message = Message(event, id_, first.actor, keyed=True)
            result = msgspec.json.decode(first.result or "null")
            self._outcomes[id_] = Outcome(message, result, [event for _, event in raised])

    def _append_to_ledger(self, message: Message, result: Any) -> None:
        rows, deliveries = fold(message, result, self._trail, self._sku_of, self._effects_of)
        self._changes.messages += rows
        self._changes.deliveries += deliveries

    def _sku_of(self, event: Event) -> str:
        sku: str = getattr(event, "sku", None) or self.products.sku_of(getattr(event, "ref", "")) or ""
        return sku


def wanted_by(messages: Iterable[Message], *, check_ids: bool) -> Wanted:
    """What the messages will need. ``check_ids``: look for all ids in the ledger, not only senders' own."""
    wanted = Wanted()
    for event, id_, _, keyed in messages:
        _want(event, wanted)
        if keyed or check_ids:
            wanted.message_ids.add(id_)
    return wanted


def _want(event: Event, wanted: Wanted) -> None:
    """Add what an event points to. It is told by the names of its fields, which are the same in every event."""
    sku: str | None = getattr(event, "sku", None)
    orderid: str | None = getattr(event, "orderid", None)
    ref: str | None = getattr(event, "ref", None)
    if sku is not None:
        wanted.skus.add(sku)
        if orderid is not None:
            wanted.lines.add((orderid, sku))
    if ref is not None:
        wanted.refs.add(ref)


def _line(row: LineRow) -> OrderLine:
    return OrderLine(row.orderid, row.sku, row.qty, row.position)


def _batch(row: BatchRow, records: StoredRecords) -> Batch:
    return Batch(
        row.ref,
        row.sku,
        row.purchased_quantity,
        row.eta,
        allocated_quantity=row.allocated_quantity,
        position=row.position,
        initial=(row.initial_quantity, row.initial_eta),
        records=records,
    )


def _batch_row(batch: Batch) -> BatchRow:
    return BatchRow(
        batch.reference,
        batch.sku,
        batch.eta,
        batch.purchased_quantity,
        batch.allocated_quantity,
        batch.position,
        batch.initial_quantity,
        batch.initial_eta,
    )

"""A group of messages handled in one transaction: its unit of work, its products, and the rows it leaves.

Inside a group ``commit`` accepts a handler's changes; the writer makes them durable with everybody else's.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from allocation.domain.batches import Batch
from allocation.domain.errors import IdempotencyKeyReused, ProductChanged
from allocation.domain.events import BatchCreated, Event, StockHeld
from allocation.domain.harm import Solver, no_solver
from allocation.domain.lines import Miscount, OrderLine, Promise, part_id
from allocation.domain.model import Product
from allocation.domain.rules import USUAL, Rules
from allocation.service_layer import messagebus
from allocation.service_layer.handlers import HANDLERS, RAISES
from allocation.service_layer.messagebus import UndeclaredEvent
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.unit_of_work import AbstractRepository, AbstractUnitOfWork
from allocation.service_layer.writing.ledger import EffectsOf, declared_effects, fold, unfold
from allocation.service_layer.writing.store import (
    BatchRow,
    Changes,
    LineRow,
    Loaded,
    MessageRow,
    ProductRow,
    ProductVersion,
    Session,
    Wanted,
)


class SpoiledGroup(Exception):
    """A message left changes behind that it must not: what the group has in memory cannot be trusted any more."""


class LookedUp:
    """What a group was told by storage, beside its products, and the session to ask for more."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.promises: dict[tuple[str, str], Promise | None] = {}  # by order and SKU; None: it was never taken
        self.sku_of: dict[str, str | None] = {}  # by batch; None: there is none
        self.sku_of_hold: dict[str, str | None] = {}  # by hold; the same


class StoredRecords:
    """What storage knows of one product: rows that were fetched ahead, otherwise a look-up in the session."""

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
        return _batch(row, self) if row else None

    def priorities(self, ref: str | None) -> Sequence[int]:
        return self.looked_up.session.priorities(self._sku, ref)

    def newest_lines(self, ref: str, priority: int, before: int) -> Sequence[OrderLine]:
        return [_line(row) for row in self.looked_up.session.newest_lines(self._sku, ref, before, priority)]

    def waiting_lines(self, priority: int, after: int, max_qty: int) -> Sequence[OrderLine]:
        return [_line(row) for row in self.looked_up.session.waiting_lines(self._sku, after, max_qty, priority)]

    def late_lines(
        self, by: date, max_qty: int, rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[Promise]:
        session = self.looked_up.session
        return [promise_of(row) for row in session.late_lines(self._sku, by, max_qty, rewritten, after)]

    def miscounts(self) -> Sequence[Miscount]:
        return self.looked_up.session.miscounts(self._sku)


class WarmProduct(NamedTuple):
    """A product that a group leaves in memory for the next, and its records."""

    product: Product
    records: StoredRecords


NOTHING_WARM: Final[Mapping[str, WarmProduct]] = {}


class StoredProducts(AbstractRepository):
    """The products of one group. Each is there from a group before, or is loaded once, in part."""

    def __init__(self, session: Session, today: date, usual_rules: Rules, kept: Mapping[str, WarmProduct]) -> None:
        super().__init__()
        self._looked_up = LookedUp(session)
        self._today = today
        self._usual_rules = usual_rules
        self._products: dict[str, Product | None] = {}
        self._held: dict[str, WarmProduct] = {}  # those that storage knows
        self._loaded_versions: dict[str, int] = {}
        self._accepted_versions: dict[str, int] = {}
        self._used: set[str] = set()  # SKUs of which a message was accepted, whether it changed anything or not
        for each in kept.values():
            each.records.looked_up = self._looked_up
            self._hold(each)

    def load(self, wanted: Wanted) -> Sequence[MessageRow]:
        """Fetch all that is wanted at once; return the messages found."""
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
                self._hold(_loaded(product, batches[product.sku], self._usual_rules, looked_up))
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
        """The version of each product when it was loaded; 0 of those that storage does not know."""
        return self._loaded_versions

    def learn(self, event: BatchCreated | StockHeld) -> None:
        """A message of the group created a batch or a hold: it is of this SKU."""
        if isinstance(event, BatchCreated):
            self._looked_up.sku_of[event.ref] = event.sku
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
        """Add the rows that differ from storage, by SKU. What has a position above the version loaded is new.

        A product that a message found as it should be comes with the version it has, or else somebody else could
        change it meanwhile, and the ledger would tell the two in the wrong order.
        """
        for sku, product in sorted(self._products.items()):
            if product is None or sku not in self._used:
                continue
            product.check_told()
            loaded = self._loaded_versions.get(sku, 0)
            numbers = (sku, product.version_number, product.waiting_lines)
            rules = None if product.rules is self._usual_rules else _json(product.rules)  # which few products have
            if loaded:
                changes.products.append(ProductVersion(*numbers, loaded, rules))
            else:
                changes.new_products.append(ProductRow(*numbers, rules))
            for batch in product.changed_batches.values():
                _batches_for(batch, loaded, changes).append(_batch_row(batch))
            for promise in product.changed_promises.values():
                rows = changes.new_lines if promise.line.position > loaded else changes.lines
                rows.append(_line_row(promise))

    def leave(self) -> Sequence[WarmProduct]:
        """The products as the next group finds them: what they had to write was taken out, and is storage's to tell.

        Those that the group created are not among them. Nothing can be asked for here any more.
        """
        self._looked_up.promises = {}
        self._looked_up.sku_of = {}
        self._looked_up.sku_of_hold = {}
        return [kept for kept in self._held.values() if kept.product.leave_changes()]

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

    def _hold(self, kept: WarmProduct) -> None:
        product = kept.product
        product.today = self._today
        self._held[product.sku] = kept
        self._products[product.sku] = product
        self._loaded_versions[product.sku] = self._accepted_versions[product.sku] = product.version_number

    def _add(self, product: Product) -> None:
        product.begin(self._usual_rules, self._today)
        self._products[product.sku] = product
        self._loaded_versions[product.sku] = 0

    def _get(self, sku: str) -> Product | None:
        if sku not in self._products:
            self.load(Wanted(skus={sku}))
        return self._products[sku]

    def _get_by_batchref(self, batchref: str) -> Product | None:
        sku = self.sku_of(batchref)
        return None if sku is None else self._get(sku)

    def _get_by_holdid(self, holdid: str) -> Product | None:
        sku = self.sku_of_hold(holdid)
        return None if sku is None else self._get(sku)


class GroupUnitOfWork(AbstractUnitOfWork):
    """One transaction for many messages, each with its own outcome."""

    products: StoredProducts

    def __init__(
        self,
        session: Session,
        recorded_at: datetime,
        effects_of: EffectsOf = declared_effects,
        usual_rules: Rules = USUAL,
        solve: Solver = no_solver,
        kept: Mapping[str, WarmProduct] = NOTHING_WARM,
    ) -> None:
        self.now = recorded_at
        self.solve = solve
        self.products = StoredProducts(session, recorded_at.date(), usual_rules, kept)
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
        if message.at_version is not None:
            self._check_version(message.event, message.at_version)
        self._trail = []
        results = messagebus.handle(message.event, self)
        if isinstance(message.event, BatchCreated | StockHeld):
            self.products.learn(message.event)
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

    def record_given(self, facts: Iterable[Event]) -> None:
        """Facts that a rule told while the last event of the trail is handled; one that is this event is there already.

        The others have happened, so the bus does not handle them.
        """
        step = len(self._trail) - 1
        event, _ = self._trail[step]
        for fact in facts:
            if fact != event:
                if not any(type(fact) in RAISES[handler] for handler in HANDLERS[type(event)]):
                    raise UndeclaredEvent(
                        f"{type(event).__name__} led to {type(fact).__name__}: declare it in handlers.RAISES"
                    )
                self._trail.append((fact, step))

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

    def _check_version(self, event: Event, expected: int) -> None:
        sku = self._sku_of(event)
        if self.products.version_of(sku) != expected:
            raise ProductChanged(sku)

    def _append_to_ledger(self, message: Message, result: Any) -> None:
        rows, deliveries = fold(message, result, self._trail, self._sku_of, self._effects_of)
        self._changes.messages += rows
        self._changes.deliveries += deliveries

    def _sku_of(self, event: Event) -> str:
        sku: str | None = getattr(event, "sku", None)
        if sku is None and (holdid := getattr(event, "holdid", None)) is not None:
            sku = self.products.sku_of_hold(holdid)
        elif sku is None:
            sku = self.products.sku_of(getattr(event, "ref", ""))
        return sku or ""


def wanted_by(messages: Iterable[Message], *, check_ids: bool) -> Wanted:
    """What the messages will need. ``check_ids``: look for all ids in the ledger, not only senders' own."""
    wanted = Wanted()
    for event, id_, _, keyed, _ in messages:
        _want(event, wanted)
        if keyed or check_ids:
            wanted.message_ids.add(id_)
    return wanted


def _want(event: Event, wanted: Wanted) -> None:
    """Add what an event points to. It is told by the names of its fields, which are the same in every event."""
    sku: str | None = getattr(event, "sku", None)
    orderid: str | None = getattr(event, "orderid", None)
    ref: str | None = getattr(event, "ref", None)
    holdid: str | None = getattr(event, "holdid", None)
    if sku is not None:
        wanted.skus.add(sku)
        if orderid is not None:
            wanted.lines.add((orderid, sku))
            if getattr(event, "split", False):
                wanted.lines.add((part_id(orderid, 2), sku))  # whose name the line needs, if it is split
    if ref is not None:
        wanted.refs.add(ref)
    if holdid is not None:
        wanted.holdids.add(holdid)


def _loaded(row: ProductRow, batches: Iterable[BatchRow], usual_rules: Rules, looked_up: LookedUp) -> WarmProduct:
    records = StoredRecords(row.sku, looked_up)
    product = Product(
        row.sku,
        [_batch(batch, records) for batch in batches],
        row.version_number,
        waiting_lines=row.waiting_lines,
        rules=usual_rules if row.rules is None else _rules(row.rules),
        usual_rules=usual_rules,
        records=records,
    )
    return WarmProduct(product, records)


def _line(row: LineRow) -> OrderLine:
    about = (row.orderid, row.sku, row.qty, row.position, row.need_by, row.priority, row.expires_at)
    return OrderLine(*about, row.part or 0, row.rest or 0)


def promise_of(row: LineRow) -> Promise:
    return Promise(_line(row), row.batchref, row.closed)


def _line_row(promise: Promise) -> LineRow:
    line, batchref, closed = promise
    return LineRow(
        line.orderid,
        line.sku,
        line.qty,
        batchref,
        line.position,
        line.priority,
        line.need_by,
        line.expires_at,
        closed,
        line.part or None,
        line.rest or None,
    )


@functools.lru_cache(maxsize=1_000)
def _rules(text: str) -> Rules:
    return msgspec.json.decode(text, type=Rules)


def _json(rules: Rules) -> str:
    return msgspec.json.encode(rules).decode()


def _batch(row: BatchRow, records: StoredRecords) -> Batch:
    return Batch(
        row.ref,
        row.sku,
        row.purchased_quantity,
        row.eta,
        expires_on=row.expires_on,
        location=row.location,
        quarantine=row.quarantine,
        allocated_quantity=row.allocated_quantity,
        shipped_quantity=row.shipped_quantity,
        position=row.position,
        initial=(row.initial_quantity, row.initial_eta),
        records=records,
    )


def _batches_for(batch: Batch, loaded: int, changes: Changes) -> list[BatchRow]:
    if batch.position > loaded:
        return changes.new_batches
    return changes.rewritten_batches if batch.is_rewritten else changes.batches


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
        batch.shipped_quantity,
        batch.location,
        batch.expires_on,
        batch.quarantine,
    )

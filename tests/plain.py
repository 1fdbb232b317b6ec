"""The rules on plain objects that know everything: what a store may change nothing about, and what has to be true."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from allocation.adapters.memory import MemoryTables
from allocation.domain.errors import IdempotencyKeyReused, Refusal
from allocation.domain.events import (
    Allocated,
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    DeliveryOverdue,
    Event,
    HoldConfirmed,
    MoveUpRequired,
    PromiseChanged,
)
from allocation.domain.fields import MAX_PRIORITY
from allocation.domain.lines import OrderLine, Today, is_pinned, part_id
from allocation.domain.model import Batch, Product
from allocation.domain.rules import TOO_LATE, Choice, Room, is_hold, late_days
from allocation.domain.splitting import can_be_split
from allocation.domain.stock import sources_of
from allocation.service_layer import messagebus
from allocation.service_layer.writing.rows import row_of_batch, row_of_line
from allocation.service_layer.writing.store import BatchRow, LineRow
from tests.fakes import FakeRepository, FakeUnitOfWork
from tests.plain_stock import check_stock
from tests.snapshot import ALLOWANCE, PlainProduct, Snapshot, day_of, known_day

Answer = tuple[Any, Sequence[Event]] | str  # the result and what was raised; or the name of the refusal


Rows = tuple[dict[str, tuple[int, int, bool]], dict[str, BatchRow], dict[tuple[str, str], LineRow]]


class PlainRepository(FakeRepository):
    """Remembers what was on hand of each batch after each message, so that it knows what came and left."""

    def __init__(self) -> None:
        super().__init__([])
        self.on_hand: dict[str, list[tuple[datetime, int]]] = {}

    def moved(self, sku: str, ref: str, since: datetime) -> int:
        known = self.on_hand[ref]
        return known[-1][1] - self.on_hand_at(ref, since)

    def on_hand_at(self, ref: str, moment: datetime) -> int:
        """What there was; before the batch was known, as much as there was when it became known."""
        known = self.on_hand[ref]
        return next((qty for told_at, qty in reversed(known) if told_at <= moment), known[0][1])

    def remember(self, now: datetime) -> None:
        for product in self.all():
            for batch in product.batches:
                batch.on_hand_stored = batch.on_hand_quantity
                self.on_hand.setdefault(batch.reference, []).append((now, batch.on_hand_quantity))


class PlainUnitOfWork(FakeUnitOfWork):
    """Remembers what was handled."""

    products: PlainRepository

    def __init__(self) -> None:
        super().__init__()
        self.products = PlainRepository()
        self.handled: list[Event] = []
        self.told: Event  # that is handled now

    def record(self, event: Event, cause: int | None) -> int:
        self.handled.append(event)
        self.told = event
        return len(self.handled) - 1

    def record_given(self, facts: Iterable[Event]) -> None:
        self.handled += [fact for fact in facts if fact != self.told]


class PlainShop:
    """Every product, from the first message on. A message that breaks a rule of the books is an AssertionError."""

    def __init__(self) -> None:
        self.uow = PlainUnitOfWork()
        self.answers: dict[str, tuple[Event, Answer]] = {}  # by message id

    def answer(self, event: Event, id_: str, now: datetime) -> Answer:
        """What a message is answered; again the same, if it comes again."""
        if id_ in self.answers:
            first, answer = self.answers[id_]
            return answer if first == event else IdempotencyKeyReused.__name__
        answer = self.handle(event, now)
        if not isinstance(answer, str):
            self.answers[id_] = (event, answer)
        return answer

    def handle(self, event: Event, now: datetime) -> Answer:
        try:
            return self.send(event, now)
        except Refusal as refusal:
            return type(refusal).__name__

    def send(self, event: Event, now: datetime) -> tuple[Any, Sequence[Event]]:
        """The result and what was raised; raises refusals."""
        self.uow.now = now
        self.uow.handled.clear()
        for product in self.products():
            product.today = Today(now.date(), now.date() + ALLOWANCE)
        before = self.snapshot()
        kept = {product.sku: kept_stock(product) for product in self.products()}
        try:
            result = messagebus.handle(event, self.uow)[0]
        except Refusal:
            assert self.snapshot() == before, f"{event} was refused and changed something"
            self.uow.products.seen.clear()
            raise
        raised = self.uow.handled[1:]
        for product in self.products():
            check_product(product)
        check_change(event, raised, before, self)
        if isinstance(event, AllocationRequired) and event.sku in kept:
            kept_on, kept_for, gained = kept[event.sku]
            placed = [each.batchref for each in raised if isinstance(each, Allocated)]
            if kept_for is not None and event.priority <= gained and placed:
                assert kept_on not in placed, f"{event} got stock of {kept_on}, which is kept for {kept_for}"
        self.uow.products.remember(now)
        return result, raised

    def rows(self) -> Rows:
        """What storage should have."""
        products = self.products()
        batches: dict[str, BatchRow] = {}
        lines: dict[tuple[str, str], LineRow] = {}
        for product in products:
            batches |= {batch.reference: row_of_batch(batch) for batch in product.batches}
            for promise in product.changed_promises.values():
                lines[promise.line.orderid, product.sku] = row_of_line(promise)
        versions = {
            product.sku: (product.version_number, product.waiting_lines, product.retired) for product in products
        }
        return versions, batches, lines

    def products(self) -> list[Product]:
        return sorted(self.uow.products.all(), key=lambda product: product.sku)

    def snapshot(self) -> Snapshot:
        products = self.products()
        batches = [batch for product in products for batch in product.batches]
        return Snapshot(
            {
                each.sku: PlainProduct(each.version_number, each.waiting_lines, each.rules, each.retired)
                for each in products
            },
            {batch.reference: row_of_batch(batch) for batch in batches},
            {
                (product.sku, orderid): promise
                for product in products
                for orderid, promise in product.changed_promises.items()
            },
            {batch.reference: day_of(batch, self.uow.now.date()) for batch in batches},
            self.uow.now.date(),
        )


def stored_rows(tables: MemoryTables) -> Rows:
    """What storage has."""
    versions = {sku: (row.version_number, row.waiting_lines, bool(row.retired)) for sku, row in tables.products.items()}
    return versions, tables.batches, tables.lines


def check_product(product: Product) -> None:
    """Counters are what the lines add up to, nothing is sold twice, and nobody waits who could be served."""
    assert not product.events
    assert not product._days
    assert not product._untold
    assert not product._moves_up
    product.check_told()
    held, shipped, arrived = Counter[str](), Counter[str](), Counter[str]()
    for orderid, (line, batchref, closed) in product.changed_promises.items():
        assert line.orderid == orderid
        if batchref is not None:
            assert closed in {None, "shipped"}
            held[batchref] += line.qty
            shipped[batchref] += line.qty if closed else 0
            arrived[batchref] += line.qty if closed or line.arrived else 0
        elif closed is None:
            assert not is_hold(line), f"{line} waits"
            asked = replace(line, qty=1) if can_be_split(line, product._is_free) else line
            assert not could_get(product, asked), f"{line} waits and would fit"
        check_parts(product, line)
    for batch in product.batches:
        assert batch.allocated_quantity == held[batch.reference] <= batch.purchased_quantity
        assert batch.shipped_quantity == shipped[batch.reference]
        check_batch(batch, arrived[batch.reference])
        standing = {line.orderid: line for line in batch.lines_to_lose()}
        assert standing == {line.orderid: line for line in lines_on(product, batch.reference)}
    assert product.waiting_lines == len(lines_on(product, None))
    positions = [batch.position for batch in product.batches]
    positions += [promise.line.position for promise in product.changed_promises.values()]
    assert len(positions) == len(set(positions))
    assert max(positions) <= product.version_number


def could_get(product: Product, line: OrderLine) -> list[str]:
    """The batches with free stock for the line, besides the one whose stock is kept for another line."""
    sources = sources_of(product.batches)
    choice = Choice(sources, product.rules, product.today, Room(sources))
    kept_on, kept_for, gained = kept_stock(product)
    if kept_for is None or line.orderid == kept_for.orderid or line.priority > gained or is_pinned(line.priority):
        kept_on = None
    return [
        source.reference
        for source, obstacle in choice.candidates(line)
        if obstacle in {"", TOO_LATE} and source.reference != kept_on
    ]


def kept_stock(product: Product) -> tuple[str | None, OrderLine | None, int]:
    """The batch whose free stock is kept, for which line, and the priority that this has gained by its age.

    It is the oldest line that waits whole and that a batch with free stock could hold; of these batches it is the one
    with the most free stock.
    """
    rules, today = product.rules, product.today
    roomy = [each for each in product.batches if each.available_quantity > 0 and each.quarantine is None]
    for line in sorted(lines_on(product, None), key=lambda line: line.position):
        if rules.ages_after is None or (line.part and not line.rest):
            continue
        able = []
        for batch in sorted(roomy, key=rules.order):
            left = batch.purchased_quantity - batch.shipped_quantity
            has_arrived = batch.eta is None or (batch.arrived is not None and batch.arrived.available_quantity > 0)
            least, free = line.qty + (rules.safety_stock if batch.eta is None else 0), batch.available_quantity
            from_day = max(today.day if has_arrived else batch.day(today), line.need_by or today.day)
            if batch.arrived is not None and not _lasts(batch, batch.day(today), rules.shelf_life_days):
                # only the part that has arrived can be sold
                least, free = line.qty + rules.safety_stock, batch.arrived.available_quantity
            if left >= least and _lasts(batch, from_day, rules.shelf_life_days):
                able.append((free, batch))
        if able:
            gained = (product.version_number - line.position) // rules.ages_after
            _, kept = max(able, key=lambda each: each[0])
            return (kept.reference, line, min(line.priority + gained, 10)) if gained else (None, None, 0)
    return None, None, 0


def _lasts(batch: Batch, from_day: date, days: int) -> bool:
    return batch.expires_on is None or (batch.expires_on - from_day).days >= days


def check_batch(batch: Batch, held_of_arrived: int) -> None:
    """A batch in parts counts what is held of the part that has arrived; no line of a whole one says it has any."""
    assert batch.inspect_quantity >= 0
    assert 0 <= batch.shipped_quantity <= batch.arrived_quantity
    if batch.arrived is None:
        assert [line for line in batch.lines_to_lose() if line.arrived] == [], f"{batch} is whole"
        return
    assert batch.eta is not None
    assert batch.arrived.allocated_quantity == held_of_arrived <= batch.arrived.quantity
    assert 0 < batch.arrived.quantity < batch.purchased_quantity


def check_parts(product: Product, line: OrderLine) -> None:
    """What was cut off a line is in the parts that follow it, as far as nobody changed them."""
    later = [part.line for part in product.parts(line.orderid)[1:]]
    assert bool(later) == bool(line.rest)
    assert [part.part for part in later] == list(range(line.part + 1, line.part + 1 + len(later)))
    assert {(part.need_by, part.orderid.removesuffix(f"/{part.part}")) for part in later} <= {
        (line.need_by, line.orderid.removesuffix(f"/{line.part}") if line.part > 1 else line.orderid)
    }


def lines_on(product: Product, ref: str | None) -> list[OrderLine]:
    """The open lines on a batch, or those that wait."""
    return [line for line, batchref, closed in product.changed_promises.values() if batchref == ref and closed is None]


def check_change(event: Event, raised: Sequence[Event], before: Snapshot, shop: PlainShop) -> None:
    after = shop.snapshot()
    if isinstance(event, DeliveryOverdue):  # until now its lines were promised for the day it was due
        before = before._replace(days={**before.days, event.ref: before.batches[event.ref].eta or after.today})
    told = [each for each in raised if isinstance(each, PromiseChanged)]
    due = list(_promises_due(before, after))
    assert sorted(told, key=repr) == sorted(due, key=repr), f"{event}: told {told}, due {due}"
    _check_closed(before, after)
    _check_called(event, raised)
    _check_fresh(event, before, after)
    if isinstance(event, BatchEtaChanged | BatchReceived | DeliveryOverdue):
        _check_lasting(event, before, after)
    if isinstance(event, BatchCreated | BatchEtaChanged | BatchQuantityChanged):
        _check_moved_up(event, raised, before, after)
    for product in shop.products():
        if MoveUpRequired(product.sku) in [event, *raised]:
            _check_nobody_is_late_in_vain(product)
    check_stock(event, raised, before, after, shop.uow.products.on_hand_at)


def _promises_due(before: Snapshot, after: Snapshot) -> Iterator[PromiseChanged]:
    """One for each line that had a day and is still wanted, and has another day, or none."""
    for (sku, orderid), now in after.lines.items():
        line, ref, closed = before.lines.get(_origin((sku, orderid), before, after), now._replace(batchref=None))
        if ref is None or closed or now.closed or is_hold(line):
            continue
        old = known_day(before.day_of(line, ref))
        new = known_day(after.day_of(now.line, now.batchref)) if now.batchref else None
        if old != new:
            yield PromiseChanged(orderid, sku, now.line.qty, old, new, late_days(now.line, new))


def _origin(key: tuple[str, str], before: Snapshot, after: Snapshot) -> tuple[str, str]:
    """The line itself or, of a part that is new, the one that it was cut off."""
    sku, orderid = key
    part = after.lines[key].line.part
    while (sku, orderid) not in before.lines and part > 1:
        first = orderid.removesuffix(f"/{part}")
        part -= 1
        orderid = part_id(first, part)
    return sku, orderid


def _check_closed(before: Snapshot, after: Snapshot) -> None:
    """What ended stays as it ended; only of what was shipped some may come back."""
    for key, promise in before.lines.items():
        now = after.lines[key]
        if promise.closed == "shipped":
            assert now.closed in {"shipped", "returned"}
            assert now.line.qty <= promise.line.qty
        elif promise.closed:
            assert now == promise


def _check_called(event: Event, raised: Sequence[Event]) -> None:
    """Nobody is called twice, or in vain: who is called was freed, or is served. Moving up is another time."""
    ups = [number for number, each in enumerate(raised) if isinstance(each, MoveUpRequired)]
    for before, after in itertools.pairwise((0, *ups, len(raised))):
        once = [(each.sku, each.orderid) for each in raised[before:after] if isinstance(each, AllocationRequired)]
        assert len(once) == len(set(once)), f"{event} called {once}"
    called = [each.orderid for each in raised if isinstance(each, AllocationRequired)]
    freed = {each.orderid for each in raised if isinstance(each, Deallocated)}
    served = {each.orderid for each in raised if type(each).__name__ == "Allocated"}  # type: ignore[attr-defined]
    assert set(called) <= freed | served, f"{event} called {called} in vain"


def _check_fresh(event: Event, before: Snapshot, after: Snapshot) -> None:
    """Nobody gets or is shipped stock that expired; a hold that becomes a line keeps it until that is said."""
    for key, (_, ref, closed) in after.lines.items():
        expires_on = after.batches[ref].expires_on if ref is not None else None
        if expires_on is not None and expires_on < after.today and not isinstance(event, HoldConfirmed):
            known = before.lines.get(key)
            assert known is not None, f"{event} gave {key} stock of {ref}, which expired on {expires_on}"
            assert (known.batchref, known.closed) == (ref, closed)


def _check_lasting(event: BatchEtaChanged | BatchReceived | DeliveryOverdue, before: Snapshot, after: Snapshot) -> None:
    """On a batch that has another day, there is no line that it does not last for."""
    ref = event.ref
    if before.days[ref] == after.days[ref]:
        return
    for line in after.open_on(ref):
        was, stood_on, _ = before.lines.get((line.sku, line.orderid), (line, None, None))
        if stood_on != ref or before.day_of(was, ref) != after.day_of(line, ref):
            assert after.lasts(line, ref), f"{event}: {line} is on {ref}, which does not last"


def _check_nobody_is_late_in_vain(product: Product) -> None:
    """Once lines were moved up, no stock that is left is in time for one that is late, unless too many would move."""
    if product.rules.most_moved is not None:
        return
    for line, ref, closed in product.changed_promises.values():
        if ref is not None and closed is None and 0 <= line.priority <= MAX_PRIORITY:
            batch = next(batch for batch in product.batches if batch.reference == ref)
            if late_days(line, batch.source_of(line).day(product.today)):
                assert product.choice().on_time(line) is None, f"{line} is late on {ref} in vain"


def _check_moved_up(
    event: BatchCreated | BatchEtaChanged | BatchQuantityChanged,
    raised: Sequence[Event],
    before: Snapshot,
    after: Snapshot,
) -> None:
    """Who leaves another batch than the one that changed was late there, and no more is."""
    for each in raised:
        if isinstance(each, Deallocated) and each.batchref != event.ref:
            line, ref, _ = after.lines[each.sku, each.orderid]
            assert before.products[each.sku][2].move_up
            assert late_days(line, before.day_of(before.lines[each.sku, each.orderid].line, each.batchref)) > 0
            assert ref is not None
            assert late_days(line, after.day_of(line, ref)) == 0, f"{event}: {each.orderid} is late on {ref} too"

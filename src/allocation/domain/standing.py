"""The effect of each event on a line, a batch and a product: the only place where they change.

An event that changes something is a fact. A product decides (`allocation.domain.model`) and tells facts; the books
replay the facts of the ledger (`allocation.service_layer.proving.books`). Both apply the same function of `EVOLVE`,
so a fact has one meaning. The counters follow from it: a line takes up stock of its batch, independent of
the fact that put it there (`apply`).

A function changes the product's ``version_number`` by the number of changes that the fact is. The position of a new
line or batch is the version that its fact leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, Protocol

from allocation.domain import events
from allocation.domain.events import Event
from allocation.domain.fields import EXPECTED
from allocation.domain.lines import (
    ASKED,
    BY_HAND,
    CANCELLED,
    FREED,
    HELD_PRIORITY,
    LOST,
    PASSING,
    PINNED_PRIORITY,
    RETURNED,
    SHIPPED,
    OrderLine,
    Promise,
    own_priority,
)
from allocation.domain.stock import Stock


class Evolving(Protocol):
    """The subject of a fact: a product, or the books of one."""

    version_number: int

    def stock(self, ref: str) -> Stock:
        """The batch, for one change."""

    def take_in(self, event: events.BatchCreated) -> Stock:
        """The new batch, without a position; or the known batch with its reference."""

    def retire(self, *, retired: bool) -> bool:
        """The product takes no new lines from now on, or takes them again; return whether that is a change."""

    def take_rules(self, event: events.RulesChanged) -> None:
        """The product is allocated by these rules from now on."""

    def begin_waiting(self, line: OrderLine) -> None:
        """One backorder more."""

    def end_waiting(self, line: OrderLine) -> None:
        """One backorder less."""

    def correct_waiting(self, number: int) -> None:
        """The right number of backorders, after a wrong count."""


def apply(product: Evolving, before: Promise | None, fact: Event) -> Promise:
    """Apply a fact about a line, and return the line with its place; ``before`` is None for a line that is new."""
    after = LINES[type(fact)](product, before, fact)
    if before is not None:
        line, batchref, closed = before
        if closed in PASSING:
            pass
        elif batchref is not None:
            product.stock(batchref).let_go(line, closed)
        elif closed is None:
            product.end_waiting(line)
    line, batchref, closed = after
    if batchref is not None:
        product.stock(batchref).hold(line, closed)
    elif closed is None:
        product.begin_waiting(line)
    return after


def follow(before: Promise | None, fact: Event) -> Promise:
    """The line after the fact, for callers that follow lines only and count nothing."""
    return LINES[type(fact)](_Uncounted(), before, fact)


class _Uncounted:
    version_number = 0


class _Names(dict[type[Event], Callable[[Any], str | None]]):
    """By type of event, found when it is first asked for."""

    def __missing__(self, kind: type[Event]) -> Callable[[Any], str | None]:
        field = next((name for name in ("orderid", "holdid") if name in kind.__annotations__), None)
        name_of: Callable[[Any], str | None] = _no_name if field is None else attrgetter(field)
        return self.setdefault(kind, name_of)


def _no_name(_: Event) -> None:
    return None


# By type, the id of the order or hold that an event is about; None: it is about no line.
NAME_OF: Final[Mapping[type[Event], Callable[[Any], str | None]]] = _Names()


def cut_off(first: Promise, fact: events.Split) -> Promise:
    """The part that was cut off a line: it has the line's terms, and no place yet."""
    line = first.line
    part = replace(line, orderid=fact.next_part, qty=fact.rest, position=fact.position, part=line.part + 1, rest=0)
    return Promise(part, None, ASKED)


# Lines


def asked(product: Evolving, before: Promise | None, fact: events.AllocationRequired) -> Promise:
    return before or Promise(OrderLine.asked_for(fact), None, ASKED)


def placed(product: Evolving, before: Promise | None, fact: events.Allocated | events.Backordered) -> Promise:
    """A line gets a place: that is a change, unless it is part of the change by which the line lost its last one."""
    line, _, passing = before or _new(fact)
    batchref, arrived = None, False
    if type(fact) is events.Allocated:
        batchref, arrived = fact.batchref, fact.arrived
    if passing not in (FREED, BY_HAND):
        product.version_number += 1
        if not line.position:
            terms = (product.version_number, line.need_by, line.priority, line.expires_at, line.part, line.rest)
            line = OrderLine(line.orderid, line.sku, line.qty, *terms, arrived)  # `replace` would take a dozen calls
    if line.arrived != arrived:
        line = replace(line, arrived=arrived)
    if batchref is not None and line.priority >= PINNED_PRIORITY and passing != BY_HAND:
        line = replace(line, priority=own_priority(line.priority))  # a pin ends where its batch does
    return Promise(line, batchref)


def deallocated(product: Evolving, before: Promise | None, fact: events.Deallocated) -> Promise:
    return Promise((before or _new(fact)).line, None, FREED)


def split(product: Evolving, before: Promise | None, fact: events.Split) -> Promise:
    line, batchref, closed = before or _new(fact)
    return Promise(replace(line, qty=fact.qty, rest=fact.rest), batchref, closed)


def cancelled(product: Evolving, before: Promise | None, fact: events.Cancelled) -> Promise:
    product.version_number += 1
    return Promise((before or _new(fact)).line, None, CANCELLED)


def resized(product: Evolving, before: Promise | None, fact: events.Resized) -> Promise:
    product.version_number += 1
    line, batchref, closed = before or _new(fact)
    return Promise(replace(line, qty=fact.qty), batchref, closed)


def shipped(product: Evolving, before: Promise | None, fact: events.Shipped) -> Promise:
    product.version_number += 1
    return Promise((before or _new(fact)).line, fact.batchref, SHIPPED)


def returned(product: Evolving, before: Promise | None, fact: events.Returned) -> Promise:
    product.version_number += 1
    line = (before or _new(fact)).line
    if fact.kept:
        return Promise(replace(line, qty=fact.kept), fact.batchref, SHIPPED)
    return Promise(line, None, RETURNED)


def served(product: Evolving, before: Promise | None, fact: events.Served) -> Promise:
    """Part of the change by which the stock arrived, or is due again."""
    line, batchref, closed = before or _new(fact)
    return Promise(replace(line, arrived=fact.arrived), batchref, closed)


def pinned(product: Evolving, before: Promise | None, fact: events.Pinned) -> Promise:
    """Being pinned is a change; so is the end of its waiting, of a line that waited."""
    line, batchref, closed = before or _new(fact)
    product.version_number += 1 + (batchref is None and closed is None)
    return Promise(replace(line, priority=PINNED_PRIORITY + own_priority(line.priority)), None, BY_HAND)


def held(product: Evolving, before: Promise | None, fact: events.Held) -> Promise:
    """A new hold and a longer one are changes. A move to another batch is part of the change that caused it."""
    if before is None:
        product.version_number += 1
        return Promise(_hold(fact, product.version_number), fact.batchref)
    product.version_number += before.line.expires_at != fact.expires_at
    return Promise(replace(before.line, expires_at=fact.expires_at, arrived=fact.arrived), fact.batchref)


def hold_ended(product: Evolving, before: Promise | None, fact: events.HoldEnded) -> Promise:
    product.version_number += fact.how != LOST
    return Promise((before or _new(fact)).line, None, fact.how)


def _hold(fact: events.Held, position: int) -> OrderLine:
    known = (fact.holdid, fact.sku, fact.qty, position, None, HELD_PRIORITY, fact.expires_at)
    return OrderLine(*known, arrived=fact.arrived)


def _new(fact: Any) -> Promise:
    """A new line that was ordered with only its quantity."""
    return Promise(OrderLine(NAME_OF[type(fact)](fact) or "", fact.sku, fact.qty), None, ASKED)


# Batches


def created(product: Evolving, fact: events.BatchCreated) -> None:
    """The same batch again changes nothing."""
    batch = product.take_in(fact)
    if not batch.position:
        product.version_number += 1
        batch.position = product.version_number


def recounted(product: Evolving, fact: events.BatchQuantityChanged) -> None:
    batch = product.stock(fact.ref)
    qty = fact.qty - batch.inspect_quantity
    product.version_number += batch.purchased_quantity != qty
    batch.count(qty)


def delayed(product: Evolving, fact: events.BatchEtaChanged) -> None:
    product.version_number += 1
    product.stock(fact.ref).change_eta(fact.eta)


def received(product: Evolving, fact: events.BatchReceived) -> None:
    """Older ledgers also have receipts of batches that had arrived: these were counted."""
    product.version_number += 1
    batch = product.stock(fact.ref)
    due = batch.incoming_quantity
    qty = due if fact.qty is None else fact.qty
    if batch.eta is None:
        batch.count(batch.purchased_quantity if fact.qty is None else qty)
    elif fact.rest == EXPECTED and qty < due:
        batch.receive(qty, is_blocked=fact.quarantine is not None)
        if fact.rest_eta is not None:
            product.stock(fact.ref).change_eta(fact.rest_eta)
    else:
        batch.complete(qty, fact.quarantine)


def quarantined(product: Evolving, fact: events.BatchQuarantined) -> None:
    product.version_number += 1
    product.stock(fact.ref).change_quarantine(fact.reason)


def released(product: Evolving, fact: events.BatchReleased) -> None:
    product.version_number += 1
    product.stock(fact.ref).release()


def undone(product: Evolving, fact: events.ReceiptUndone) -> None:
    product.version_number += 1
    product.stock(fact.ref).undo(fact.qty)


def adjusted(product: Evolving, fact: events.StockAdjusted) -> None:
    product.version_number += 1
    product.stock(fact.ref).adjust(fact.by)


def counted(product: Evolving, fact: events.StockCounted) -> None:
    product.version_number += 1
    product.stock(fact.batchref).adjust(fact.on_hand - fact.before, fact.counted_at)


def corrected(product: Evolving, fact: events.BatchCorrected) -> None:
    product.version_number += 1
    product.stock(fact.ref).describe(
        expires_on=fact.expires_on, location=fact.location, delivery=fact.delivery, clear=fact.clear
    )
    if fact.eta is not None:
        product.stock(fact.ref).change_eta(fact.eta)


def transferred(product: Evolving, fact: events.StockTransferred) -> None:
    """A part becomes a batch of its own, which is a change, too."""
    product.version_number += 1
    batch = product.stock(fact.ref)
    if fact.qty is not None:
        batch.adjust(-fact.qty)
        created(product, part_created(batch, fact))
        return
    batch.describe(location=fact.to_location)
    if fact.eta is not None:
        product.stock(fact.ref).change_eta(fact.eta)


def part_created(batch: Stock, fact: events.StockTransferred) -> events.BatchCreated:
    """The batch that a part of another one becomes."""
    kept = (batch.expires_on, fact.to_location, batch.delivery, batch.quarantine)
    return events.BatchCreated(transferred_as(fact), batch.sku, fact.qty or 0, fact.eta, *kept)


def transferred_as(fact: events.StockTransferred) -> str:
    """The reference of the batch that a part becomes: as it was named, otherwise that of its source and the place."""
    return fact.new_ref or f"{fact.ref}@{fact.to_location}"


def inspected(product: Evolving, fact: events.StockInspected) -> None:
    """Part of the change by which the stock came back."""
    product.stock(fact.batchref).inspect(fact.qty)


def passed(product: Evolving, fact: events.BatchExpired | events.DeliveryOverdue) -> None:
    """A day has passed: a change even if no line moves. The batch has the day already."""
    product.version_number += 1


def scrapped(product: Evolving, fact: events.StockScrapped) -> None:
    """Part of the change by which the stock came back."""
    product.stock(fact.batchref).adjust(-fact.qty)


def allocated_repaired(product: Evolving, fact: events.AllocatedQuantityRepaired) -> None:
    product.version_number += 1
    product.stock(fact.batchref).correct(allocated=fact.counted)


def shipped_repaired(product: Evolving, fact: events.ShippedQuantityRepaired) -> None:
    product.version_number += 1
    product.stock(fact.batchref).correct(shipped=fact.counted)


# Products


def retired(product: Evolving, fact: events.ProductRetired) -> None:
    product.version_number += product.retire(retired=True)


def reinstated(product: Evolving, fact: events.ProductReinstated) -> None:
    product.version_number += product.retire(retired=False)


def ruled(product: Evolving, fact: events.RulesChanged) -> None:
    product.version_number += 1
    product.take_rules(fact)


def moved_up(product: Evolving, fact: events.MoveUpRequired) -> None:
    """A change even if no line moves."""
    product.version_number += 1


def waiting_repaired(product: Evolving, fact: events.WaitingLinesRepaired) -> None:
    product.version_number += 1
    product.correct_waiting(fact.counted)


LINES: Final[Mapping[type[Event], Callable[..., Promise]]] = {
    events.AllocationRequired: asked,
    events.Allocated: placed,
    events.Deallocated: deallocated,
    events.Backordered: placed,
    events.Split: split,
    events.Cancelled: cancelled,
    events.Resized: resized,
    events.Shipped: shipped,
    events.Returned: returned,
    events.Served: served,
    events.Pinned: pinned,
    events.Held: held,
    events.HoldEnded: hold_ended,
}
STOCK: Final[Mapping[type[Event], Callable[..., None]]] = {
    events.BatchCreated: created,
    events.BatchQuantityChanged: recounted,
    events.BatchEtaChanged: delayed,
    events.BatchReceived: received,
    events.BatchQuarantined: quarantined,
    events.BatchReleased: released,
    events.ReceiptUndone: undone,
    events.StockAdjusted: adjusted,
    events.StockCounted: counted,
    events.BatchCorrected: corrected,
    events.StockTransferred: transferred,
    events.StockInspected: inspected,
    events.BatchExpired: passed,
    events.DeliveryOverdue: passed,
    events.StockScrapped: scrapped,
    events.ProductRetired: retired,
    events.ProductReinstated: reinstated,
    events.AllocatedQuantityRepaired: allocated_repaired,
    events.ShippedQuantityRepaired: shipped_repaired,
    events.RulesChanged: ruled,
    events.MoveUpRequired: moved_up,
    events.WaitingLinesRepaired: waiting_repaired,
}
EVOLVE: Final[Mapping[type[Event], Callable[..., Promise | None]]] = {**STOCK, **LINES}

# The events that change something. A line is asked for before it has a place, so that changes nothing yet.
FACTS: Final[Sequence[type[Event]]] = tuple(kind for kind in EVOLVE if kind is not events.AllocationRequired)

# Facts of kinds that come from outside, too: the message itself, or a consequence of another one.
GIVEN: Final = frozenset(
    {
        events.BatchCreated,
        events.BatchQuantityChanged,
        events.BatchEtaChanged,
        events.BatchReceived,
        events.BatchQuarantined,
        events.BatchReleased,
        events.ReceiptUndone,
        events.StockAdjusted,
        events.BatchCorrected,
        events.StockTransferred,
        events.ProductRetired,
        events.ProductReinstated,
        events.BatchExpired,
        events.DeliveryOverdue,
        events.RulesChanged,
        events.MoveUpRequired,
    }
)

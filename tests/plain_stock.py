"""What each event about stock has to do to lines: who is served, who loses stock, who follows, and nobody else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from allocation.domain.events import (
    AllocationRequired,
    BatchCorrected,
    BatchCounted,
    BatchEtaChanged,
    BatchExpired,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    DeliveryEtaChanged,
    DeliveryOverdue,
    DeliveryReceived,
    Event,
    HoldEnded,
    MoveUpRequired,
    ReceiptUndone,
    StockAdjusted,
    StockHeld,
    StockTransferred,
)
from allocation.domain.lines import NO_DAY, OrderLine, Today
from allocation.domain.rules import is_hold, late_days
from allocation.service_layer.writing.store import BatchRow
from tests.snapshot import Snapshot

OnHandAt = Callable[[str, datetime], int]


class StockCheck:
    """An event that was done to a batch, what it set off, and everything before and after."""

    def __init__(
        self, event: Any, raised: Sequence[Event], before: Snapshot, after: Snapshot, on_hand_at: OnHandAt
    ) -> None:
        self.event = event
        self.on_hand_at = on_hand_at
        self.ref: str = event.ref
        self.before, self.after = before, after
        self.was, self.is_ = before.batches[event.ref], after.batches[event.ref]
        self.rules = before.products[self.was.sku].rules
        self.stood = before.open_on(event.ref)
        self.version = before.products[self.was.sku].version_number + 1
        at_once = itertools.takewhile(lambda each: not isinstance(each, MoveUpRequired), raised)
        self.freed = [each.orderid for each in at_once if isinstance(each, Deallocated) and each.batchref == self.ref]
        self.moved = {each.orderid for each in raised if isinstance(each, Deallocated)}  # up, too
        self.ended = {each.holdid for each in raised if isinstance(each, HoldEnded)}

    def __str__(self) -> str:
        return f"{self.event}"

    def losers(self, qty: int, arrived: int | None = None) -> list[OrderLine]:
        """Who has to lose stock if the batch has so much, and so much of it has arrived; no more than needed."""
        stood = sorted(self.stood, key=lambda line: (self._is_frozen(line), line.priority, -line.position))
        lost = _first(stood, self.was.allocated_quantity - qty)
        if self.was.arrived_quantity is not None and arrived is not None:
            missing = (self.was.arrived_allocated or 0) - arrived - sum(line.qty for line in lost if line.arrived)
            lost += _first((line for line in stood if line.arrived and line not in lost), missing)
        return lost

    def check_lost(self, qty: int, arrived: int | None = None, *, least_harm: bool = True) -> None:
        """Those lose their stock who have to, in the order of losing; all others have it still."""
        free = [line for line in self.stood if not self._is_frozen(line)]
        missing = self.was.allocated_quantity - qty
        lost = [line.orderid for line in self.losers(qty, arrived)]
        held = sum(line.qty for line in free if is_hold(line))
        if least_harm and self.rules.least_harm and held < missing <= sum(line.qty for line in free):
            if self.was.arrived_quantity is None:
                self._check_fewest(free, missing)
            return
        assert self.freed[: len(lost)] == lost, f"{self}: {self.freed} lost, not {lost}"
        self.check_left(self.freed[len(lost) :])
        assert self.ended <= {line.orderid for line in self.stood if is_hold(line)} & set(self.freed)

    def check_left(self, leavers: Iterable[str]) -> None:
        """Who leaves a late batch was too late there, and comes sooner on another; or it does not last any more."""
        for orderid in leavers:
            if not self.after.lasts(replace(self.before.lines[self.was.sku, orderid].line, arrived=False), self.ref):
                continue
            line, ref, _ = self.after.lines[self.was.sku, orderid]
            assert ref is not None, f"{self}: {orderid} left for nothing"
            assert ref != self.ref or line.arrived, f"{self}: {orderid} left for the same"
            there = late_days(line, self.after.days[self.ref])
            assert late_days(line, self.after.day_of(line, ref)) < there, f"{self}: {orderid} left for {ref}"

    def check_served(self, qty: int) -> None:
        """So much arrived: it goes to the lines in the order of service, as far as each fits; no other moves."""
        room = (self.was.arrived_quantity or 0) + qty - (self.was.arrived_allocated or self.was.shipped_quantity)
        room += sum(line.qty for line in self.stood if line.arrived and line.orderid in self.freed)
        served = set()
        for line in sorted(self.stood, key=lambda line: self.rules.service_key(line, self.version)):
            lasts = self.after.lasts(replace(line, arrived=True), self.ref)
            if not line.arrived and line.qty <= room and lasts and line.orderid not in self.freed:
                room -= line.qty
                served.add(line.orderid)
        for line in self.stood:
            now, ref, _ = self.after.lines[self.was.sku, line.orderid]
            if line.orderid not in self.moved:
                assert ref == self.ref
                assert now.arrived == (line.arrived or line.orderid in served), f"{self}: {line} is now {now}"

    def _check_fewest(self, free: Sequence[OrderLine], missing: int) -> None:
        """With the least harm all holds do, no more orders lose their stock than have to, and none that is frozen."""
        freed = set(self.freed)
        holds = [line for line in free if is_hold(line)]
        assert {line.orderid for line in holds} <= freed <= {line.orderid for line in free}
        missing -= sum(line.qty for line in holds)
        lost = [line.qty for line in free if line.orderid in freed and line not in holds]
        assert sum(lost) >= missing
        assert sum(lost) - min(lost, default=0) < missing, f"{self}: {lost} lost, but {missing} were missing"

    def _is_frozen(self, line: OrderLine) -> bool:
        return self.rules.is_frozen(line, Today(self.before.today, self.before.today))


def _first(lines: Iterable[OrderLine], missing: int) -> list[OrderLine]:
    found = []
    for line in lines:
        if missing <= 0:
            break
        found.append(line)
        missing -= line.qty
    return found


def arrived_of(row: BatchRow) -> int:
    """What has arrived, with what was shipped of it."""
    return row.purchased_quantity if row.eta is None else row.arrived_quantity or 0


def incoming_of(row: BatchRow) -> int:
    return row.purchased_quantity - arrived_of(row)


def on_hand_of(row: BatchRow) -> int:
    return arrived_of(row) - row.shipped_quantity + row.inspect_quantity


def _check_recount(check: StockCheck) -> None:
    """The purchased quantity has the goods in inspection in it; if no more than that has arrived, nothing is due."""
    was, is_ = check.was, check.is_
    left = check.event.qty - was.inspect_quantity
    if left == was.purchased_quantity:  # that is a repeat
        assert is_ == was
        return
    assert is_.purchased_quantity == left
    arrived = min(left, arrived_of(was))
    assert arrived_of(is_) == (arrived if was.eta is not None else left)
    assert (is_.eta is None) == (was.eta is None or (was.arrived_quantity is not None and left <= was.arrived_quantity))
    check.check_lost(left, arrived)


def _check_delay(check: StockCheck) -> None:
    assert (check.was.eta is None, check.is_.eta) == (False, check.event.eta)
    check.check_left(check.freed)


def _check_overdue(check: StockCheck) -> None:
    """Its day is past; the batch is the same, as far as no line leaves it."""
    assert check.is_.eta is not None
    assert (check.is_.eta, check.is_.purchased_quantity) == (check.was.eta, check.was.purchased_quantity)
    assert check.is_.eta < check.after.today
    check.check_left(check.freed)


def _check_expired(check: StockCheck) -> None:
    """Its last day is past, and nobody has stock of it any more."""
    assert check.is_.expires_on is not None
    assert check.is_.expires_on < check.after.today
    assert check.after.open_on(check.ref) == []


def _check_receipt(check: StockCheck) -> None:
    event, was, is_ = check.event, check.was, check.is_
    assert was.eta is not None
    due = incoming_of(was)
    assert due > 0
    qty = due if event.qty is None else event.qty
    is_partial = qty < due and event.rest == "expected"
    is_apart = event.quarantine is not None and (is_partial or was.arrived_quantity is not None)
    assert is_.inspect_quantity == was.inspect_quantity + (qty if is_apart else 0)
    free = 0 if is_apart else qty
    assert arrived_of(is_) == arrived_of(was) + free
    if is_partial:
        assert is_.eta == (event.rest_eta or was.eta)
        assert is_.purchased_quantity == was.purchased_quantity - qty + free
        check.check_lost(is_.purchased_quantity)
        check.check_served(free)
    else:
        assert (is_.eta, is_.last_eta, event.rest_eta) == (None, was.eta, None)
        assert is_.quarantine == (was.quarantine if is_apart else event.quarantine or was.quarantine)
        check.check_lost(arrived_of(was) + free)


def _check_undone(check: StockCheck) -> None:
    """Goods in inspection are the first that had not come: no line has them."""
    was, is_ = check.was, check.is_
    came = arrived_of(was) + was.inspect_quantity
    undone = came if check.event.qty is None else check.event.qty
    assert 0 < undone <= on_hand_of(was)
    blocked = min(undone, was.inspect_quantity)
    left = arrived_of(was) - undone + blocked
    assert (arrived_of(is_), is_.inspect_quantity) == (left, was.inspect_quantity - blocked)
    assert is_.purchased_quantity == was.purchased_quantity + blocked
    assert is_.eta == (was.eta or was.last_eta or NO_DAY)
    if undone == came:
        check.check_left(check.freed)
        return
    check.check_lost(left if was.eta is None else was.purchased_quantity, left, least_harm=False)


def _check_difference(check: StockCheck, by: int) -> None:
    was, is_ = check.was, check.is_
    assert arrived_of(was) + by >= was.shipped_quantity
    assert on_hand_of(is_) == on_hand_of(was) + by
    assert (is_.eta, is_.purchased_quantity) == (was.eta, was.purchased_quantity + by)
    check.check_lost(is_.purchased_quantity, arrived_of(is_))


def _check_count(check: StockCheck) -> None:
    """The shelf held so much at the count; what came and left since is added."""
    event, was = check.event, check.was
    assert was.counted_at is None or event.counted_at is None or event.counted_at >= was.counted_at
    since = 0 if event.counted_at is None else on_hand_of(was) - check.on_hand_at(check.ref, event.counted_at)
    _check_difference(check, event.on_hand + since - on_hand_of(was))


def _check_correction(check: StockCheck) -> None:
    event, was, is_ = check.event, check.was, check.is_
    for name in ("eta", "expires_on", "location", "delivery"):
        kept = None if name == event.clear else getattr(was, name)
        assert getattr(is_, name) == (getattr(event, name) or kept)
    assert is_.purchased_quantity == was.purchased_quantity
    check.check_left(check.freed)


def _check_move(check: StockCheck) -> None:
    """The whole batch moves: its lines follow, unless they would be late, or all of them are called."""
    event, was, is_ = check.event, check.was, check.is_
    assert (is_.location, is_.eta) == (event.to_location, event.eta or was.eta)
    if event.keep_lines:
        check.check_left(check.freed)
    else:
        assert set(check.freed) == {line.orderid for line in check.stood}


def _check_part_moved(check: StockCheck) -> None:
    """Free stock moves first. The lines that do not fit any more follow, as far as they fit, or are called."""
    event, was, is_ = check.event, check.was, check.is_
    part = check.after.batches[event.new_ref or f"{event.ref}@{event.to_location}"]
    assert part.ref not in check.before.batches
    assert on_hand_of(is_) == on_hand_of(was) - event.qty
    assert (part.sku, part.purchased_quantity, part.location, part.eta) == (
        *(was.sku, event.qty, event.to_location, event.eta),
    )
    assert (part.expires_on, part.delivery, part.quarantine) == (was.expires_on, was.delivery, was.quarantine)
    left = arrived_of(was) - event.qty
    lost = check.losers(was.purchased_quantity - event.qty, left)
    assert check.freed == [line.orderid for line in lost]
    room = event.qty if event.keep_lines and part.quarantine is None else 0
    for line in sorted(lost, key=lambda line: check.rules.service_key(line, check.version)):
        if line.qty <= room and check.after.lasts(replace(line, arrived=False), part.ref):
            room -= line.qty
            now = check.after.lines[was.sku, line.orderid]
            assert now.batchref == part.ref, f"{check}: {line} did not follow, it is on {now.batchref}"


def _check_delivery(event: DeliveryEtaChanged | DeliveryReceived, before: Snapshot, after: Snapshot) -> None:
    """All that is due with it has the day, or is in the warehouse; no other batch is touched by it."""
    assert any(was.delivery == event.delivery and incoming_of(was) for was in before.batches.values())
    for ref, was in before.batches.items():
        is_ = after.batches[ref]
        if was.delivery != event.delivery or not incoming_of(was):
            assert (is_.eta, is_.purchased_quantity) == (was.eta, was.purchased_quantity)
        elif isinstance(event, DeliveryEtaChanged):
            assert is_.eta == event.eta
        else:
            assert (is_.eta, is_.purchased_quantity, is_.last_eta) == (None, was.purchased_quantity, was.eta)


def _check_transfer(check: StockCheck) -> None:
    if check.event.qty is None:
        _check_move(check)
    else:
        _check_part_moved(check)


CHECKS: Mapping[type[Event], Callable[[StockCheck], None]] = {
    BatchQuantityChanged: _check_recount,
    BatchEtaChanged: _check_delay,
    BatchExpired: _check_expired,
    DeliveryOverdue: _check_overdue,
    BatchReceived: _check_receipt,
    ReceiptUndone: _check_undone,
    StockAdjusted: lambda check: _check_difference(check, check.event.by),
    BatchCounted: _check_count,
    BatchCorrected: _check_correction,
    StockTransferred: _check_transfer,
}


def check_stock(event: Event, raised: Sequence[Event], before: Snapshot, after: Snapshot, on_hand_at: OnHandAt) -> None:
    """By the kind of event."""
    if type(event) in CHECKS:
        CHECKS[type(event)](StockCheck(event, raised, before, after, on_hand_at))
    elif isinstance(event, DeliveryEtaChanged | DeliveryReceived):
        _check_delivery(event, before, after)
    elif isinstance(event, AllocationRequired | StockHeld):
        name = event.orderid if isinstance(event, AllocationRequired) else event.holdid
        assert (event.sku, name) in before.lines or not before.products[event.sku].retired

"""Stock as the warehouse knows it: bought, due, received, counted, corrected, moved, and blocked.

Each method looks, refuses, and tells facts. It calls the lines that lose their stock, and the waiting lines that can
get some.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

from allocation.domain import events
from allocation.domain.batches import Batch
from allocation.domain.calling import CallingLines
from allocation.domain.errors import (
    BatchArrived,
    BatchClosed,
    BatchConflict,
    CountImpossible,
    CountOutdated,
    FarDay,
    InvalidMessage,
    NotArrived,
    NothingDue,
    NotOnHand,
    ShippedAlready,
)
from allocation.domain.fields import CLOSED, EXPECTED, MAX_TEXT_LENGTH
from allocation.domain.harm import Placing, Solver, no_solver
from allocation.domain.lines import NO_DAY, OrderLine, Promise
from allocation.domain.rules import is_hold
from allocation.domain.standing import part_created
from allocation.domain.state import DayOf
from allocation.domain.stock import Arrived

MOST_AWAY: Final = timedelta(days=3_653)  # ten years


class Warehouse(CallingLines):
    """The rules of a product's stock."""

    def add_batch(self, batch: Batch) -> None:
        """Take a new batch in, and call the waiting lines it can serve.

        The same batch again changes nothing; another one under its reference raises `BatchConflict`, and if it was
        cut to nothing since, `BatchClosed`.
        """
        known = self.batch(batch.reference)
        if known is not None:
            known.check_is_same(batch)
            if known.purchased_quantity == 0 < batch.purchased_quantity and not known.inspect_quantity:
                raise BatchClosed(batch.reference)
            return
        self._check_days(eta=None if batch.eta == NO_DAY else batch.eta, expires_on=batch.expires_on)
        self._take(batch, batch.bought_as)
        self._call_lines(batch)

    def change_batch_quantity(self, ref: str, qty: int, solve: Solver = no_solver) -> None:
        """Set a batch's purchased quantity and free the lines that no longer fit: the newest, no more than needed.

        Lines of a higher priority, and those needed soon, keep their stock longest; holds lose it first. The freed
        lines, and the waiting ones that will find room, are called in the order of service.
        """
        batch = self._known_batch(ref)
        sold = qty - batch.inspect_quantity
        if batch.purchased_quantity == sold:
            return
        batch.check_quantity(qty)
        fact = events.BatchQuantityChanged(ref, qty)
        if batch.arrived is not None and sold <= batch.arrived.quantity:  # nothing is due any more
            self._change_day(batch, fact, sold, solve)
        else:
            self._change(batch, fact, sold, None, solve)

    def change_batch_eta(self, ref: str, eta: date, solve: Solver = no_solver) -> None:
        """A batch is due on another day. Lines that would be late there, and less late on another batch, move.

        All others keep their batch and are promised for the new day. Raises `BatchArrived` if nothing of it is due.
        """
        batch = self._known_batch(ref)
        if batch.eta is None:
            raise BatchArrived(ref, eta)
        self._check_days(eta=eta)
        self._change_day(batch, events.BatchEtaChanged(ref, eta), batch.purchased_quantity, solve)

    def change_delivery_eta(self, refs: Iterable[str], eta: date, solve: Solver = no_solver) -> None:
        """The same for several batches, which are due together: no line moves from one of them to another."""
        self._check_days(eta=eta)
        self._change_days({ref: events.BatchEtaChanged(ref, eta) for ref in refs}, solve)

    def receive_batch(self, event: events.BatchReceived, solve: Solver = no_solver) -> None:
        """A batch arrived, or some of it: then the rest is due, or closed.

        Lines on the batch get the arrived stock in the order of service; every other line keeps its place and its day,
        unless it does not fit into the batch any more. Blocked goods are for no line until they are released.
        """
        batch = self._known_batch(event.ref)
        due = batch.incoming_quantity
        if due == 0:
            raise NothingDue(event.ref)
        self._check_days(rest_eta=event.rest_eta)
        qty = due if event.qty is None else event.qty
        if event.rest_eta is not None and (event.rest == CLOSED or qty >= due):
            raise InvalidMessage(
                f"rest_eta is {event.rest_eta}, and nothing of batch {event.ref} would be due any more",
                "Leave out rest_eta, or give the quantity that arrived, with the rest expected.",
            )
        is_partial = qty < due and event.rest == EXPECTED
        blocked = qty if event.quarantine is not None and (is_partial or batch.arrived is not None) else 0
        left = batch.purchased_quantity if is_partial else batch.arrived_quantity + qty
        self._change_day(batch, event, left - blocked, solve)

    def receive_delivery(self, refs: Iterable[str], solve: Solver = no_solver) -> None:
        """The whole quantity due of several batches arrived."""
        self._change_days({ref: events.BatchReceived(ref) for ref in refs}, solve)

    def undo_receipt(self, ref: str, qty: int | None, solve: Solver = no_solver) -> None:
        """A receipt, or some of it, had not come: the quantity is due again. Raises `ShippedAlready`.

        The newest lines that no longer fit lose their stock and are called.
        """
        batch = self._known_batch(ref)
        came = batch.arrived_quantity + batch.inspect_quantity
        undone = came if qty is None else qty
        if came == 0:
            raise NotArrived(ref)
        if undone > batch.on_hand_quantity:
            raise ShippedAlready(ref, undone, batch.on_hand_quantity, batch.shipped_quantity)
        fact = events.ReceiptUndone(ref, qty)
        if undone == came:
            self._change_day(batch, fact, batch.purchased_quantity + batch.inspect_quantity, solve)
            return
        before, was_here = self._days_on(batch), batch.eta is None
        freed = self._over(batch, min(came - undone, batch.arrived_quantity))
        self._tell_stock(fact)
        self._free_all(freed, batch, before)
        if was_here:
            self._serve(list(batch.lines_to_lose()), batch, arrived=True)
        self._call_lines(batch, freed)

    def count_batch(
        self,
        event: events.BatchCounted,
        now: datetime,
        moved: Callable[[datetime], int],
        solve: Solver = no_solver,
    ) -> None:
        """The quantity in the warehouse as of a count; ``moved`` gives the receipts less the shipments since a time.

        A difference is an adjustment. Raises `NotArrived`, `CountOutdated` or `CountImpossible`.
        """
        batch = self._known_batch(event.ref)
        counted_at = event.counted_at or now
        if counted_at > now:
            raise InvalidMessage(f"counted_at is {counted_at}, which is in the future", "Give the time of the count.")
        if batch.counted_at is not None and counted_at < batch.counted_at:
            raise CountOutdated(event.ref, counted_at, batch.counted_at)
        known = batch.on_hand_quantity
        since = 0 if counted_at == now else moved(counted_at) + known - batch.on_hand_stored
        on_hand = event.on_hand + since
        if batch.eta is not None and batch.arrived_quantity == 0 and known == 0 < on_hand:
            raise NotArrived(event.ref)
        if on_hand < batch.inspect_quantity:
            raise CountImpossible(event.ref, event.on_hand, batch.inspect_quantity - since)
        self._adjust(
            batch, events.StockCounted(self.sku, event.ref, on_hand, known, counted_at), on_hand - known, solve
        )

    def adjust_batch(self, event: events.StockAdjusted, solve: Solver = no_solver) -> None:
        """The warehouse has more of the batch than was known, or less. Raises `NotArrived` or `NotOnHand`."""
        batch = self._known_batch(event.ref)
        on_hand = batch.arrived_quantity - batch.shipped_quantity
        if event.by == 0:
            raise InvalidMessage("by is 0", "Give the quantity that was found, or with a minus sign is missing.")
        if batch.arrived_quantity == 0 and batch.eta is not None:
            raise NotArrived(event.ref)
        if on_hand + event.by < 0:
            raise NotOnHand(event.ref, -event.by, on_hand)
        self._adjust(batch, event, event.by, solve)

    def correct_batch(self, event: events.BatchCorrected, solve: Solver = no_solver) -> None:
        """A batch was entered wrongly. Lines that it does not suit any more are called, and so are those it suits now.

        Stock in the warehouse with an ETA becomes incoming, which raises `ShippedAlready` if some of it was shipped.
        """
        batch = self._known_batch(event.ref)
        if not any((event.eta, event.expires_on, event.location, event.delivery, event.clear)):
            raise InvalidMessage(f"Nothing of batch {event.ref} is corrected", "Give a right value, or one to clear.")
        if event.clear is not None and getattr(event, event.clear) is not None:
            raise InvalidMessage(
                f"{event.clear} of batch {event.ref} is {getattr(event, event.clear)}, and is to be cleared",
                "Give a right value, or clear the wrong one.",
            )
        self._check_days(eta=event.eta, expires_on=event.expires_on)
        if event.eta is not None and batch.eta is None and batch.shipped_quantity:
            raise ShippedAlready(event.ref, batch.purchased_quantity, batch.on_hand_quantity, batch.shipped_quantity)
        self._change_day(batch, event, batch.purchased_quantity, solve)

    def transfer_stock(self, event: events.StockTransferred, solve: Solver = no_solver) -> None:
        """Stock moves to another location: the whole batch, or a part, which becomes a batch of its own.

        Free stock moves first. The lines on the stock that moves follow, or are called (``keep_lines``).
        """
        batch = self._known_batch(event.ref)
        self._check_days(eta=event.eta)
        if event.qty is not None:
            self._transfer_part(batch, event, event.qty)
            return
        if event.new_ref is not None:
            raise InvalidMessage(f"new_ref is {event.new_ref}, and no part is transferred", "Give the quantity, too.")
        if event.eta is not None and (batch.eta is not None or batch.shipped_quantity):
            state = "is due anyway" if batch.eta is not None else "was shipped in part"
            raise InvalidMessage(
                f"eta is {event.eta}, and batch {event.ref} {state}",
                "Transfer the quantity on hand as a part, or change the ETA of the batch.",
            )
        freed = None if event.keep_lines else list(batch.lines_to_lose())
        self._change_day(batch, event, batch.purchased_quantity, solve, freed)

    def quarantine_batch(self, ref: str, reason: str, *, keep_lines: bool) -> None:
        """The batch must not be sold any more. Its lines are freed and called, unless they keep it."""
        batch = self._known_batch(ref)
        before = self._days_on(batch)
        freed = [] if keep_lines else list(batch.lines_to_lose())
        self._tell_stock(events.BatchQuarantined(ref, reason, keep_lines))
        self._free_all(freed, batch, before)
        self._call_lines(batch, freed)

    def release_batch(self, ref: str) -> None:
        """The batch may be sold again, and its goods in inspection: the waiting lines it can serve are called."""
        batch = self._known_batch(ref)
        fact = events.BatchReleased(ref)
        if batch.eta is not None and batch.inspect_quantity:  # which arrive by being released
            self._change_day(batch, fact, batch.purchased_quantity + batch.inspect_quantity)
        else:
            self._tell_stock(fact)
            self._call_lines(batch)

    def retire_product(self) -> None:
        """Take no new lines and holds. Existing lines keep their stock, or wait for it."""
        if not self.retired:
            self._tell_stock(events.ProductRetired(self.sku))

    def reinstate_product(self) -> None:
        """Take new lines again."""
        if self.retired:
            self._tell_stock(events.ProductReinstated(self.sku))

    # Steps that the rules above share

    def _take(self, batch: Batch, fact: events.Event) -> None:
        """A new batch comes with the fact."""
        self._changed_batches[batch.reference] = batch
        self._tell_stock(fact)
        insort(self.batches, batch, key=self.rules.order)
        self._arrange()

    def _check_days(self, **days: date | None) -> None:
        """Raise `FarDay` for a day that nobody means. Goods that expire on the last day there is never expire."""
        for name, day in days.items():
            if day is None or (name, day) == ("expires_on", date.max):
                continue
            if date.min < self.today.day < day - MOST_AWAY:
                raise FarDay(name, day)

    def _over(self, batch: Batch, arrived: int) -> Sequence[OrderLine]:
        """The lines that do not fit into the rest of the arrived stock."""
        self._plan.clear()
        if batch.eta is None:
            return batch.lines_over(arrived, self._is_spared)
        return batch.lines_over(batch.purchased_quantity, self._is_spared, arrived=arrived)

    def _change(self, batch: Batch, fact: events.Event, qty: int, arrived: int | None, solve: Solver) -> None:
        """The batch has another quantity: the lines that do not fit are called, and the waiting lines that fit."""
        before = self._days_on(batch)
        self._plan = self._plan_for(batch, qty, solve)
        freed = batch.lines_over(qty, self._is_spared, arrived=arrived)
        self._tell_stock(fact)
        self._free_all(freed, batch, before)
        self._call_lines(batch, freed)

    def _adjust(self, batch: Batch, fact: events.Event, by: int, solve: Solver) -> None:
        arrived = None if batch.arrived is None else batch.arrived.quantity + by
        self._change(batch, fact, batch.purchased_quantity + by, arrived, solve)

    def _change_day(
        self,
        batch: Batch,
        fact: events.Event,
        qty: int,
        solve: Solver = no_solver,
        freed: Sequence[OrderLine] | None = None,
    ) -> None:
        """The batch is there on another day: lines that do not fit into that quantity are called, and late ones.

        ``freed`` are the lines that lose it, if not the lines that do not fit. All others get to know their new day.
        """
        day_of, was_in_parts = self._days_on(batch), batch.arrived is not None
        self._plan = self._plan_for(batch, qty, solve)
        over = batch.lines_over(qty, self._is_spared) if freed is None else freed
        self._tell_stock(fact)
        self._free_all(over, batch, day_of)
        before = self._serve_again(batch, fact, day_of, was_in_parts=was_in_parts)
        late = self._leave_late(
            batch,
            before,
            solve,
            [],
            is_other=isinstance(fact, events.BatchCorrected),
            later=self._will_move_up([batch]),
        )
        self._call_lines(batch, [*over, *late])

    def _change_days(self, facts: Mapping[str, events.Event], solve: Solver) -> None:
        """Several batches, by reference, are there on another day. Lines are called when all of them have theirs."""
        self._plan.clear()
        batches = [self._known_batch(ref) for ref in facts]
        known = [(self._days_on(batch), batch.arrived is not None) for batch in batches]
        for batch in batches:
            self._tell_stock(facts[batch.reference])
        days = [
            self._serve_again(batch, facts[batch.reference], day_of, was_in_parts=was_in_parts)
            for batch, (day_of, was_in_parts) in zip(batches, known, strict=True)
        ]
        placed: list[Placing] = []
        later = self._will_move_up(batches)
        left = [
            self._leave_late(batch, before, solve, placed, later=later)
            for batch, before in zip(batches, days, strict=True)
        ]
        self._call_lines(None, [line for lines in left for line in lines])
        self._move_up_after(batches)

    def _leave_late(
        self,
        batch: Batch,
        before: DayOf,
        solve: Solver,
        placed: list[Placing],
        *,
        later: bool,
        is_other: bool = False,
    ) -> Sequence[OrderLine]:
        """Free the lines that are late on the batch, and sooner on another; tell all others their new day.

        Lines that the batch does not last for leave it, too. Only lines with another day than before are looked at,
        or all if it is another batch in other ways. Other batches are without the room of lines that are ``placed``
        there already, to which these are added. They learn their days ``later`` if late lines will be moved up.
        """
        after = self._days_on(batch)
        staying = [line for line in batch.lines_to_lose() if is_other or after(line) != before(line)]
        late = [line for line in staying if batch.source_of(line) is batch]
        placings = self._leaving(placed).of_late(batch, late, solve, self._lost_on(batch, staying))
        self._plan.add(placings)
        placed += placings
        leaving = {placing.line.orderid: placing.line for placing in placings}
        for line in staying:
            if line.orderid in leaving:
                self._free(Promise(line, batch.reference), before(line))
            elif not is_hold(line):
                self._tell_day(line, before(line), after(line), later=later)
        return [*leaving.values()]

    def _serve_again(self, batch: Batch, fact: events.Event, day_of: DayOf, *, was_in_parts: bool) -> DayOf:
        """The lines have stock that has arrived as far as it has, while the rest is due.

        ``day_of`` is the day of a line before the fact; return the same for the lines as they are now. The lines are
        read only if some may have other stock.
        """
        served: set[str] = set()
        if batch.arrived is None and was_in_parts:
            served = self._serve(list(batch.lines_to_lose()), batch, arrived=False)
        elif batch.arrived is not None and isinstance(fact, events.BatchReceived | events.BatchReleased):
            served = self._serve_arrived(batch, batch.arrived)
        return lambda line: day_of(replace(line, arrived=not line.arrived) if line.orderid in served else line)

    def _serve_arrived(self, batch: Batch, arrived: Arrived) -> set[str]:
        """Lines on the batch get stock that has arrived, in the order of service, as far as they fit and it lasts."""
        lines = []
        room = arrived.quantity - arrived.allocated_quantity
        choice = self.choice()
        for line in sorted(batch.lines_to_lose(), key=self._service_key):
            if not line.arrived and line.qty <= room and choice.lasts_for(arrived, line):
                room -= line.qty
                lines.append(line)
        return self._serve(lines, batch, arrived=True)

    def _serve(self, lines: Iterable[OrderLine], batch: Batch, *, arrived: bool) -> set[str]:
        """Tell the lines whose stock has arrived, or is due, and was not until now; return their order ids."""
        served = [line for line in lines if line.arrived != arrived]
        for line in served:
            fact = events.Served(line.orderid, self.sku, line.qty, batch.reference, arrived)
            self._tell(fact, Promise(line, batch.reference))
        return {line.orderid for line in served}

    def _transfer_part(self, batch: Batch, event: events.StockTransferred, qty: int) -> None:
        on_hand = batch.arrived_quantity - batch.shipped_quantity
        if qty > on_hand:
            raise NotOnHand(event.ref, qty, on_hand)
        part = Batch.bought(part_created(batch, event))
        if len(part.reference) > MAX_TEXT_LENGTH:
            raise InvalidMessage(
                f"Batch {part.reference} has more than {MAX_TEXT_LENGTH} characters in its reference", "Give new_ref."
            )
        if (known := self.batch(part.reference)) is not None:
            raise BatchConflict(part.reference, known.created)
        before = self._days_on(batch)
        left = batch.arrived_quantity - qty
        self._plan.clear()
        freed = batch.lines_over(batch.purchased_quantity - qty, self._is_spared, arrived=left)
        self._take(part, event)
        self._free_all(freed, batch, before)
        room = qty if event.keep_lines else 0
        lost = self._lost_on(part, freed)
        for line in sorted(freed, key=self._service_key):
            if line.qty <= room and line not in lost:
                room -= line.qty
                self._plan.add([Placing(line, part.key)])
        self._call_lines(None, freed)
        self._move_up_after([batch, part])

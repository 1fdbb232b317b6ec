"""Products: their batches and the lines promised from them.

A product is loaded in part: the batches with room, and of its lines only those asked about. Whatever else a
rule needs (the newest lines of a batch, the oldest that wait) it draws from `Records`, page by page. A product
made without records knows everything it has, so that the rules run on plain objects.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, datetime
from typing import Final, NamedTuple

from allocation.domain import events
from allocation.domain.batches import Batch
from allocation.domain.errors import (
    BatchArrived,
    HoldConflict,
    HoldEndedAlready,
    HoldStillRuns,
    LineClosed,
    LineConflict,
    LineWasSplit,
    NotEnoughStock,
    NotPinnable,
    NotReturnable,
    NotShippable,
    TooManyWaiting,
    UnknownLine,
)
from allocation.domain.harm import Placing, Solver, no_solver
from allocation.domain.holds import checked_moment, hold_of, running_hold
from allocation.domain.leaving import Leaving, stays
from allocation.domain.lines import (
    CANCELLED,
    CONFIRMED,
    EXPIRED,
    LOST,
    NO_RECORDS,
    PINNED_PRIORITY,
    RELEASED,
    RETURNED,
    SHIPPED,
    Miscount,
    OrderLine,
    Promise,
    Records,
    is_pinned,
    own_priority,
)
from allocation.domain.rules import USUAL, Choice, Room, Rules, is_hold, late_days
from allocation.domain.splitting import parts_of
from allocation.domain.waiting import WaitingLines

__all__ = ["NO_RECORDS", "Batch", "Miscount", "OrderLine", "Product", "Promise", "Records", "Rules"]

_NO_DAY: Final = date.min  # for products that are asked nothing about days


class _Freed(NamedTuple):
    """A line between losing one promise and getting the next, and the day it was promised for."""

    line: OrderLine
    before: date | None


class Product:
    """One SKU: its batches, and the lines promised from them or waiting. The aggregate and the unit of locking.

    ``version_number`` grows with every change and numbers what the change brings: it is the position of a new batch
    or line. ``changed_batches`` and ``changed_promises`` are what storage has yet to write. ``today`` is the day that
    promises of stock in the warehouse are for.
    """

    def __init__(  # noqa: PLR0913 - the seed's three, and what storage remembers
        self,
        sku: str,
        batches: Iterable[Batch],
        version_number: int = 0,
        *,
        waiting_lines: int = 0,
        rules: Rules = USUAL,
        today: date = _NO_DAY,
        records: Records = NO_RECORDS,
    ) -> None:
        self.sku = sku
        self.rules = rules
        self.batches = sorted(batches, key=rules.order)
        self.version_number = version_number
        self.waiting_lines = waiting_lines
        self.today = today
        self.events: list[events.Event] = []
        self.changed_batches: dict[str, Batch] = {}
        self.changed_promises: dict[str, Promise] = {}
        self._records = records
        self._freed: dict[str, _Freed] = {}
        self._waiting = WaitingLines(records)
        self._planned: dict[str, str] = {}  # the batches that lines now called are to go to, by order id
        self._repaired = False

    def __repr__(self) -> str:
        return f"<Product {self.sku}>"

    def promise(self, orderid: str) -> Promise | None:
        """Where the order's line stands; None if it was never taken, or just lost its batch."""
        known = self.changed_promises.get(orderid)
        if known is None and orderid not in self._freed:
            known = self._records.promise(orderid)
        return known

    def batch(self, ref: str) -> Batch | None:
        """The batch with that reference, whether it has room or not."""
        known = next((batch for batch in self.batches if batch.reference == ref), None)
        if known is None and (known := self._records.batch(ref)) is not None:
            insort(self.batches, known, key=self.rules.order)
        return known

    # Stock

    def add_batch(self, batch: Batch) -> None:
        """Take a new batch in, and call the waiting lines it can serve.

        The same batch again changes nothing; another one under its reference raises `BatchConflict`.
        """
        known = self.batch(batch.reference)
        if known is not None:
            known.check_is_same(batch)
            return
        batch.position = self._next_version()
        self.changed_batches[batch.reference] = batch
        insort(self.batches, batch, key=self.rules.order)
        self._call_lines(batch)

    def change_batch_quantity(self, ref: str, qty: int, solve: Solver = no_solver) -> None:
        """Set a batch's purchased quantity and free what no longer fits: the newest lines, no more than needed.

        Lines of a higher priority, those on hold least, and those needed soon stay longest. The freed lines, and the
        waiting ones that will find room, are called in the order they are served.
        """
        batch = self._known_batch(ref)
        if batch.purchased_quantity == qty:
            return
        batch.check_quantity(qty)
        self._planned = _planned(self._leaving().of_cut(batch, batch.allocated_quantity - qty, solve))
        self._change(batch)
        freed = batch.change_quantity(qty, self._is_spared)
        for line in freed:
            self._lost(line, batch)
        self._call_lines(batch, freed)

    def change_batch_eta(self, ref: str, eta: date, solve: Solver = no_solver) -> None:
        """A batch is due on another day. Lines that would come too late, and sooner on another batch, are re-placed.

        All others stay where they are, and are promised for the other day. Raises `BatchArrived` if it came already.
        """
        batch = self._known_batch(ref)
        if batch.eta is None:
            raise BatchArrived(batch, eta)
        self._change_day(batch, eta, batch.purchased_quantity, solve)

    def receive_batch(self, ref: str, qty: int | None, solve: Solver = no_solver) -> None:
        """A batch came into the warehouse; if it was counted, it has that quantity from now on."""
        batch = self._known_batch(ref)
        qty = batch.purchased_quantity if qty is None else qty
        batch.check_quantity(qty)
        self._change_day(batch, None, qty, solve)

    def quarantine_batch(self, ref: str, reason: str, *, keep_lines: bool) -> None:
        """Nothing is allocated to the batch any more. Its lines are freed and called, unless they are to keep it."""
        batch = self._known_batch(ref)
        self._change(batch)
        batch.put_in_quarantine(reason)
        freed = [] if keep_lines else list(batch.lines_to_lose())
        for line in freed:
            self._free(line, batch)
        self._call_lines(batch, freed)

    def release_batch(self, ref: str) -> None:
        """The batch may be sold again: the waiting lines it can serve are called."""
        batch = self._known_batch(ref)
        self._change(batch)
        batch.put_in_quarantine(None)
        self._call_lines(batch)

    def change_rules(self, rules: Rules) -> None:
        """Allocate by these rules from now on. Promises stay; waiting lines that may be served now are called."""
        self._next_version()
        self.rules = rules
        self.batches.sort(key=rules.order)
        self._call_lines(None)

    # Lines

    def allocate(self, line: OrderLine) -> str | None:
        """Promise the whole line from the first batch with room, and return the batch's reference.

        A line that no batch can take waits: None; one that may be split gets from the batches what they have, and only
        the rest waits. The same line again gets the same answer and changes nothing; the same line with another
        quantity, day or priority raises `LineConflict`, one that was closed `LineClosed`.
        """
        known = self.promise(line.orderid)
        if known is not None:
            self._check_is_same(known, line)
            if known.batchref is not None:
                return known.batchref
            line = known.line
        elif line.orderid in self._freed:
            line = self._freed[line.orderid].line
        batch = self._choose(line)
        if batch is None:
            return self._split_or_wait(line, is_waiting=known is not None)
        if known is not None:
            self._serve(line)
        elif line.orderid not in self._freed:
            line = self._taken(line)
        self._promise(line, batch)
        return batch.reference

    def parts(self, orderid: str) -> list[Promise]:
        """Where the order's line stands, and the parts that follow it, but for those that were closed and have gone."""
        found = []
        known = self.promise(orderid)
        while known is not None:
            found.append(known)
            known = self._next_part(known.line) if known.line.rest else None
        return found

    def cancel_allocation(self, orderid: str) -> None:
        """Take a line back, wherever it stands, and call the waiting lines that its stock can serve.

        The first part stands for the line: all parts that are still open go with it. A later one goes alone.
        """
        known = self.promise(orderid)
        parts = self.parts(orderid) if known is None or known.line.part == 1 else [known]
        still_open = [part for part in parts if part.closed is None]
        if not still_open or is_hold(still_open[0].line):
            self._open_line(orderid, already=CANCELLED)
            return
        freed = [batch for part in still_open if (batch := self._cancel(part)) is not None]
        if len(freed) == 1:
            self._call_lines(freed[0])
        elif freed:
            self._call_lines(None)
            self._ask_to_move_up(freed)

    def change_line_quantity(self, orderid: str, qty: int) -> str | None:
        """Set what the customer wants of a line. It stays on its batch if that has room, otherwise it is re-placed."""
        line, batchref, _ = self._open_line(orderid)
        if line.rest:
            raise LineWasSplit(line, self.parts(orderid)[-1].line.orderid)
        if line.qty == qty:
            return batchref
        self._next_version()
        resized = replace(line, qty=qty)
        if batchref is None:
            self._waiting.discard(line)
            self._waiting.add(resized)
            self.changed_promises[orderid] = Promise(resized, None)
            self.events.append(events.Resized(orderid, self.sku, qty, line.qty))
            if self._choose(resized) is not None:
                self._require(resized)
            return None
        batch = self._known_batch(batchref)
        if qty < line.qty or self._can_grow(line, resized, batch):
            batch.deallocate(line)
            batch.allocate(resized)
            self.changed_batches[batchref] = batch
            self.changed_promises[orderid] = Promise(resized, batchref)
            self.events.append(events.Resized(orderid, self.sku, qty, line.qty))
            if qty < line.qty:
                self._call_lines(batch)
            return batchref
        self._free(line, batch)
        self._freed[orderid] = _Freed(resized, self._freed[orderid].before)
        self.events.append(events.Resized(orderid, self.sku, qty, line.qty))
        self._call_lines(batch, [resized])
        return None

    def ship_line(self, orderid: str) -> str:
        """A line leaves the warehouse with its stock; return the batch it was taken from."""
        line, batchref, closed = self._open_line(orderid, already=SHIPPED)
        if closed is not None and batchref is not None:
            return batchref
        if batchref is None:
            raise NotShippable(line, "it waits for stock", "Ship it when it is allocated.")
        batch = self._known_batch(batchref)
        if batch.eta is not None:
            raise NotShippable(line, f"batch {batchref} is due {batch.eta}", "Receive the batch first.")
        if batch.quarantine is not None:
            raise NotShippable(line, f"batch {batchref} is in quarantine", "Release the batch first, or move the line.")
        self._change(batch)
        batch.ship(line)
        self.changed_promises[orderid] = Promise(line, batchref, SHIPPED)
        self.events.append(events.Shipped(orderid, self.sku, line.qty, batchref))
        return batchref

    def return_line(self, orderid: str, qty: int | None, *, scrapped: bool) -> None:
        """A shipped line, or so much of it, comes back into its batch, for whom waits for it, or is scrapped."""
        known = self.promise(orderid)
        if known is None or is_hold(known.line):
            raise UnknownLine(orderid, self.sku)
        line, batchref, closed = known
        if closed == RETURNED and qty in (None, line.qty):
            return
        if closed != SHIPPED or batchref is None or (qty is not None and qty > line.qty):
            raise NotReturnable(line, qty, line.qty if closed == SHIPPED else 0)
        back = line.qty if qty is None else qty
        kept = line.qty - back
        batch = self._known_batch(batchref)
        self._change(batch)
        batch.take_back(back, scrapped=scrapped)
        self.changed_promises[orderid] = (
            Promise(replace(line, qty=kept), batchref, SHIPPED) if kept else Promise(line, None, RETURNED)
        )
        self.events.append(events.Returned(orderid, self.sku, back, batchref, kept))
        if scrapped:
            self.events.append(events.StockScrapped(self.sku, batchref, back))
        else:
            self._call_lines(batch)

    def pin_line(self, orderid: str, ref: str) -> None:
        """Put a line on a batch, where it stays as long as that has stock for it; if not, it is served first.

        Lines that have to make room for it are freed and called.
        Those are the newest of the lowest priority. Pinned lines make no room, nor do lines needed soon.
        """
        line, batchref, _ = self._open_line(orderid)
        batch = self._known_batch(ref)
        if batchref == ref and is_pinned(line.priority):
            return
        if batch.quarantine is not None:
            raise NotPinnable(line, ref, "it is in quarantine", "Release the batch first.")
        displaced = [] if batchref == ref else self._leaving().for_pinned(batch, line)
        pinned = replace(line, priority=PINNED_PRIORITY + own_priority(line.priority))
        self._next_version()
        before = self._take_up(line, batchref)
        for each in displaced:
            self._free(each, batch)
        self.events.append(events.Pinned(orderid, self.sku, line.qty, ref))
        if before is not None:
            self._freed[orderid] = _Freed(pinned, before)
        self._promise(pinned, batch, by_hand=True)
        self._call_lines(None, displaced)

    def move_up(self) -> None:
        """Free the lines promised too late that come in time on another batch, and call them.

        They go by priority, then by age, and no more of them than the rules let one change move. Pinned lines and holds
        stay. Waiting lines that may be served by what they leave are called too.
        """
        self._next_version()
        room = self._room()
        choice = self._choice(room)
        moved: list[OrderLine] = []
        for line, batchref, _ in self._late_lines(choice):
            if len(moved) == self.rules.most_moved:
                break
            better = choice.on_time(line)
            if better is not None:
                room[better.reference] -= line.qty
                self._planned[line.orderid] = better.reference
                self._free(line, self._known_batch(batchref or ""))
                moved.append(line)
        self._call_lines(None, moved)

    # Holds

    def hold_stock(self, hold: OrderLine, now: datetime) -> str:
        """Keep stock for a cart until its hold expires, and return the batch; a later moment extends the hold.

        It counts as allocated. A hold does not wait: without room it raises `NotEnoughStock`.
        """
        until = checked_moment(hold.expires_at, now)
        hold = replace(hold, expires_at=until)
        known = self.promise(hold.orderid)
        if known is None:
            batch = self._choose(hold)
            if batch is None:
                raise NotEnoughStock(self.sku, hold.qty)
            self._hold(self._taken(hold), batch)
            return batch.reference
        held, batchref, _ = running_hold(known, now)
        if held.qty != hold.qty:
            raise HoldConflict(held)
        if held.expires_at is None or held.expires_at < until:
            batch = self._known_batch(batchref or "")
            batch.deallocate(held)
            self._next_version()
            self._hold(replace(held, expires_at=until), batch)
        return batchref or ""

    def confirm_hold(self, holdid: str, orderid: str, now: datetime) -> str | None:
        """What a cart holds becomes a line of the order, on the batch it is held of; return the batch.

        Again, it is the batch that the line stands on by now, or None while it waits.
        """
        known = hold_of(self.promise(holdid), holdid)
        line = self.promise(orderid)
        if line is not None and is_hold(line.line):
            raise HoldConflict(line.line)
        if known.closed == CONFIRMED and line is not None and line.line.qty == known.line.qty:
            return line.batchref
        hold, batchref, _ = running_hold(known, now)
        if line is not None:
            raise LineConflict(line.line, OrderLine(orderid, self.sku, hold.qty))
        batch = self._known_batch(batchref or "")
        taken = self._taken(OrderLine(orderid, self.sku, hold.qty))  # first, as the ledger has it in its cause's row
        self._end_hold(hold, batch, CONFIRMED)
        self._promise(taken, batch)
        return batch.reference

    def release_hold(self, holdid: str) -> None:
        """Give back what a cart holds, and call the waiting lines that its stock can serve."""
        self._give_back(hold_of(self.promise(holdid), holdid), RELEASED)

    def expire_hold(self, holdid: str, now: datetime) -> None:
        """Give back what a cart held, now that its moment has come. Raises `HoldStillRuns` before that."""
        known = hold_of(self.promise(holdid), holdid)
        if known.line.expires_at is not None and known.line.expires_at > now and known.closed is None:
            raise HoldStillRuns(known.line)
        self._give_back(known, EXPIRED)

    # The books

    def repair_counters(self) -> None:
        """Set the counters to what the lines add up to. No promise is touched, and none is called to be served.

        How far a counter is off does not change with what was promised since loading, for that moves both alike.
        """
        miscounts = [] if self._repaired else self._records.miscounts()
        self._repaired = True
        for miscount in miscounts:
            if miscount.batchref is None:
                self._repair_waiting_lines(miscount.excess)
            elif (batch := self.batch(miscount.batchref)) is not None and batch.repair(miscount):
                self._record_repair(batch, miscount)

    def leave_changes(self) -> bool:
        """Be as if loaded anew, with all that was changed in the records; False if not all of it can be there."""
        if self._records is NO_RECORDS or self._freed or self.events:
            return False
        for batch in self.changed_batches.values():
            batch.leave_lines(self._records)
            if batch.available_quantity == 0:
                self.batches.remove(batch)
        self.changed_batches = {}
        self.changed_promises = {}
        self._waiting.clear()
        self._planned = {}
        self._repaired = False
        return True

    def _record_repair(self, batch: Batch, miscount: Miscount) -> None:
        """Each counter that was off is a change of its own."""
        repaired = (
            (events.AllocatedQuantityRepaired, miscount.excess, batch.allocated_quantity),
            (events.ShippedQuantityRepaired, miscount.shipped_excess, batch.shipped_quantity),
        )
        for fact, excess, counted in repaired:
            if excess:
                self._change(batch)
                self.events.append(fact(self.sku, batch.reference, counted + excess, counted))

    def _repair_waiting_lines(self, excess: int) -> None:
        self._next_version()
        stored = self.waiting_lines
        self.waiting_lines -= excess
        self.events.append(events.WaitingLinesRepaired(self.sku, stored, self.waiting_lines))

    # What the rules above are made of

    def choice(self) -> Choice:
        """The batches as they are now, to look at for a line."""
        return self._choice(self._room())

    def _choice(self, room: Room) -> Choice:
        return Choice(self.batches, self.rules, self.today, room)

    def _room(self) -> dict[str, int]:
        return {batch.reference: batch.available_quantity for batch in self.batches}

    def _choose(self, line: OrderLine) -> Batch | None:
        if self._planned and (planned := self._planned.pop(line.orderid, "")):
            batch = self._known_batch(planned)
            if batch.can_allocate(line):
                return batch
        if self.rules is not USUAL or line.need_by is not None:
            return self.choice().of(line)
        for batch in self.batches:
            if batch.can_allocate(line):
                if batch.expires_on is not None:
                    return self.choice().of(line)
                return batch
        return None

    def _can_grow(self, line: OrderLine, resized: OrderLine, batch: Batch) -> bool:
        """Whether the line would be given its batch, if it were to be placed now; a pinned one needs but room there."""
        room = self._room()
        room[batch.reference] += line.qty
        if is_pinned(line.priority):
            return room[batch.reference] >= resized.qty
        return self._choice(room).can_take(batch, resized)

    def _known_batch(self, ref: str) -> Batch:
        batch = self.batch(ref)
        if batch is None:
            raise LookupError(f"product {self.sku} has no batch {ref}")
        return batch

    def _next_version(self) -> int:
        self.version_number += 1
        return self.version_number

    def _change(self, batch: Batch) -> None:
        self._next_version()
        self.changed_batches[batch.reference] = batch

    def _check_is_same(self, known: Promise, line: OrderLine) -> None:
        if is_hold(known.line):
            raise HoldConflict(known.line)
        taken = known.line
        is_same = line.qty in {taken.qty, taken.qty + taken.rest} and taken.need_by == line.need_by
        if not is_same or bool(taken.part) != bool(line.part) or own_priority(taken.priority) != line.priority:
            raise LineConflict(taken, line)
        if known.closed is not None and known.closed != SHIPPED:
            raise LineClosed(line.orderid, line.sku, known.closed)

    def _open_line(self, orderid: str, already: str | None = None) -> Promise:
        """The order's line. Raises `LineClosed` unless it is open, or ended as it is to end."""
        known = self.promise(orderid)
        if known is None or is_hold(known.line):
            raise UnknownLine(orderid, self.sku)
        if known.closed is not None and known.closed != already:
            raise LineClosed(orderid, self.sku, known.closed)
        return known

    def _taken(self, line: OrderLine) -> OrderLine:
        """A new line with its place among all others."""
        self.version_number += 1
        place = (self.version_number, line.need_by, line.priority, line.expires_at, line.part, line.rest)
        return OrderLine(line.orderid, line.sku, line.qty, *place)  # `replace` would take a dozen calls

    def _promise(self, line: OrderLine, batch: Batch, *, by_hand: bool = False) -> None:
        """A line gets stock of a batch. One that was pinned to another is not pinned to this, unless by hand."""
        if line.priority >= PINNED_PRIORITY and not by_hand:
            line = replace(line, priority=own_priority(line.priority))
        batch.allocate(line)
        self.changed_batches[batch.reference] = batch
        self.changed_promises[line.orderid] = Promise(line, batch.reference)
        self.events.append(events.Allocated(line.orderid, line.sku, line.qty, batch.reference))
        if self._freed and line.orderid in self._freed:
            self._tell_day(line, self._freed.pop(line.orderid).before, batch.day(self.today))

    def _let_wait(self, line: OrderLine) -> None:
        if line.orderid not in self._freed:
            self._check_may_wait()
            line = self._taken(line)
        self._wait(line)

    def _check_may_wait(self) -> None:
        if self.rules.most_waiting is not None and self.waiting_lines >= self.rules.most_waiting:
            raise TooManyWaiting(self.sku, self.rules.most_waiting)

    def _wait(self, line: OrderLine) -> None:
        freed = self._freed.pop(line.orderid, None)
        self.waiting_lines += 1
        self._waiting.add(line)
        self.changed_promises[line.orderid] = Promise(line, None)
        self.events.append(events.Backordered(line.orderid, line.sku, line.qty))
        if freed is not None:
            self._tell_day(line, freed.before, None)
        self.events.append(events.OutOfStock(line.sku))

    def _is_free(self, orderid: str) -> bool:
        """Whether nothing has this order id, so that a part may."""
        return self.promise(orderid) is None and orderid not in self._freed

    def _split_or_wait(self, line: OrderLine, *, is_waiting: bool) -> str | None:
        batch = self._split(line, is_waiting=is_waiting) if line.part else None
        if batch is None and not is_waiting:
            self._let_wait(line)
        return None if batch is None else batch.reference

    def _split(self, line: OrderLine, *, is_waiting: bool) -> Batch | None:
        """Put the parts of a line where they go; return the batch of the first, None if no batch has any of it."""
        room = self._room()
        (first, batch), *others = parts_of(line, self._choice(room), room, self._is_free)
        if batch is None:
            return None
        freed = self._freed.get(line.orderid)
        if is_waiting:
            self._serve(line)
        elif freed is None:
            if others[-1][1] is None:
                self._check_may_wait()
            first = self._taken(first)
        self._cut(first)
        self._promise(first, batch)
        for part, place in others:
            self._place_rest(self._taken(part), place, freed)
        return batch

    def _place_rest(self, part: OrderLine, batch: Batch | None, freed: _Freed | None) -> None:
        """Put a part that was cut off, maybe of a line that was freed, on its batch, or let it wait."""
        if freed is not None:
            self._freed[part.orderid] = _Freed(part, freed.before)
        self._cut(part)
        if batch is not None:
            self._promise(part, batch)
        else:
            self._wait(part)

    def _next_part(self, line: OrderLine) -> Promise | None:
        """The part that follows; None if it just lost its batch, or has gone: then its name may be another order's."""
        known = self.promise(line.next_part)
        return known if known is not None and known.line.part == line.part + 1 else None

    def _cut(self, part: OrderLine) -> None:
        """Tell of what was cut off a part, if there was anything: it is taken next, so its position is known."""
        if part.rest:
            cut = (part.qty, part.rest, part.next_part, self.version_number + 1)
            self.events.append(events.Split(part.orderid, self.sku, *cut))

    def _tell_day(self, line: OrderLine, before: date | None, after: date | None) -> None:
        if before != after:
            late = late_days(line, after)
            self.events.append(events.PromiseChanged(line.orderid, line.sku, line.qty, before, after, late))

    def _serve(self, line: OrderLine) -> None:
        """The line waits no longer."""
        self._next_version()
        self._waiting.discard(line)
        self.waiting_lines -= 1

    def _free(self, line: OrderLine, batch: Batch, day: date | None = None) -> None:
        """A line loses its batch and has to be placed anew; it was promised for that day, or the batch's own."""
        batch.deallocate(line)
        self._lost(line, batch, day)

    def _lost(self, line: OrderLine, batch: Batch, day: date | None = None) -> None:
        self.changed_batches[batch.reference] = batch
        self.changed_promises.pop(line.orderid, None)
        self._freed[line.orderid] = _Freed(line, day or batch.day(self.today))
        if not is_hold(line):
            self.events.append(events.Deallocated(line.orderid, line.sku, line.qty, batch.reference))

    def _cancel(self, promise: Promise) -> Batch | None:
        """An open line is cancelled; return the batch that it stood on."""
        line, batchref, _ = promise
        self._next_version()
        self.events.append(events.Cancelled(line.orderid, self.sku, line.qty, batchref))
        return self._take_away(line, batchref, CANCELLED)

    def _take_away(self, line: OrderLine, batchref: str | None, how: str) -> Batch | None:
        """A line stands nowhere any more; return the batch that it stood on."""
        self.changed_promises[line.orderid] = Promise(line, None, how)
        if batchref is None:
            self._waiting.discard(line)
            self.waiting_lines -= 1
            return None
        batch = self._known_batch(batchref)
        batch.deallocate(line)
        self.changed_batches[batchref] = batch
        return batch

    def _take_up(self, line: OrderLine, batchref: str | None) -> date | None:
        """Take a line from where it stands, to be put elsewhere at once; return the day it was promised for."""
        if batchref is None:
            self._serve(line)
            return None
        batch = self._known_batch(batchref)
        self._free(line, batch)
        return self._freed.pop(line.orderid).before

    def _change_day(self, batch: Batch, eta: date | None, qty: int, solve: Solver) -> None:
        before = batch.day(self.today)
        self._planned = _planned(self._leaving().of_cut(batch, batch.allocated_quantity - qty, solve))
        self._change(batch)
        batch.change_eta(eta)
        self.batches.sort(key=self.rules.order)
        freed = batch.change_quantity(qty, self._is_spared)
        staying = list(batch.lines_to_lose()) if batch.day(self.today) != before else []
        placings = self._leaving().of_late(batch, staying, solve)
        leaving = {line.orderid: line for line, _ in placings}
        self._planned |= _planned(placings)
        for line in freed:
            self._lost(line, batch, before)
        for line in staying:
            if line.orderid in leaving:
                self._free(line, batch, before)
            elif not is_hold(line):
                self._tell_day(line, before, batch.day(self.today))
        self._call_lines(batch, [*freed, *leaving.values()])

    def _leaving(self) -> Leaving:
        return Leaving(self.batches, self.rules, self.today, self._service_key)

    def _is_spared(self, line: OrderLine) -> bool:
        """Whether the line loses its batch only if there is no other."""
        return line.orderid not in self._planned if self._planned else self.rules.is_frozen(line, self.today)

    # Holds

    def _hold(self, hold: OrderLine, batch: Batch) -> None:
        assert hold.expires_at is not None  # noqa: S101 - what makes it a hold
        batch.allocate(hold)
        self.changed_batches[batch.reference] = batch
        self.changed_promises[hold.orderid] = Promise(hold, batch.reference)
        self.events.append(events.Held(hold.orderid, hold.sku, hold.qty, batch.reference, hold.expires_at))

    def _end_hold(self, hold: OrderLine, batch: Batch, how: str) -> None:
        self._next_version()
        self._take_away(hold, batch.reference, how)
        self.events.append(events.HoldEnded(hold.orderid, hold.sku, hold.qty, batch.reference, how))

    def _give_back(self, known: Promise, how: str) -> None:
        hold, batchref, closed = known
        if closed == how:
            return
        if closed is not None:
            raise HoldEndedAlready(hold.orderid, closed)
        batch = self._known_batch(batchref or "")
        self._end_hold(hold, batch, how)
        self._call_lines(batch)

    # Who is served

    def _in_order(self, lines: Iterable[OrderLine]) -> list[OrderLine]:
        return sorted(lines, key=self._service_key)

    def _service_key(self, line: OrderLine) -> tuple[int, int]:
        return self.rules.service_key(line, self.version_number)

    def _call_lines(self, batch: Batch | None, freed: Iterable[OrderLine] = ()) -> None:
        """Require allocation for the freed lines, and for the waiting lines that will find room, in order.

        Which ones will is rehearsed on a copy of the room left, since one line may take it from the next. ``batch`` is
        the one that has more room than before; None: any may have. Lines that are planned to go somewhere come first,
        so that none takes their room; holds come last and find their place at once.
        """
        freed = self._in_order(freed)
        placed = [line for line in freed if self._planned.get(line.orderid)]
        others = [line for line in freed if not self._planned.get(line.orderid)]
        room = self._room()
        choice = self._choice(room)
        holds = []
        waiting = (
            self._waiting.in_order(choice, batch, self._has_moved, self._service_key) if self.waiting_lines else ()
        )
        for line in itertools.chain(placed, heapq.merge(others, waiting, key=self._service_key)):
            if is_hold(line):
                holds.append(line)
                continue
            planned = self._planned.get(line.orderid)
            chosen = self._known_batch(planned) if planned else choice.of(line)
            if chosen is not None:
                room[chosen.reference] -= line.qty
            elif line.part:
                (_, chosen), *_ = parts_of(line, choice, room, self._is_free)
            if chosen is not None or line.orderid in self._freed:
                self._require(line)
        for hold in holds:
            self._place_hold(hold, choice.of(hold), room)
        if batch is not None:
            self._ask_to_move_up([batch])

    def _ask_to_move_up(self, roomier: Iterable[Batch]) -> None:
        if self.rules.move_up and any(batch.quarantine is None for batch in roomier):
            self.events.append(events.MoveUpRequired(self.sku))

    def _require(self, line: OrderLine) -> None:
        asked = (line.orderid, line.sku, line.qty, line.need_by, own_priority(line.priority), line.part > 0)
        self.events.append(events.AllocationRequired(*asked))

    def _place_hold(self, hold: OrderLine, batch: Batch | None, room: dict[str, int]) -> None:
        del self._freed[hold.orderid]
        if batch is not None:
            room[batch.reference] -= hold.qty
            self._hold(hold, batch)
        else:
            self.changed_promises[hold.orderid] = Promise(hold, None, LOST)
            self.events.append(events.HoldEnded(hold.orderid, hold.sku, hold.qty, None, LOST))

    def _late_lines(self, choice: Choice) -> Iterator[Promise]:
        """The open lines on batches that are due after they are needed, by priority, then by age."""
        new = [promise for promise in self.changed_promises.values() if self._is_late(promise)]
        return heapq.merge(sorted(new, key=_by_priority), self._stored_late_lines(choice), key=_by_priority)

    def _stored_late_lines(self, choice: Choice) -> Iterator[Promise]:
        rewritten = {batch.reference for batch in self.batches if batch.is_rewritten}
        after = (-events.MAX_PRIORITY - 1, 0)
        while (most := choice.most_room(None)) > 0:
            page = self._records.late_lines(self.today, most, rewritten, after)
            if not page:
                return
            yield from (each for each in page if not self._has_moved(each.line.orderid) and self._is_late(each))
            after = _by_priority(page[-1])

    def _is_late(self, promise: Promise) -> bool:
        line, batchref, closed = promise
        if batchref is None or closed is not None or stays(line):
            return False
        return late_days(line, self._known_batch(batchref).day(self.today)) > 0

    def _has_moved(self, orderid: str) -> bool:
        """Whether the order's line does not stand any more where storage has it."""
        return orderid in self.changed_promises or orderid in self._freed


def _planned(placings: Iterable[Placing]) -> dict[str, str]:
    """Where lines are to go, by order id; nowhere: they are to wait."""
    return {line.orderid: ref or "" for line, ref in placings}


def _by_priority(promise: Promise) -> tuple[int, int]:
    return -promise.line.priority, promise.line.position

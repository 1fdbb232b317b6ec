"""Products: their batches and the lines promised from them.

A product decides and tells facts, which change it: `allocation.domain.state` applies them by the table in
`allocation.domain.standing`, and the books apply the same table to the ledger.

A product is loaded in part: the batches with room, and only the lines that messages name. Rules that need more (the
newest lines of a batch, the oldest backorders) read it from `Records`, page by page. A product without records has
everything in memory, so the rules run on plain objects.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from allocation.domain import events
from allocation.domain.batches import Batch, BatchSource
from allocation.domain.errors import (
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
    RetiredProduct,
    TooManyWaiting,
    UnknownLine,
    due,
)
from allocation.domain.fields import INSPECT, SCRAP, STOCK
from allocation.domain.harm import Placing
from allocation.domain.holds import checked_moment, hold_of, running_hold
from allocation.domain.lines import (
    ASKED,
    CANCELLED,
    CONFIRMED,
    EXPIRED,
    FREED,
    RELEASED,
    RETURNED,
    SHIPPED,
    Miscount,
    OrderLine,
    Promise,
    is_pinned,
    own_priority,
)
from allocation.domain.passing import PassingDays
from allocation.domain.records import NO_RECORDS, Records
from allocation.domain.rules import Rules, is_hold
from allocation.domain.splitting import parts_of

__all__ = ["NO_RECORDS", "Batch", "Miscount", "OrderLine", "Product", "Promise", "Records", "Rules"]


class Product(PassingDays):
    """The aggregate: one SKU, its batches and lines, and the rules by which promises are made and moved.

    Its methods decide: they look, refuse, and tell facts. The facts change it (`allocation.domain.state`).
    """

    # Rules

    def change_rules(self, event: events.RulesChanged) -> None:
        """Allocate by these rules from now on. Promises stay; waiting lines that may be served now are called."""
        Rules.of(event, self.usual_rules)  # which refuses rules that contradict each other
        self._tell_stock(event)
        self._call_lines(None)
        if self.rules.move_up:
            self._move_up()

    # Lines

    def allocate(self, line: OrderLine) -> str | None:
        """Promise the whole line from the first batch with room, and return the batch's reference.

        A line that no batch can take waits: None. A line that may be split gets stock of several batches, and only the
        rest waits. The same line again gets the same answer and changes nothing; the same line with another quantity,
        day or priority raises `LineConflict`, a closed one `LineClosed`.
        """
        known = self._standing(line.orderid)
        if known is None:
            if self.retired:
                raise RetiredProduct(self.sku)
            known = Promise(line, None, ASKED)
        elif known.closed != FREED:
            self._check_is_same(known, line)
            if known.batchref is not None:
                return known.batchref
        self._as_of = self._called_at.pop(line.orderid, 0) if self._called_at else 0
        try:
            batch = self._choose(known.line)
            if batch is not None:
                self._place(known, batch)
            elif known.line.part and (batch := self._split(known)) is not None:
                return batch.reference
            elif not known.is_waiting:
                self._let_wait(known)
            return None if batch is None else batch.reference
        finally:
            self._as_of = 0

    def parts(self, orderid: str) -> list[Promise]:
        """The order's line and the parts that follow it, except deleted ones."""
        found = []
        known = self.promise(orderid)
        while known is not None:
            found.append(known)
            known = self._next_part(known.line) if known.line.rest else None
        return found

    def cancel_allocation(self, orderid: str) -> None:
        """Cancel a line, and call the waiting lines that its stock can serve.

        The first part represents the line: all open parts are cancelled with it. A later part is cancelled alone.
        """
        known = self.promise(orderid)
        parts = self.parts(orderid) if known is None or known.line.part == 1 else [known]
        still_open = [part for part in parts if part.closed is None]
        if not still_open or is_hold(still_open[0].line):
            self._open_line(orderid, already=CANCELLED)
            return
        for part in still_open:
            line = part.line
            self._tell(events.Cancelled(line.orderid, self.sku, line.qty, part.batchref), part)
        freed = [self._known_batch(part.batchref) for part in still_open if part.batchref is not None]
        if len(freed) == 1:
            self._call_lines(freed[0])
        elif freed:
            self._call_lines(None)
            self._move_up_after(freed)
        else:
            self._end_keeping()

    def change_line_quantity(self, orderid: str, qty: int) -> str | None:
        """Set a line's quantity. The line keeps its batch if that has room, otherwise it is re-placed."""
        known = self._open_line(orderid)
        line, batchref, _ = known
        if line.rest:
            raise LineWasSplit(line, self.parts(orderid)[-1].line.orderid)
        if line.qty == qty:
            return batchref
        resized = replace(line, qty=qty)
        fact = events.Resized(orderid, self.sku, qty, line.qty)
        if batchref is None:
            self._tell(fact, known)
            if self.rules.ages_after:
                self._end_keeping()
            elif self._choose(resized) is not None:
                self._require(resized)
            return None
        batch = self._known_batch(batchref)
        if qty < line.qty or self._can_grow(line, resized, batch):
            self._tell(fact, known)
            if qty < line.qty:
                self._call_lines(batch)
            return batchref
        freed = self._tell(fact, self._free(known, self._day_of(known)))
        self._call_lines(batch, [freed.line])
        return None

    def ship_line(self, orderid: str) -> str:
        """A line leaves the warehouse with its stock; return the batch it was taken from."""
        known = self._open_line(orderid, already=SHIPPED)
        line, batchref, closed = known
        if closed is not None and batchref is not None:
            return batchref
        if batchref is None:
            raise NotShippable(line, "it waits for stock", "Ship it when it is allocated.")
        batch = self._known_batch(batchref)
        if batch.source_of(line).eta is not None:
            raise NotShippable(line, f"batch {batchref} is {due(batch.eta)}", "Receive the batch first.")
        if batch.quarantine is not None:
            raise NotShippable(line, f"batch {batchref} is in quarantine", "Release the batch first, or move the line.")
        if batch.has_expired(self.today):
            why, cure = (
                f"batch {batchref} expired on {batch.expires_on}",
                "Pin the line to another batch, or correct the day.",
            )
            raise NotShippable(line, why, cure)
        self._tell(events.Shipped(orderid, self.sku, line.qty, batchref), known)
        self._end_keeping()
        return batchref

    def return_line(self, orderid: str, qty: int | None, disposition: str = STOCK) -> None:
        """A shipped line, or part of it, comes back into its batch: for waiting lines, for inspection, or scrapped."""
        known = self.promise(orderid)
        if known is None or is_hold(known.line):
            raise UnknownLine(orderid, self.sku)
        line, batchref, closed = known
        if closed == RETURNED and qty in (None, line.qty):
            return
        if closed != SHIPPED or batchref is None or (qty is not None and qty > line.qty):
            raise NotReturnable(line, qty, line.qty if closed == SHIPPED else 0)
        back = line.qty if qty is None else qty
        self._tell(events.Returned(orderid, self.sku, back, batchref, line.qty - back), known)
        if disposition == SCRAP:
            self._tell_stock(events.StockScrapped(self.sku, batchref, back))
        elif disposition == INSPECT:
            self._tell_stock(events.StockInspected(self.sku, batchref, back))
        else:
            self._call_lines(self._known_batch(batchref))

    def pin_line(self, orderid: str, ref: str) -> None:
        """Put a line on a batch, where it stays as long as the batch has stock for it; after that it is served first.

        The newest lines of the lowest priority make room for it: they are freed and called. Pinned lines and lines
        needed soon make no room.
        """
        known = self._open_line(orderid)
        line, batchref, _ = known
        batch = self._known_batch(ref)
        if batchref == ref and is_pinned(line.priority):
            return
        if batch.quarantine is not None:
            raise NotPinnable(line, ref, "it is in quarantine", "Release the batch first.")
        if batch.has_expired(self.today):
            raise NotPinnable(line, ref, f"it expired on {batch.expires_on}", "Choose another batch.")
        displaced = [] if batchref == ref else self._leaving().for_pinned(batch, line)
        left = []
        if batchref is not None:
            left = [self._known_batch(batchref)]
            known = self._free(known, self._day_of(known))
        self._free_all(displaced, batch, self._days_on(batch))
        source = batch.arrived if batch.arrived is not None and batch.arrived.can_allocate(line) else batch
        self._place(self._tell(events.Pinned(orderid, self.sku, line.qty, ref), known), source)
        self._call_lines(None, displaced)
        self._move_up_after([batch, *left])

    def move_up(self) -> None:
        """Free the lines promised too late that another batch can serve in time, and call them.

        Lines of a higher priority come first, then older ones, at most ``most_moved`` of them. Stock that they leave
        is given to other late lines that it is in time for, and then to waiting lines. Pinned lines and holds keep
        their batch.
        """
        self._tell_stock(events.MoveUpRequired(self.sku))
        self._moves_up = max(0, self._moves_up - 1)
        room = self._room()
        moves = list(self._late_lines().moves(room, self._choice(room), self.rules.most_moved))
        for late, better in moves:
            self._plan.add([Placing(late.line, better.key)])
            self._free(late, self._day_of(late))
        self._call_lines(None, [late.line for late, _ in moves], tell_days=not self._moves_up)

    # Holds

    def hold_stock(self, hold: OrderLine, now: datetime) -> str:
        """Keep stock for a cart until its hold expires, and return the batch; a later moment extends the hold.

        It counts as allocated. A hold does not wait: without room it raises `NotEnoughStock`.
        """
        until = checked_moment(hold.expires_at, now)
        known = self.promise(hold.orderid)
        if known is None:
            if self.retired:
                raise RetiredProduct(self.sku)
            batch = self._choose(hold)
            if batch is None:
                raise NotEnoughStock(self.sku, hold.qty)
            self._tell(events.Held(hold.orderid, self.sku, hold.qty, batch.reference, until, batch.is_part), None)
            return batch.reference
        held, batchref, _ = running_hold(known, now)
        if held.qty != hold.qty:
            raise HoldConflict(held)
        if batchref is not None and (held.expires_at is None or held.expires_at < until):
            self._tell(events.Held(hold.orderid, self.sku, hold.qty, batchref, until, held.arrived), known)
        return batchref or ""

    def confirm_hold(self, holdid: str, orderid: str, now: datetime) -> str | None:
        """A cart was ordered: its hold becomes a line of the order, on the same batch; return the batch.

        The second time, return the batch that the line has by now, or None while it waits.
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
        self._tell(events.Allocated(orderid, self.sku, hold.qty, batchref or "", hold.arrived), None)
        self._end_hold(known, CONFIRMED)
        return batchref

    def release_hold(self, holdid: str) -> None:
        """Give back the stock of a cart, and call the waiting lines that it can serve."""
        self._give_back(hold_of(self.promise(holdid), holdid), RELEASED)

    def expire_hold(self, holdid: str, now: datetime) -> None:
        """Give back the stock of a cart whose hold is over. Raises `HoldStillRuns` before that."""
        known = hold_of(self.promise(holdid), holdid)
        if known.line.expires_at is not None and known.line.expires_at > now and known.closed is None:
            raise HoldStillRuns(known.line)
        self._give_back(known, EXPIRED)

    # The books

    def repair_counters(self) -> None:
        """Set the counters to the sums over the lines. No promise changes, and no line is called.

        The error of a counter is the same as in storage, because promises change the counter and the sum alike.
        """
        miscounts = [] if self._repaired else self._records.miscounts()
        self._repaired = True
        for ref, excess, shipped_excess in miscounts:
            if ref is None:
                counted = self.waiting_lines - excess
                self._tell_stock(events.WaitingLinesRepaired(self.sku, self.waiting_lines, counted))
            elif (batch := self.batch(ref)) is not None and batch.can_repair(Miscount(ref, excess, shipped_excess)):
                self._repair(batch, excess, shipped_excess)

    # Decisions that the rules above share

    def _can_grow(self, line: OrderLine, resized: OrderLine, batch: Batch) -> bool:
        """Whether the line would get its batch, if it were placed now; a pinned line needs only room there."""
        room = self._room()
        source = batch.source_of(line)
        room.take(source.key, -line.qty)
        if is_pinned(line.priority):
            return room[source.key] >= resized.qty
        return self._choice(room).can_take(source, resized)

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

    def _next_part(self, line: OrderLine) -> Promise | None:
        """The part that follows; None if it just lost its batch, or was deleted: its name may be another order's."""
        known = self.promise(line.next_part)
        return known if known is not None and known.line.part == line.part + 1 else None

    # Facts and requests that the rules above share

    def _let_wait(self, known: Promise) -> None:
        if known.closed == ASKED:
            self._check_may_wait()
        self._wait(known)

    def _check_may_wait(self) -> None:
        if self.rules.most_waiting is not None and self.waiting_lines >= self.rules.most_waiting:
            raise TooManyWaiting(self.sku, self.rules.most_waiting)

    def _split(self, known: Promise) -> BatchSource | None:
        """Place the parts of a line; return the batch of the first, None if no batch has any of it."""
        room = self._room()
        placed = list(parts_of(known.line, self._choice(room), room, self._is_free))
        first, last = placed[0][1], placed[-1][1]
        if first is None:
            return None
        if known.closed == ASKED and last is None:
            self._check_may_wait()
        day = self._days.get(known.line.orderid)
        for part, batch in placed:
            if day is not None:
                self._days[part.orderid] = day
            here, rest = self._cut(known, part) if part.rest else (known, known)
            if batch is not None:
                self._place(here, batch)
            else:
                self._wait(here)
            known = rest
        return first

    def _give_back(self, known: Promise, how: str) -> None:
        if known.closed == how:
            return
        if known.closed is not None:
            raise HoldEndedAlready(known.line.orderid, known.closed)
        self._end_hold(known, how)
        self._call_lines(self._known_batch(known.batchref or ""))

    def _repair(self, batch: Batch, excess: int, shipped_excess: int) -> None:
        """Each counter that was wrong is a change of its own."""
        allocated, shipped = batch.allocated_quantity, batch.shipped_quantity
        about = (self.sku, batch.reference)
        if excess:
            self._tell_stock(events.AllocatedQuantityRepaired(*about, allocated, allocated - excess))
        if shipped_excess:
            self._tell_stock(events.ShippedQuantityRepaired(*about, shipped, shipped - shipped_excess))

"""Days pass: stock expires, deliveries are overdue, and lines become late."""

from __future__ import annotations

from datetime import date

from allocation.domain import events
from allocation.domain.errors import LineClosed, NotPast, UnknownLine, due
from allocation.domain.harm import Solver, no_solver
from allocation.domain.leaving import Plan
from allocation.domain.lines import OrderLine
from allocation.domain.rules import is_hold
from allocation.domain.warehouse import Warehouse


class PassingDays(Warehouse):
    """The rules of a product for the facts that a day brings."""

    def expire_batch(self, ref: str) -> None:
        """The last day of a batch is over: its lines and holds are freed and called, pinned ones too.

        Raises `NotPast` before that.
        """
        batch = self._known_batch(ref)
        if not batch.has_expired(self.today):
            until = f"expires on {batch.expires_on} only" if batch.expires_on else "does not expire"
            raise NotPast(f"Batch {ref} {until}")
        freed = list(batch.lines_to_lose())
        self._tell_stock(events.BatchExpired(ref))
        self._free_all(freed, batch, self._days_on(batch))
        self._call_lines(batch, freed)

    def mark_overdue(self, ref: str, solve: Solver = no_solver) -> None:
        """A delivery has not come on its day. Lines that are late now, and less late on another batch, move.

        All others keep their batch, and are promised for the first day that overdue stock is. Raises `NotPast`.
        """
        batch = self._known_batch(ref)
        if batch.eta is None or batch.eta >= self.today.day:
            raise NotPast(f"Batch {ref} is {due(batch.eta)}")
        self._plan = Plan()
        eta = batch.eta
        self._tell_stock(events.DeliveryOverdue(ref))

        def before(line: OrderLine) -> date:
            return eta if batch.source_of(line) is batch else self.today.day

        late = self._leave_late(batch, before, solve, [], later=self._will_move_up([batch]))
        self._call_lines(batch, late)

    def mark_late(self, event: events.LineBecameLate) -> int:
        """A line waits although its day is past: return the number of days. Raises `NotPast` if that is not true."""
        known = self.promise(event.orderid)
        if known is None or is_hold(known.line):
            raise UnknownLine(event.orderid, self.sku)
        line, batchref, closed = known
        if closed is not None:
            raise LineClosed(event.orderid, self.sku, closed)
        about = f"The line of {self.sku} in order {event.orderid}"
        if batchref is not None:
            raise NotPast(f"{about} has stock of batch {batchref}")
        if line.need_by is None or line.need_by >= self.today.day:
            raise NotPast(f"{about} is needed by {line.need_by or 'no day'}")
        if (line.need_by, line.qty) != (event.need_by, event.qty):
            raise NotPast(f"{about} is one of {line.qty}, needed by {line.need_by}")
        return (self.today.day - line.need_by).days

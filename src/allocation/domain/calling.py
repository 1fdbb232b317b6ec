"""The steps that all rules share: which lines leave a batch, and which are called when there is room."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from allocation.domain import events
from allocation.domain.batches import Batch, BatchSource
from allocation.domain.harm import Placing, Solver
from allocation.domain.leaving import Leaving, Plan
from allocation.domain.lines import FREED, LOST, OrderLine
from allocation.domain.serving import LateLines, Serving
from allocation.domain.state import ProductState


class CallingLines(ProductState):
    """A product that knows whom to free and whom to call. It decides nothing by itself."""

    def _plan_for(self, batch: Batch, qty: int, solve: Solver) -> Plan:
        plan = Plan()
        plan.add(self._leaving().of_cut(batch, batch.allocated_quantity - qty, solve))
        return plan

    def _leaving(self, placed: Sequence[Placing] = ()) -> Leaving:
        return Leaving(self._sources, self.rules, self.today, self._service_key, placed, self._keep)

    def _is_spared(self, line: OrderLine) -> bool:
        """Whether the line loses its batch only if there is no other."""
        return line.orderid not in self._plan if self._plan else self.rules.is_frozen(line, self.today)

    def _late_lines(self) -> LateLines:
        rewritten = {batch.reference for batch in self.batches if batch.is_rewritten}
        return LateLines(
            self._records, self._changed_promises, rewritten, self._source_of, lambda: self._sources, self.today
        )

    def _service_key(self, line: OrderLine) -> tuple[int, int]:
        return self.rules.service_key(line, self.version_number)

    def _call_lines(self, batch: Batch | None, freed: Sequence[OrderLine] = (), *, tell_days: bool = False) -> None:
        """Require allocation for the freed lines, and for the waiting lines that will find room.

        ``batch`` is the one that has more room than before; None: any may have. Holds find their place at once. With
        ``tell_days`` nothing moves after these lines, so all others learn their new day.
        """
        room = self._room()
        keep = self._keep if self.rules.ages_after else None
        serving = Serving(room, self._choice(room), self._service_key, self._is_free, keep)
        roomier = None if self.rules.ages_after else batch

        def waiting() -> Iterable[OrderLine]:
            if not self.waiting_lines:
                return ()
            has_moved = self._changed_promises.__contains__
            return self._waiting.in_order(serving.choice, roomier, has_moved, self._service_key)

        lines, holds = serving.called(freed, waiting, self._plan)
        if tell_days:
            self._tell_days({line.orderid for line in lines})
        for line in lines:
            self._require(line)
        if self.rules.ages_after:
            self._called_at |= dict.fromkeys((line.orderid for line in lines), self.version_number)
        for hold, source in holds:
            self._place_hold(hold, source)
        if batch is not None:
            self._move_up_after([batch])

    def _lost_on(self, batch: Batch, lines: Iterable[OrderLine]) -> set[OrderLine]:
        """The lines that the batch does not last for, as it is now."""
        if batch.expires_on is None:
            return set()
        choice = self.choice()
        return {line for line in lines if not choice.lasts_for(batch.source_of(line), line)}

    def _may_be_sold(self, batch: Batch) -> bool:
        return batch.quarantine is None and not batch.has_expired(self.today)

    def _place_hold(self, hold: OrderLine, source: BatchSource | None) -> None:
        known = self._changed_promises[hold.orderid]
        del self._days[hold.orderid]
        self._plan.pop(hold.orderid, None)
        if source is None:
            self._end_hold(known, LOST)
        elif hold.expires_at is not None:
            until = hold.expires_at
            self._tell(events.Held(hold.orderid, hold.sku, hold.qty, source.reference, until, source.is_part), known)

    def _will_move_up(self, roomier: Iterable[Batch]) -> bool:
        """Whether late lines are to move to the stock that is there now, or was left."""
        return self.rules.move_up and any(self._may_be_sold(batch) for batch in roomier)

    def _move_up_after(self, roomier: Iterable[Batch]) -> None:
        if self._will_move_up(roomier):
            self._move_up()

    def _move_up(self) -> None:
        self._moves_up += 1
        self.events.append(events.MoveUpRequired(self.sku))

    def _tell_days(self, called: Collection[str]) -> None:
        """Tell each line its new day, except lines without a place and lines that are called: their next day counts."""
        untold, self._untold = self._untold, {}
        for orderid, before in untold.items():
            known = self._standing(orderid)
            if known is None:
                continue
            if known.closed == FREED or orderid in called:
                self._days[orderid] = before
            else:
                self._tell_day(known.line, before, None if known.batchref is None else self._day_of(known))

    def _end_keeping(self) -> None:
        """Call the lines that stock is not kept from any more: the line that it was for does not need it."""
        if self.rules.ages_after and self.waiting_lines:
            self._call_lines(None)

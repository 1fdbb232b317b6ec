"""The figures of a batch: its purchased, allocated and shipped quantities, its day, and whether it may be sold.

They change only by facts: `allocation.domain.standing` is the only caller of the methods that change them. Each of
these methods is one change, which the product was asked for the batch for; `unexplained` is the difference.

The figures that people see are defined here, once: on hand, incoming, blocked, available and overdue.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Literal, Self

from allocation.domain.events import BatchCreated
from allocation.domain.lines import NO_DAY, Creation, OrderLine, Today, stock_day

ARRIVED_MARK = "\0"  # behind a reference, in the key of the part that has arrived; no reference has it


class Stock:
    """A batch without its lines: in the warehouse (``eta`` is None), or inbound and due on a day (`NO_DAY`: unknown).

    While only some of it has arrived, that is a source of its own, ``arrived``, and the rest is due. Lines on the rest
    may be served by any of its stock, since all of it is there on that day.

    The available quantity is never negative when a message is done. Shipped stock counts as allocated, because it uses
    up the purchased quantity. Goods in inspection (``inspect_quantity``) are in the warehouse, and no part of the
    purchased quantity until they are released. ``quarantine`` is the reason why the batch must not be sold now.
    """

    is_part: Literal[False] = False

    def __init__(  # noqa: PLR0913 - the seed's four, and stored values
        self,
        ref: str,
        sku: str,
        qty: int,
        eta: date | None = None,
        *,
        expires_on: date | None = None,
        location: str | None = None,
        quarantine: str | None = None,
        delivery: str | None = None,
        allocated_quantity: int = 0,
        shipped_quantity: int = 0,
        arrived: tuple[int, int] | None = None,
        inspect_quantity: int = 0,
        last_eta: date | None = None,
        counted_at: datetime | None = None,
        position: int = 0,
        initial: tuple[int, date | None] | None = None,
        created_as: Creation | None = None,
    ) -> None:
        self.reference = self.key = ref
        self.sku = sku
        self.eta = eta
        self.expires_on = expires_on
        self.location = location
        self.quarantine = quarantine
        self.delivery = delivery
        self.inspect_quantity = inspect_quantity
        self.last_eta = last_eta
        self.counted_at = counted_at
        self.position = position
        self.initial_quantity, self.initial_eta = initial or (qty, eta)
        self.created_as = created_as  # None: as it is now
        self.is_rewritten = False  # more than its purchased and allocated quantities changed
        self.unexplained = 0  # changes that no fact announced; more or less than none is a bug
        self._purchased_quantity = qty
        self._allocated_quantity = allocated_quantity
        self._shipped_quantity = shipped_quantity
        self.arrived: Arrived | None = None
        if arrived is not None:
            self.arrived = Arrived(self, *arrived)
        self._begin()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.reference}>"

    @classmethod
    def bought(cls, event: BatchCreated) -> Self:
        """The batch that an event creates."""
        return cls(
            event.ref,
            event.sku,
            event.qty,
            NO_DAY if event.eta_unknown else event.eta,
            expires_on=event.expires_on,
            location=event.location,
            quarantine=event.quarantine,
            delivery=event.delivery,
        )

    @property
    def bought_as(self) -> BatchCreated:
        """The event that creates it."""
        is_unknown = self.eta == NO_DAY
        return BatchCreated(
            self.reference,
            self.sku,
            self._purchased_quantity,
            None if is_unknown else self.eta,
            self.expires_on,
            self.location,
            self.delivery,
            self.quarantine,
            is_unknown,
        )

    @property
    def created(self) -> Creation:
        """Its values at creation."""
        return self.created_as or self.bought_now._replace(qty=self.initial_quantity, eta=self.initial_eta)

    @property
    def bought_now(self) -> Creation:
        """The values of a creation of the batch as it is now."""
        qty = self._purchased_quantity + self.inspect_quantity
        return Creation(self.sku, qty, self.eta, self.expires_on, self.location, self.delivery)

    @property
    def purchased_quantity(self) -> int:
        return self._purchased_quantity

    @property
    def allocated_quantity(self) -> int:
        return self._allocated_quantity

    @property
    def shipped_quantity(self) -> int:
        return self._shipped_quantity

    @property
    def available_quantity(self) -> int:
        return self._purchased_quantity - self._allocated_quantity

    @property
    def capacity(self) -> int:
        """Its quantity without the shipped one, allocated or not."""
        return self._purchased_quantity - self._shipped_quantity

    @property
    def arrived_quantity(self) -> int:
        """The quantity that has arrived, with the shipped quantity, which arrived before."""
        if self.arrived is not None:
            return self.arrived.quantity
        return self._purchased_quantity if self.eta is None else 0

    @property
    def on_hand_quantity(self) -> int:
        """The quantity in the warehouse, with the goods in inspection."""
        return self.arrived_quantity - self._shipped_quantity + self.inspect_quantity

    @property
    def incoming_quantity(self) -> int:
        """The quantity still due."""
        return self._purchased_quantity - self.arrived_quantity

    def has_expired(self, today: Today) -> bool:
        """Whether its last day is over."""
        return self.expires_on is not None and self.expires_on < today.day

    def day(self, today: Today) -> date:
        """The day from which its stock is there, as far as is known today."""
        return stock_day(self.eta, today)

    def can_allocate(self, line: OrderLine) -> bool:
        """Whether the whole line fits, and the batch may be sold."""
        return (
            self._purchased_quantity - self._allocated_quantity >= line.qty
            and self.sku == line.sku
            and self.quarantine is None
        )

    def source_of(self, line: OrderLine) -> Self | Arrived:
        """The source of one of its open lines: the part that has arrived, or the batch."""
        return self.arrived if self.arrived is not None and line.arrived else self

    # For facts alone

    def hold(self, line: OrderLine, closed: str | None = None) -> None:
        """A line takes stock of the batch, or was shipped with it (``closed``)."""
        self.unexplained += 1
        self._allocated_quantity += line.qty
        if self.arrived is not None:
            self.arrived.hold(line, closed)
        if closed is None:
            self._keep(line)
        else:
            self._shipped_quantity += line.qty
            self.is_rewritten = True

    def let_go(self, line: OrderLine, closed: str | None = None) -> None:
        """The line does not have this stock any more."""
        self.unexplained += 1
        self._allocated_quantity -= line.qty
        if self.arrived is not None:
            self.arrived.let_go(line, closed)
        if closed is None:
            self._drop(line)
        else:
            self._shipped_quantity -= line.qty
            self.is_rewritten = True

    def count(self, qty: int) -> None:
        """Set the purchased quantity. If no more than that has arrived, nothing is due any more."""
        if qty < 0:
            raise ValueError(f"batch {self.reference} cannot hold {qty}")
        self.unexplained += 1
        self._purchased_quantity = qty
        if self.arrived is not None and qty <= self.arrived.quantity:
            self._complete()

    def adjust(self, by: int, counted_at: datetime | None = None) -> None:
        """The warehouse has this quantity more, or less, as of now or of a count."""
        self._change()
        self.counted_at = counted_at or self.counted_at
        self._purchased_quantity += by
        if self.eta is not None:
            self._arrive(by)

    def receive(self, qty: int, *, is_blocked: bool) -> None:
        """A quantity arrived, and the rest is still due. Blocked goods are put in inspection."""
        self._change()
        if is_blocked:
            self._purchased_quantity -= qty
            self.inspect_quantity += qty
        else:
            self._arrive(qty)

    def complete(self, qty: int, quarantine: str | None) -> None:
        """A quantity arrived, and nothing is due any more. Blocked goods are put in inspection if others were free."""
        self._change()
        before = self.arrived_quantity
        self._purchased_quantity = before + qty
        if quarantine is not None and before:
            self._purchased_quantity = before
            self.inspect_quantity += qty
        elif quarantine is not None:
            self.quarantine = quarantine
        self._complete()

    def undo(self, qty: int | None) -> None:
        """A quantity had not come, or nothing had (None): it is due again on its last ETA, if it ever had one.

        Goods in inspection are the first, since no line has them.
        """
        self._change()
        undone = self.arrived_quantity + self.inspect_quantity if qty is None else qty
        if self.eta is None:
            self.eta = self.last_eta or NO_DAY
            self.arrived = Arrived(self, self._purchased_quantity, self._shipped_quantity)
        inspected = min(undone, self.inspect_quantity)
        self.inspect_quantity -= inspected
        self._purchased_quantity += inspected
        self._arrive(inspected - undone)

    def inspect(self, qty: int) -> None:
        """A quantity that has arrived is put in inspection."""
        self.adjust(-qty)
        self.inspect_quantity += qty

    def release(self) -> None:
        """It may be sold, and so may the goods in inspection."""
        self.adjust(self.inspect_quantity)
        self.inspect_quantity = 0
        self.quarantine = None

    def change_eta(self, eta: date) -> None:
        """Set the day it is due; stock in the warehouse is due then, too. None of it was shipped."""
        self._change()
        self.eta = eta

    def describe(
        self,
        *,
        expires_on: date | None = None,
        location: str | None = None,
        delivery: str | None = None,
        clear: str | None = None,
    ) -> None:
        """Set the values that are given; None leaves a value as it is. The one named by ``clear`` becomes None."""
        self._change()
        self.created_as = self.created
        self.expires_on = None if clear == "expires_on" else expires_on or self.expires_on
        self.location = None if clear == "location" else location or self.location
        self.delivery = None if clear == "delivery" else delivery or self.delivery

    def change_quarantine(self, reason: str) -> None:
        """Set the reason why it must not be sold."""
        self._change()
        self.quarantine = reason

    def correct(self, *, allocated: int | None = None, shipped: int | None = None) -> None:
        """Set a counter that was wrong."""
        self.unexplained += 1
        if allocated is not None:
            self._allocated_quantity = allocated
        if shipped is not None:
            self._shipped_quantity = shipped
            self.is_rewritten = True

    def _change(self) -> None:
        self.unexplained += 1
        self.is_rewritten = True

    def _arrive(self, qty: int) -> None:
        """The arrived quantity grows while the rest is due."""
        arrived = self.arrived or Arrived(self, 0, self._shipped_quantity)
        arrived.quantity += qty
        self.arrived = arrived if arrived.quantity else None

    def _complete(self) -> None:
        """All of it is in the warehouse."""
        self.last_eta = self.eta
        self.eta = None
        self.arrived = None
        self.is_rewritten = True

    def _begin(self) -> None:
        """Begin without lines; figures alone have none."""

    def _keep(self, line: OrderLine) -> None:
        """Remember the line; figures alone have no lines."""

    def _drop(self, line: OrderLine) -> None:
        """Forget the line."""


class Arrived:
    """The part of a batch that has arrived while the rest is due: a source of its own for lines.

    Its ``quantity`` includes the shipped quantity. As much of it is available as the batch has, since the lines on the
    rest may need it on the day the rest is there.
    """

    is_part: Literal[True] = True
    eta = None  # it is in the warehouse
    arrived = None

    def __init__(self, batch: Stock, quantity: int, allocated_quantity: int) -> None:
        self.batch = batch
        self.key = batch.reference + ARRIVED_MARK
        self.quantity = quantity
        self.allocated_quantity = allocated_quantity

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.batch!r}>"

    @property
    def reference(self) -> str:
        return self.batch.reference

    @property
    def capacity(self) -> int:
        return self.batch.capacity

    @property
    def position(self) -> int:
        return self.batch.position

    @property
    def location(self) -> str | None:
        return self.batch.location

    @property
    def expires_on(self) -> date | None:
        return self.batch.expires_on

    @property
    def quarantine(self) -> str | None:
        return self.batch.quarantine

    @property
    def available_quantity(self) -> int:
        return min(self.quantity - self.allocated_quantity, self.batch.available_quantity)

    def day(self, today: Today) -> date:
        return today.day

    def can_allocate(self, line: OrderLine) -> bool:
        return self.quantity - self.allocated_quantity >= line.qty and self.batch.can_allocate(line)

    def hold(self, line: OrderLine, closed: str | None) -> None:
        """The batch's `Stock.hold`, if the line has stock of this part."""
        self.batch.is_rewritten = True
        if line.arrived or closed is not None:
            self.allocated_quantity += line.qty

    def let_go(self, line: OrderLine, closed: str | None) -> None:
        """The batch's `Stock.let_go`, if the line has stock of this part."""
        self.batch.is_rewritten = True
        if line.arrived or closed is not None:
            self.allocated_quantity -= line.qty


Source = Stock | Arrived  # of a line's stock


def sources_of(batches: Iterable[Stock]) -> list[Source]:
    """Where lines can get stock: the batches, and the arrived parts of those in parts."""
    return [source for batch in batches for source in (batch, batch.arrived) if source is not None]

"""The figures of a batch: its purchased, allocated and shipped quantities, its day, and whether it may be sold.

They change only by facts: `allocation.domain.standing` is the only caller of the methods that change them. Each of
these methods is one change, which the product was asked for the batch for; `unexplained` is the difference.
"""

from __future__ import annotations

from datetime import date
from typing import Self

from allocation.domain.events import BatchCreated
from allocation.domain.lines import OrderLine, Today, stock_day


class Stock:
    """A batch without its lines: in the warehouse (``eta`` is None), or inbound and due on a day.

    The available quantity is never negative when a message is done. Shipped stock counts as allocated, because it uses
    up the purchased quantity. ``initial_quantity`` and ``initial_eta`` are the values at creation: by them a repeated
    creation is recognised. ``quarantine`` is the reason why the batch must not be sold now.
    """

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
        allocated_quantity: int = 0,
        shipped_quantity: int = 0,
        position: int = 0,
        initial: tuple[int, date | None] | None = None,
    ) -> None:
        self.reference = ref
        self.sku = sku
        self.eta = eta
        self.expires_on = expires_on
        self.location = location
        self.quarantine = quarantine
        self.position = position
        self.initial_quantity, self.initial_eta = initial or (qty, eta)
        self.is_rewritten = False  # more than its purchased and allocated quantities changed
        self.unexplained = 0  # changes that no fact announced; more or less than none is a bug
        self._purchased_quantity = qty
        self._allocated_quantity = allocated_quantity
        self._shipped_quantity = shipped_quantity
        self._begin()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.reference}>"

    @classmethod
    def bought(cls, event: BatchCreated) -> Self:
        """The batch that an event creates."""
        return cls(event.ref, event.sku, event.qty, event.eta, expires_on=event.expires_on, location=event.location)

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

    def day(self, today: Today) -> date:
        """The day from which its stock is there, as far as is known today."""
        return stock_day(self.eta, today)

    # For facts alone

    def hold(self, line: OrderLine, closed: str | None = None) -> None:
        """A line takes stock of the batch, or was shipped with it (``closed``)."""
        self.unexplained += 1
        self._allocated_quantity += line.qty
        if closed is None:
            self._keep(line)
        else:
            self._shipped_quantity += line.qty
            self.is_rewritten = True

    def let_go(self, line: OrderLine, closed: str | None = None) -> None:
        """The line does not have this stock any more."""
        self.unexplained += 1
        self._allocated_quantity -= line.qty
        if closed is None:
            self._drop(line)
        else:
            self._shipped_quantity -= line.qty
            self.is_rewritten = True

    def count(self, qty: int) -> None:
        """Set the purchased quantity."""
        if qty < 0:
            raise ValueError(f"batch {self.reference} cannot hold {qty}")
        self.unexplained += 1
        self._purchased_quantity = qty

    def change_eta(self, eta: date | None) -> None:
        """Set the day it is due; None: it is in the warehouse."""
        self.unexplained += 1
        self.eta = eta
        self.is_rewritten = True

    def change_quarantine(self, reason: str | None) -> None:
        """Set the reason why it must not be sold; None: it may be sold."""
        self.unexplained += 1
        self.quarantine = reason
        self.is_rewritten = True

    def correct(self, *, allocated: int | None = None, shipped: int | None = None) -> None:
        """Set a counter that was wrong."""
        self.unexplained += 1
        if allocated is not None:
            self._allocated_quantity = allocated
        if shipped is not None:
            self._shipped_quantity = shipped
            self.is_rewritten = True

    def _begin(self) -> None:
        """Begin without lines; figures alone have none."""

    def _keep(self, line: OrderLine) -> None:
        """Remember the line; figures alone have no lines."""

    def _drop(self, line: OrderLine) -> None:
        """Forget the line."""

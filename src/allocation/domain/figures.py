"""The figures of stock, as everybody sees them: one definition. `allocation.views.figures` is its twin in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final, NamedTuple

from allocation.domain.lines import Today
from allocation.domain.rules import OVER, QUARANTINED
from allocation.domain.stock import Source, Stock

OVERDUE: Final = "overdue"
DAY_UNKNOWN: Final = "day unknown"
IN_INSPECTION: Final = "in inspection"
IN_PARTS: Final = "in parts"


class Figures(NamedTuple):
    """The quantities of a batch, or of several in sum. Shipped stock is in ``shipped_quantity`` and in no other.

    The one exception is ``purchased_quantity``, the whole quantity that was bought and not written off.

    - ``on_hand_quantity`` is in the warehouse, ``incoming_quantity`` is still due.
    - ``blocked_quantity`` is the part on hand that must not be sold: in quarantine, expired, or in inspection.
    - ``allocated_quantity`` is promised to lines that are not shipped yet.
    - ``available_quantity`` can be promised, on hand or incoming.
    - ``overdue_quantity`` is the incoming part whose day is past.
    """

    purchased_quantity: int = 0
    allocated_quantity: int = 0
    available_quantity: int = 0
    on_hand_quantity: int = 0
    incoming_quantity: int = 0
    blocked_quantity: int = 0
    overdue_quantity: int = 0
    shipped_quantity: int = 0


class Shelf(NamedTuple):
    """The stock on hand that is not blocked, and the incoming stock, each by whether it is promised or available."""

    on_hand_allocated: int = 0
    on_hand_available: int = 0
    incoming_allocated: int = 0
    incoming_available: int = 0


def figures(batch: Stock, today: Today) -> Figures:
    """The figures of a batch on a day."""
    is_sold = may_be_sold(batch, today)
    return Figures(
        batch.purchased_quantity + batch.inspect_quantity,
        batch.allocated_quantity - batch.shipped_quantity,
        batch.available_quantity if is_sold else 0,
        batch.on_hand_quantity,
        batch.incoming_quantity,
        batch.inspect_quantity if is_sold else batch.on_hand_quantity,
        batch.incoming_quantity if is_overdue(batch.eta, today) else 0,
        batch.shipped_quantity,
    )


def shelf(batch: Stock, today: Today) -> Shelf:
    """Where the promised and the available stock of a batch is. Lines take the stock on hand first."""
    if not may_be_sold(batch, today):
        return Shelf()
    here = batch.arrived or batch
    on_hand = 0 if here.eta is not None else here.available_quantity
    incoming = batch.available_quantity - on_hand
    in_use = batch.arrived_quantity - batch.shipped_quantity - on_hand
    return Shelf(in_use, on_hand, batch.incoming_quantity - incoming, incoming)


def in_sum(several: Iterable[Figures]) -> Figures:
    return Figures(*map(sum, zip(*several, strict=True)))


def is_expired(expires_on: date | None, today: Today) -> bool:
    """Whether stock is past the last day that it can be used."""
    return expires_on is not None and expires_on < today.day


def is_overdue(eta: date | None, today: Today) -> bool:
    """Whether stock that is due should have come."""
    return eta is not None and eta < today.day


def may_be_sold(batch: Source, today: Today) -> bool:
    """Whether nothing blocks the stock: it is not in quarantine, and has not expired."""
    return batch.quarantine is None and not is_expired(batch.expires_on, today)


def marks(
    *,
    quarantined: bool,
    expired: bool,
    overdue: bool,
    eta_unknown: bool,
    inspected: bool = False,
    in_parts: bool = False,
) -> list[str]:
    """The words by which every list tells stock that is not as it should be."""
    words = {
        QUARANTINED: quarantined,
        OVER: expired,
        IN_INSPECTION: inspected,
        OVERDUE: overdue,
        DAY_UNKNOWN: eta_unknown,
        IN_PARTS: in_parts,
    }
    return [word for word, is_so in words.items() if is_so]

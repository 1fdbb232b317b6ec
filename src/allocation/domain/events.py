"""The events: what is asked of the service, and what became of its promises.

Each event is declared once, here. Validation, JSON, the HTTP route, OpenAPI, the command line, the ledger
row and the reference pages are derived from the declaration: a field is added in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated

MAX_TEXT_LENGTH = 255
MAX_QUANTITY = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Text:
    """Limits of a reference, SKU or order id: printable characters only, so no control characters."""

    max_length: int = MAX_TEXT_LENGTH

    def __str__(self) -> str:
        return f"1 to {self.max_length} printable characters"


@dataclass(frozen=True, slots=True)
class Between:
    """Limits of a whole number, both included."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"a whole number from {self.least:,} to {self.most:,}"


Reference = Annotated[str, Text()]
Quantity = Annotated[int, Between(1, MAX_QUANTITY)]
Count = Annotated[int, Between(0, MAX_QUANTITY)]


class Event:
    """Something that happened, or that has to: the only kind of thing the message bus knows."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BatchCreated(Event):
    """Stock was bought: in the warehouse if it has no ETA, otherwise inbound and due that day."""

    ref: Reference
    sku: Reference
    qty: Quantity
    eta: date | None = None


@dataclass(frozen=True, slots=True)
class AllocationRequired(Event):
    """An order line needs stock: a customer ordered it, or it lost the batch it had, or stock appeared."""

    orderid: Reference
    sku: Reference
    qty: Quantity


@dataclass(frozen=True, slots=True)
class BatchQuantityChanged(Event):
    """A batch was counted anew: what was purchased, less what is damaged, lost or scrapped."""

    ref: Reference
    qty: Count


@dataclass(frozen=True, slots=True)
class RepairRequired(Event):
    """A product's counters are in doubt: they have to be counted again, from its lines."""

    sku: Reference


@dataclass(frozen=True, slots=True)
class Allocated(Event):
    """A line holds stock of a batch."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference


@dataclass(frozen=True, slots=True)
class Deallocated(Event):
    """A line lost the stock it held of a batch."""

    orderid: Reference
    sku: Reference
    qty: Quantity
    batchref: Reference


@dataclass(frozen=True, slots=True)
class Backordered(Event):
    """No batch can take the line: it waits, and is served when stock appears."""

    orderid: Reference
    sku: Reference
    qty: Quantity


@dataclass(frozen=True, slots=True)
class OutOfStock(Event):
    """A line was backordered: the stock team has to know."""

    sku: Reference


@dataclass(frozen=True, slots=True)
class AllocatedQuantityRepaired(Event):
    """A batch's allocated quantity was not what its lines add up to, and now is. No promise was touched."""

    sku: Reference
    batchref: Reference
    stored: Count
    counted: Count


@dataclass(frozen=True, slots=True)
class WaitingLinesRepaired(Event):
    """The number of a product's waiting lines was wrong, and now is not. No promise was touched."""

    sku: Reference
    stored: Count
    counted: Count

"""Product, its batches, their lines: all in memory, as in the book."""

from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True)
class AllocationRequired:
    orderid: str
    sku: str
    qty: int


@dataclass(frozen=True, slots=True)
class BatchQuantityChanged:
    ref: str
    qty: int


@dataclass(frozen=True, slots=True)
class OutOfStock:
    sku: str


Event = AllocationRequired | BatchQuantityChanged | OutOfStock


class InvalidSku(Exception):
    pass


@dataclass(unsafe_hash=True)
class OrderLine:
    orderid: str
    sku: str
    qty: int


class Batch:
    def __init__(self, reference: str, sku: str, purchased: int, eta: date | None) -> None:
        self.reference = reference
        self.sku = sku
        self.eta = eta
        self.purchased_quantity = purchased
        self.lines: set[OrderLine] = set()

    def __lt__(self, other: "Batch") -> bool:
        return (self.eta or date.min) < (other.eta or date.min)

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - sum(line.qty for line in self.lines)

    def can_allocate(self, line: OrderLine) -> bool:
        return self.available_quantity >= line.qty


@dataclass
class Product:
    """`version_number` rises with every allocation, so that of two concurrent ones one must fail."""

    sku: str
    batches: list[Batch]
    version_number: int = 0
    events: list[Event] = field(default_factory=list)

    def allocate(self, line: OrderLine) -> str | None:
        batch = next((b for b in sorted(self.batches) if b.can_allocate(line)), None)
        if batch is None:
            self.events.append(OutOfStock(line.sku))
            return None
        batch.lines.add(line)
        self.version_number += 1
        return batch.reference

    def change_batch_quantity(self, ref: str, qty: int) -> None:
        batch = next(b for b in self.batches if b.reference == ref)
        batch.purchased_quantity = qty
        while batch.available_quantity < 0:
            line = batch.lines.pop()
            self.events.append(AllocationRequired(line.orderid, line.sku, line.qty))

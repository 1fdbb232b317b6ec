"""The store in memory: for tests and for trying things out. It behaves like the others and forgets everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from allocation.domain.fields import MAX_PRIORITY
from allocation.domain.lines import Fit, Miscount, Today, stock_day
from allocation.service_layer.writing.store import (
    PAGE_SIZE,
    BatchRow,
    Changes,
    DeliveryRow,
    LineRow,
    Loaded,
    MessageRow,
    ProductRow,
    Session,
    StoreConflict,
    TimedRow,
    Wanted,
)

T = TypeVar("T")


@dataclass
class MemoryTables:
    """The rows, by key."""

    products: dict[str, ProductRow] = field(default_factory=dict)
    batches: dict[str, BatchRow] = field(default_factory=dict)
    lines: dict[tuple[str, str], LineRow] = field(default_factory=dict)
    messages: dict[str, list[tuple[MessageRow, datetime]]] = field(default_factory=dict)  # by correlation id
    deliveries: list[DeliveryRow] = field(default_factory=list)


class MemorySession:
    """One transaction. Saved data are checked at once and written when the work is done, so no rollback is needed."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self._saved: list[Changes] = []

    def load(self, wanted: Wanted) -> Loaded:
        tables = self._tables
        named = {ref: tables.batches[ref] for ref in wanted.refs if ref in tables.batches}
        holds = [row for row in tables.lines.values() if row.orderid in wanted.holdids and row.expires_at is not None]
        skus = wanted.skus | {batch.sku for batch in named.values()} | {row.sku for row in holds}
        return Loaded(
            products=[tables.products[sku] for sku in sorted(skus) if sku in tables.products],
            batches=[
                batch
                for batch in tables.batches.values()
                if batch.ref in named or (batch.sku in skus and batch.allocated_quantity < batch.purchased_quantity)
            ],
            lines=[tables.lines[key] for key in wanted.lines if key in tables.lines] + holds,
            messages=[row for id_ in wanted.message_ids for row, _ in tables.messages.get(id_, ())],
        )

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        batch = self._tables.batches.get(ref)
        return batch if batch is not None and batch.sku == sku else None

    def line(self, sku: str, orderid: str) -> LineRow | None:
        return self._tables.lines.get((orderid, sku))

    def priorities(self, sku: str, ref: str | None) -> Sequence[int]:
        return sorted({line.priority for line in self._open_lines(sku, ref)} - {0})

    def newest_lines(self, sku: str, ref: str, before: int, priority: int = 0) -> Sequence[LineRow]:
        found = [line for line in self._open_lines(sku, ref) if line.priority == priority and line.position < before]
        return found[::-1][:PAGE_SIZE]

    def any_waiting(self, sku: str, fits: Sequence[Fit]) -> bool:
        return any(_may_get(line, fits) for line in self._open_lines(sku, None))

    def waiting_lines(self, sku: str, after: int, fits: Sequence[Fit], priority: int = 0) -> Sequence[LineRow]:
        found = (line for line in self._open_lines(sku, None) if line.priority == priority and line.position > after)
        return [line for line in found if _may_get(line, fits)][:PAGE_SIZE]

    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        def is_late(line: LineRow) -> bool:
            if line.batchref is None or line.closed or line.need_by is None or line.need_by < today.day:
                return False
            batch = self._tables.batches[line.batchref]
            if batch.arrived_quantity is not None and line.arrived:
                return False
            return line.batchref in rewritten or stock_day(batch.eta, today) > line.need_by

        def place(line: LineRow) -> tuple[int, int]:
            return -line.priority, line.position

        def fits_in_time(line: LineRow) -> bool:
            return any(line.qty <= fit.qty and line.need_by is not None and fit.day <= line.need_by for fit in fits)

        found = self._sorted_lines(sku, lambda line: is_late(line) and fits_in_time(line))
        movable = [line for line in found if 0 <= line.priority <= MAX_PRIORITY and place(line) > after]
        return sorted(movable, key=place)[:PAGE_SIZE]

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        held, shipped = Counter[str | None](), Counter[str | None]()
        for line in self._sorted_lines(sku, lambda line: line.batchref is not None or line.closed is None):
            held[line.batchref] += line.qty if line.batchref else 1
            shipped[line.batchref] += line.qty if line.closed else 0
        found = [
            Miscount(row.ref, row.allocated_quantity - held[row.ref], row.shipped_quantity - shipped[row.ref])
            for row in self._tables.batches.values()
            if row.sku == sku
        ]
        if sku in self._tables.products:
            found.append(Miscount(None, self._tables.products[sku].waiting_lines - held[None]))
        return [each for each in found if each.excess or each.shipped_excess]

    def delivered(self, delivery: str) -> Sequence[tuple[str, str]]:
        found = [row for row in self._tables.batches.values() if row.delivery == delivery]
        return [(row.sku, row.ref) for row in sorted(found, key=lambda row: (row.sku, row.position))]

    def stock_told(self, sku: str) -> Sequence[TimedRow]:
        return [timed for timed, orderid in self._told(sku) if orderid is None]

    def told_before(self, sku: str, position: int | None) -> Sequence[TimedRow]:
        told = [timed for timed, _ in self._told(sku) if position is None or timed.position < position]
        return told[::-1][:PAGE_SIZE]

    def _told(self, sku: str) -> list[tuple[TimedRow, str | None]]:
        rows = (told for cascade in self._tables.messages.values() for told in cascade)
        return [
            (TimedRow(position, recorded_at, row.type, row.body, row.facts), row.orderid)
            for position, (row, recorded_at) in enumerate(rows, start=1)
            if row.sku == sku
        ]

    def save(self, changes: Changes) -> None:
        self._check(changes)
        self._saved.append(changes)

    def commit(self) -> None:
        for changes in self._saved:
            self._write(changes)

    def _write(self, changes: Changes) -> None:
        tables = self._tables
        tables.products |= {product.sku: product for product in changes.new_products}
        tables.products |= {
            row.sku: ProductRow(row.sku, row.version_number, row.waiting_lines, row.rules, row.retired)
            for row in changes.products
        }
        tables.batches |= {batch.ref: batch for batch in changes.new_batches}
        for batch in changes.batches:
            tables.batches[batch.ref] = tables.batches[batch.ref]._replace(
                purchased_quantity=batch.purchased_quantity, allocated_quantity=batch.allocated_quantity
            )
        tables.batches |= {batch.ref: batch for batch in changes.rewritten_batches}
        for line in (*changes.new_lines, *changes.lines):
            tables.lines[line.orderid, line.sku] = line
        for message in changes.messages:
            tables.messages.setdefault(message.correlation_id, []).append((message, changes.recorded_at))
        tables.deliveries += changes.deliveries

    def _check(self, changes: Changes) -> None:
        """The constraints of the schema. Deliveries are as unique as the messages they come with."""
        tables = self._tables
        messages = [(row.correlation_id, row.step) for row in changes.messages]
        known = {(id_, row.step) for id_, _ in messages for row, _ in tables.messages.get(id_, ())}
        _check_unique([product.sku for product in changes.new_products], tables.products)
        _check_unique([batch.ref for batch in changes.new_batches], tables.batches)
        _check_unique([(line.orderid, line.sku) for line in changes.new_lines], tables.lines)
        holds = [line.orderid for line in changes.new_lines if line.expires_at is not None]
        _check_unique(holds, {line.orderid for line in tables.lines.values() if line.expires_at} if holds else ())
        _check_unique(messages, known)
        _check_unique(changes.deliveries, ())
        _check_numbers(changes)
        for row in changes.products:
            if tables.products[row.sku].version_number != row.loaded_version:
                raise StoreConflict(f"{row.sku} is not at version {row.loaded_version} any more")
        for line in changes.lines:
            if (line.orderid, line.sku) not in tables.lines:
                raise StoreConflict(f"the line of {line.sku} in order {line.orderid} is not there any more")

    def _open_lines(self, sku: str, ref: str | None) -> list[LineRow]:
        return self._sorted_lines(sku, lambda line: line.batchref == ref and line.closed is None)

    def _sorted_lines(self, sku: str, wanted: Callable[[LineRow], bool]) -> list[LineRow]:
        lines = (line for line in self._tables.lines.values() if line.sku == sku and wanted(line))
        return sorted(lines, key=lambda line: line.position)


def _may_get(line: LineRow, fits: Sequence[Fit]) -> bool:
    may_be_split = bool(line.part and not line.rest)
    return any(
        (may_be_split or line.qty <= fit.qty) and (line.need_by is None or line.need_by <= fit.day) for fit in fits
    )


def _check_numbers(changes: Changes) -> None:
    for batch in (*changes.new_batches, *changes.batches, *changes.rewritten_batches):
        if not 0 <= batch.shipped_quantity <= batch.allocated_quantity <= batch.purchased_quantity:
            raise ValueError(f"never_oversold: {batch}")
        _check_arrived(batch)
    waiting = [row.waiting_lines for row in changes.new_products]
    if min(waiting + [row.waiting_lines for row in changes.products], default=0) < 0:
        raise ValueError("waiting_lines: fewer than none")
    for line in (*changes.new_lines, *changes.lines):
        if line.qty <= 0:
            raise ValueError(f"qty: {line}")


def _check_arrived(batch: BatchRow) -> None:
    if batch.inspect_quantity < 0:
        raise ValueError(f"inspect_quantity: {batch}")
    arrived = batch.arrived_quantity
    if arrived is None:
        return
    if not batch.shipped_quantity <= (batch.arrived_allocated or 0) <= arrived <= batch.purchased_quantity:
        raise ValueError(f"arrived_allocated: {batch}")


def _check_unique(keys: Sequence[Hashable], taken: Container[Hashable]) -> None:
    seen = set()
    for key in keys:
        if key in seen or key in taken:
            raise StoreConflict(f"not unique: {key}")
        seen.add(key)


class MemoryStore:
    """Tables that live as long as the object."""

    def __init__(self) -> None:
        self.tables = MemoryTables()

    async def run(self, work: Callable[[Session], T]) -> T:
        session = MemorySession(self.tables)
        result = work(session)
        session.commit()
        return result

    async def read(self, wanted: Wanted) -> Loaded:
        return MemorySession(self.tables).load(wanted)

    async def look(self, work: Callable[[Session], T]) -> T:
        return work(MemorySession(self.tables))

    async def write(self, changes: Changes) -> None:
        await self.run(lambda session: session.save(changes))

    async def close(self) -> None:
        """Nothing to give back."""

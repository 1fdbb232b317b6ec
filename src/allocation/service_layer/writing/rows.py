"""Conversion between rows of the store and lines, batches and rules of the domain."""

from __future__ import annotations

import functools

import msgspec

from allocation.domain.batches import Batch
from allocation.domain.lines import Creation, OrderLine, Promise
from allocation.domain.records import Records
from allocation.domain.rules import Rules
from allocation.service_layer.writing.store import BatchRow, LineRow


def line_of(row: LineRow) -> OrderLine:
    about = (row.orderid, row.sku, row.qty, row.position, row.need_by, row.priority, row.expires_at)
    return OrderLine(*about, row.part or 0, row.rest or 0, bool(row.arrived))


def promise_of(row: LineRow) -> Promise:
    return Promise(line_of(row), row.batchref, row.closed)


def row_of_line(promise: Promise) -> LineRow:
    line, batchref, closed = promise
    return LineRow(
        line.orderid,
        line.sku,
        line.qty,
        batchref,
        line.position,
        line.priority,
        line.need_by,
        line.expires_at,
        closed,
        line.part or None,
        line.rest or None,
        line.arrived or None,
    )


@functools.lru_cache(maxsize=1_000)
def rules_of(text: str) -> Rules:
    return msgspec.json.decode(text, type=Rules)


def text_of(rules: Rules) -> str:
    return msgspec.json.encode(rules).decode()


def batch_of(row: BatchRow, records: Records) -> Batch:
    batch = Batch(
        row.ref,
        row.sku,
        row.purchased_quantity,
        row.eta,
        expires_on=row.expires_on,
        location=row.location,
        quarantine=row.quarantine,
        allocated_quantity=row.allocated_quantity,
        shipped_quantity=row.shipped_quantity,
        delivery=row.delivery,
        arrived=None if row.arrived_quantity is None else (row.arrived_quantity, row.arrived_allocated or 0),
        inspect_quantity=row.inspect_quantity,
        last_eta=row.last_eta,
        counted_at=row.counted_at,
        created_as=None if row.created_as is None else msgspec.json.decode(row.created_as, type=Creation),
        position=row.position,
        initial=(row.initial_quantity, row.initial_eta),
    )
    batch.leave_lines(records)
    return batch


def row_of_batch(batch: Batch) -> BatchRow:
    arrived = batch.arrived
    return BatchRow(
        batch.reference,
        batch.sku,
        batch.eta,
        batch.purchased_quantity,
        batch.allocated_quantity,
        batch.position,
        batch.initial_quantity,
        batch.initial_eta,
        batch.shipped_quantity,
        batch.location,
        batch.expires_on,
        batch.quarantine,
        batch.delivery,
        None if arrived is None else arrived.quantity,
        None if arrived is None else arrived.allocated_quantity,
        batch.inspect_quantity,
        batch.last_eta,
        batch.counted_at,
        None if batch.created_as is None else msgspec.json.encode(batch.created_as).decode(),
    )

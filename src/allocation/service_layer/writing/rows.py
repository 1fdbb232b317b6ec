"""Conversion between rows of the store and lines, batches and rules of the domain."""

from __future__ import annotations

import functools

import msgspec

from allocation.domain.batches import Batch
from allocation.domain.lines import OrderLine, Promise
from allocation.domain.records import Records
from allocation.domain.rules import Rules
from allocation.service_layer.writing.store import BatchRow, LineRow


def line_of(row: LineRow) -> OrderLine:
    about = (row.orderid, row.sku, row.qty, row.position, row.need_by, row.priority, row.expires_at)
    return OrderLine(*about, row.part or 0, row.rest or 0)


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
        position=row.position,
        initial=(row.initial_quantity, row.initial_eta),
    )
    batch.leave_lines(records)
    return batch


def row_of_batch(batch: Batch) -> BatchRow:
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
    )

"""Handles a group while the one before is still being written, on the expected result of that one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import NoReturn

from allocation.domain.lines import Fit, Miscount, Today
from allocation.service_layer.writing.store import BatchRow, Changes, Loaded, ProductRow, Wanted


class NotReadAhead(Exception):
    """The group needs more than was read for it: it has to wait until the one before is written."""


class ReadAhead:
    """A session without a transaction: the data read, with the changes of the group before applied.

    It is as if these had been committed already. If they fail, or if another process changes one of the products, the
    group cannot be written, because the versions do not match.
    """

    def __init__(self, read: Loaded, before: Changes | None) -> None:
        self._read: Loaded | None = read
        self._before = before

    def load(self, wanted: Wanted) -> Loaded:
        """The data read before; it can be loaded only once."""
        if self._read is None:
            raise NotReadAhead
        read, before = self._read, self._before
        self._read = self._before = None
        return read if before is None else _with(before, read, wanted)

    def batch(self, sku: str, ref: str) -> NoReturn:
        raise NotReadAhead

    def line(self, sku: str, orderid: str) -> NoReturn:
        raise NotReadAhead

    def priorities(self, sku: str, ref: str | None) -> NoReturn:
        raise NotReadAhead

    def newest_lines(self, sku: str, ref: str, before: int, priority: int = 0) -> NoReturn:
        raise NotReadAhead

    def any_waiting(self, sku: str, fits: Sequence[Fit]) -> NoReturn:
        raise NotReadAhead

    def waiting_lines(self, sku: str, after: int, fits: Sequence[Fit], priority: int = 0) -> NoReturn:
        raise NotReadAhead

    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> NoReturn:
        raise NotReadAhead

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        raise NotReadAhead

    def delivered(self, delivery: str) -> NoReturn:
        raise NotReadAhead

    def stock_told(self, sku: str) -> NoReturn:
        raise NotReadAhead

    def told_before(self, sku: str, position: int | None) -> NoReturn:
        raise NotReadAhead

    def save(self, changes: Changes) -> NoReturn:
        raise NotReadAhead


def _with(changes: Changes, read: Loaded, wanted: Wanted) -> Loaded:
    if not wanted.holdids.isdisjoint(row.orderid for row in (*changes.new_lines, *changes.lines)):
        raise NotReadAhead
    products = {row.sku: row for row in read.products}
    skus = wanted.skus | products.keys()
    products |= {row.sku: row for row in changes.new_products if row.sku in skus}
    products |= {
        row.sku: ProductRow(row.sku, row.version_number, row.waiting_lines, row.rules, row.retired)
        for row in changes.products
        if row.sku in skus
    }
    lines = {row[:2]: row for row in read.lines}
    lines |= {row[:2]: row for row in (*changes.new_lines, *changes.lines) if row[:2] in wanted.lines}
    messages = {row[:2]: row for row in read.messages}  # which may have them already: the other is being written
    messages |= {row[:2]: row for row in changes.messages if row.correlation_id in wanted.message_ids}
    return Loaded(
        [*products.values()],
        _batches(changes, read, skus, wanted.refs),
        [*lines.values()],
        [*messages.values()],
    )


def _batches(changes: Changes, read: Loaded, skus: AbstractSet[str], named: AbstractSet[str]) -> list[BatchRow]:
    """Those with room and those named."""
    batches = {row.ref: row for row in read.batches}
    for batch in (*changes.new_batches, *changes.batches, *changes.rewritten_batches):
        if batch.sku in skus:
            batches[batch.ref] = batch
        elif batch.ref in named:
            raise NotReadAhead
    return [row for row in batches.values() if row.ref in named or row.allocated_quantity < row.purchased_quantity]

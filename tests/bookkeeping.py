"""The books of tables in memory: their facts, and their audit."""

from __future__ import annotations

from collections.abc import Iterator

from allocation.adapters.memory import MemoryTables
from allocation.domain.events import AllocationRequired
from allocation.service_layer.messages import encode
from allocation.service_layer.proving.audit import ProductRows, Report, audit
from allocation.service_layer.proving.books import BOOKED, Fact
from allocation.service_layer.writing.ledger import unfold


def all_facts(tables: MemoryTables) -> Iterator[Fact]:
    """The ledger in its order; rows that a test put in stand where their correlation id does."""
    rows = [row for cascade in tables.messages.values() for row, _ in cascade]
    for position, row in enumerate(rows, start=1):
        for _, event in unfold(row):
            if type(event) in BOOKED or isinstance(event, AllocationRequired):
                yield Fact(position, row.sku, type(event).__name__, row.orderid, encode(event))


def facts_of(tables: MemoryTables, sku: str) -> list[Fact]:
    return [fact for fact in all_facts(tables) if fact.sku == sku]


def audited(tables: MemoryTables) -> Report:
    report = Report()
    skus = {*tables.products, *(batch.sku for batch in tables.batches.values())}
    for sku in sorted(skus | {line.sku for line in tables.lines.values()} | {fact.sku for fact in all_facts(tables)}):
        rows = ProductRows(
            sku,
            tables.products.get(sku),
            [batch for batch in tables.batches.values() if batch.sku == sku],
            sorted((line for line in tables.lines.values() if line.sku == sku), key=lambda line: line.orderid),
            sorted(facts_of(tables, sku), key=lambda fact: (fact.orderid or "", fact.position)),
        )
        audit(rows, report)
    return report

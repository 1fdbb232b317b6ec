"""Whether the books balance: what the database says twice has to agree, and with the files that were imported."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CHECKS = {
    "every batch counts what its lines hold": """
        SELECT count(*) FROM batches AS b WHERE allocated_quantity <>
            (SELECT coalesce(sum(qty), 0) FROM order_lines AS l WHERE l.batchref = b.ref AND l.sku = b.sku)""",
    "no batch is oversold": """
        SELECT count(*) FROM batches WHERE allocated_quantity NOT BETWEEN 0 AND purchased_quantity""",
    "every line that is not waiting is on a batch of its product": """
        SELECT count(*) FROM order_lines AS l WHERE batchref IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.ref = l.batchref AND b.sku = l.sku)""",
    "every product counts the lines that wait for it": """
        SELECT count(*) FROM products AS p WHERE waiting_lines <>
            (SELECT count(*) FROM order_lines AS l WHERE l.sku = p.sku AND l.batchref IS NULL)""",
    "nobody waits for what is there": """
        SELECT count(*) FROM order_lines AS l WHERE batchref IS NULL AND EXISTS
            (SELECT 1 FROM batches AS b WHERE b.sku = l.sku AND b.has_room
                AND b.purchased_quantity - b.allocated_quantity >= l.qty)""",
    "the ledger tells of as many lines on batches as there are": """
        SELECT abs((SELECT coalesce(sum((type = 'Allocated') - (type = 'Deallocated')), 0) FROM messages)
            - (SELECT count(*) FROM order_lines WHERE batchref IS NOT NULL))""",
}
FILES_CHECK = "every line of the files was taken once, with its quantity, and no other"


class Check(NamedTuple):
    """``wrong`` is how many rows contradict, 0 if all is well."""

    name: str
    wrong: int


class Totals(NamedTuple):
    """Where the lines stand."""

    lines: int
    quantity: int
    on_batches: int
    waiting: int
    batches: int
    products: int


def checks(connection: sqlite3.Connection, files: Iterable[Path]) -> list[Check]:
    """Every check with its result; the files are those that were imported, without refusals."""
    found = [Check(name, connection.execute(query).fetchone()[0]) for name, query in CHECKS.items()]
    asked = _asked(files)
    taken = Counter({(orderid, sku): qty for orderid, sku, qty in _lines(connection)})
    differences = sum(asked[key] != taken[key] for key in asked.keys() | taken.keys())
    return [*found, Check(FILES_CHECK, differences)]


def totals(connection: sqlite3.Connection) -> Totals:
    lines = connection.execute("SELECT count(*), coalesce(sum(qty), 0), count(batchref) FROM order_lines").fetchone()
    count, quantity, on_batches = lines
    batches = connection.execute("SELECT count(*) FROM batches").fetchone()[0]
    products = connection.execute("SELECT count(*) FROM products").fetchone()[0]
    return Totals(count, quantity, on_batches, count - on_batches, batches, products)


def _asked(files: Iterable[Path]) -> Counter[tuple[str, str]]:
    asked: Counter[tuple[str, str]] = Counter()
    for path in files:
        with path.open(encoding="utf-8") as file:
            for event in map(json.loads, file):
                if event["type"] == "AllocationRequired":
                    asked[event["orderid"], event["sku"]] = event["qty"]
    return asked


def _lines(connection: sqlite3.Connection) -> Iterable[tuple[str, str, int]]:
    return connection.execute("SELECT orderid, sku, qty FROM order_lines")

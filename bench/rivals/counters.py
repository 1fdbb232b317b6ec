"""The schema of the rivals that keep a counter per batch: one row per order, one lock per order."""

from pathlib import Path

from bench.books import Books
from bench.plan import BATCHES_PER_SKU, ROOM_PER_BATCH, SKUS
from bench.stores import Database

BOOKS = Books(
    totals="SELECT count(*), coalesce(sum(qty), 0) FROM allocations",
    wrong_batches="""
        SELECT count(*) FROM batches
        LEFT JOIN (SELECT batchref, sum(qty) AS held FROM allocations GROUP BY batchref) AS lines
            ON lines.batchref = batches.ref
        WHERE allocated_quantity <> coalesce(held, 0) OR allocated_quantity > purchased_quantity
    """,
)

_SCHEMA = Path(__file__).with_name("counters.sql")
_STOCK = f"""
    INSERT INTO products (sku) SELECT 'SKU-' || item FROM generate_series(1, {SKUS}) AS item;
    INSERT INTO batches (ref, sku, eta, purchased_quantity)
    SELECT 'batch-' || item || '-' || number, 'SKU-' || item,
           CASE WHEN number > 1 THEN date '2030-01-01' + number END, {ROOM_PER_BATCH}
    FROM generate_series(1, {SKUS}) AS item, generate_series(1, {BATCHES_PER_SKU}) AS number;
"""


def fill(database: Database) -> None:
    database.execute(_SCHEMA.read_text())
    database.execute(_STOCK)

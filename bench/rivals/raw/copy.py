"""COPY into PostgreSQL."""

import time

import psycopg

from bench.rivals.raw.lines import groups
from bench.stores import Database

COPY = "COPY allocations (orderid, sku, qty, batchref) FROM STDIN"


def fill(database: Database) -> None:
    """No key and no index: nothing can be faster."""
    database.execute("""
        CREATE TABLE allocations (
            orderid text NOT NULL, sku text NOT NULL, qty integer NOT NULL, batchref text NOT NULL
        )
    """)


def seconds_for(database: Database, rows: int) -> float:
    """The text is made before the clock starts."""
    texts = ["".join("\t".join(map(str, row)) + "\n" for row in group) for group in groups(rows)]
    with psycopg.connect(database.url) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        for text in texts:
            with cursor.copy(COPY) as copy:
                copy.write(text)
            connection.commit()
        return time.perf_counter() - started

"""`executemany` into SQLite, as durable as our own store."""

import sqlite3
import time
from contextlib import closing

from bench.rivals.raw.lines import groups
from bench.sqlite import SqliteDatabase
from bench.stores import Database

INSERT = "INSERT INTO allocations (orderid, sku, qty, batchref) VALUES (?, ?, ?, ?)"


def fill(database: Database) -> None:
    """No key and no index: nothing can be faster."""
    database.execute("""
        CREATE TABLE allocations (
            orderid text NOT NULL, sku text NOT NULL, qty integer NOT NULL, batchref text NOT NULL
        )
    """)


def seconds_for(database: SqliteDatabase, rows: int) -> float:
    """The rows are made before the clock starts."""
    commits = list(groups(rows))
    with closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        started = time.perf_counter()
        for group in commits:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, group)
            connection.execute("COMMIT")
        return time.perf_counter() - started

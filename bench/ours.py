"""Our service as anyone runs it: its command, its protocol, its books."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from bench.books import Books
from bench.bulk import post_lines
from bench.plan import BATCHES_PER_SKU, ROOM_PER_BATCH, SKUS
from bench.processes import HOST, Command, free_port, serving
from bench.sqlite import SqliteDatabase
from bench.stores import Database, Fixture

EXECUTABLE = Path(sys.executable).with_name("allocation")

BOOKS = Books(
    totals="SELECT count(*), coalesce(sum(qty), 0) FROM order_lines WHERE batchref IS NOT NULL",
    wrong_batches="""
        SELECT count(*) FROM batches LEFT JOIN (
            SELECT batchref, sum(qty) AS held FROM order_lines
            WHERE batchref IS NOT NULL GROUP BY batchref
        ) AS lines ON lines.batchref = batches.ref
        WHERE allocated_quantity <> coalesce(held, 0) OR allocated_quantity > purchased_quantity
    """,
)


def is_installed() -> bool:
    return EXECUTABLE.exists()


def database_url(database: Database) -> str:
    """With the driver's name, as the service wants it."""
    if isinstance(database, SqliteDatabase):
        return database.url
    return database.url.replace("postgresql://", "postgresql+asyncpg://")


def serve(database: Database, port: int) -> Command:
    options = ("--host", HOST, "--port", str(port), "--database", database_url(database))
    return Command([str(EXECUTABLE), "serve", *options])


def import_file(path: Path, database: Database) -> Command:
    return Command([str(EXECUTABLE), "import", str(path), "--database", database_url(database)])


def filled_with(name: str, lines: Callable[[], Iterable[bytes]]) -> Fixture:
    """A database that our own service filled; every line must have been accepted."""

    def fill(database: Database) -> None:
        port = free_port()
        with serving(serve(database, port), port):
            post_lines(port, lines())

    return Fixture(name, fill)


def batch(ref: str, sku: str, qty: int, eta: str | None = None) -> bytes:
    return _line(type="BatchCreated", ref=ref, sku=sku, qty=qty, eta=eta)


def order(orderid: str, sku: str, qty: int = 1) -> bytes:
    return _line(type="AllocationRequired", orderid=orderid, sku=sku, qty=qty)


def stock() -> Iterator[bytes]:
    """The same batches as every rival has."""
    for item in range(1, SKUS + 1):
        for number in range(1, BATCHES_PER_SKU + 1):
            eta = f"2030-01-{number:02}" if number > 1 else None
            yield batch(f"batch-{item}-{number}", f"SKU-{item}", ROOM_PER_BATCH, eta)


def cut_stock(lines: int) -> Iterator[bytes]:
    """All lines of `CUT` are on the batch `full`; the batch `spare` has room for all of them."""
    yield batch("full", "CUT", lines)
    yield from (order(f"order-{number}", "CUT") for number in range(lines))
    yield batch("spare", "CUT", lines, "2030-01-01")


def _line(**fields: str | int | None) -> bytes:
    return msgspec.json.encode(fields) + b"\n"


STOCK = filled_with("ours_stock", stock)

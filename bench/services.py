"""The contenders that answer HTTP: how each is filled, started and checked."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import ours
from bench.books import Books
from bench.processes import HOST, Command, Server, free_port, serving
from bench.rivals import counters
from bench.rivals.textbook import schema as textbook_schema
from bench.run import Run
from bench.stores import Database, Fixture

TEXTBOOK_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    stock: Fixture
    command: Callable[[Database, int], Command]
    books: Books
    on_sqlite: bool = False

    @contextmanager
    def database(self, run: Run, fixture: Fixture | None = None) -> Iterator[Database]:
        store = run.sqlite if self.on_sqlite else run.postgres
        with store.clone(fixture or self.stock) as database:
            yield database

    @contextmanager
    def running(self, database: Database, processes: int = 1) -> Iterator[list[Server]]:
        """So many server processes on one database, each on a port of its own."""
        with ExitStack() as stack:
            ports = [free_port() for _ in range(processes)]
            yield [stack.enter_context(serving(self.command(database, p), p)) for p in ports]


def one_tx(pool_size: int) -> Service:
    def command(database: Database, port: int) -> Command:
        target = "bench.rivals.one_tx:create_app"
        options = ("--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning")
        argv = [sys.executable, "-m", "uvicorn", "--factory", target, f"--port={port}", *options]
        return Command(argv, _environment(database, pool_size))

    return Service("one-tx", Fixture("one_tx_stock", counters.fill), command, counters.BOOKS)


def textbook(workers: int, threads: int) -> Service:
    def command(database: Database, port: int) -> Command:
        argv = [
            *(sys.executable, "-m", "gunicorn", "bench.rivals.textbook.app:create_app()"),
            *("--worker-class=gthread", f"--workers={workers}", f"--threads={threads}"),
            *(f"--timeout={TEXTBOOK_TIMEOUT_S}", "--log-level=warning", f"--bind={HOST}:{port}"),
        ]
        return Command(argv, _environment(database, threads))

    fixture = Fixture("textbook_stock", textbook_schema.fill)
    return Service("textbook", fixture, command, textbook_schema.BOOKS)


def _environment(database: Database, pool_size: int) -> dict[str, str]:
    return {"BENCH_DATABASE_URL": database.url, "BENCH_POOL_SIZE": str(pool_size)}


OURS = Service("ours", ours.STOCK, ours.serve, ours.BOOKS)
OURS_SQLITE = Service("ours-sqlite", ours.STOCK, ours.serve, ours.BOOKS, on_sqlite=True)
ONE_TX = {f"{size} connections": one_tx(size) for size in (4, 8, 16)}
TEXTBOOK = {f"{workers}×{threads} threads": textbook(workers, threads) for workers, threads in ((2, 1), (2, 4), (4, 2))}

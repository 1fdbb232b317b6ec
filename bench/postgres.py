"""The PostgreSQL server of a run: durable, and proved to be before anything is measured."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.stores import Fixture
from tests.servers import PostgresServer, find_system_binaries

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# Checkpoints come when we ask for them, not in the middle of somebody's sample.
STEADY = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"}


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    url: str

    def execute(self, script: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(script.encode())

    def row(self, query: str) -> tuple[Any, ...]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            row: tuple[Any, ...] | None = connection.execute(query.encode()).fetchone()
        if row is None:
            raise LookupError(f"No row for: {query}")
        return row

    def parameters(self) -> dict[str, str]:
        return {name: str(value) for name, value in conninfo_to_dict(self.url).items()}


class PostgresStore:
    """`binaries` is the folder with the server's programs."""

    def __init__(self, server_url: str, binaries: Path) -> None:
        self.binaries = binaries
        self._server_url = server_url
        self._admin = PostgresDatabase(f"{server_url}/postgres")
        self._templates: dict[str, str] = {}
        self._numbers = itertools.count(1)

    @contextmanager
    def clone(self, fixture: Fixture) -> Iterator[PostgresDatabase]:
        template = self._template(fixture)
        name = f"bench_{next(self._numbers)}"
        self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        self._admin.execute("CHECKPOINT")
        try:
            yield self._database(name)
        finally:
            self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def prove_durable(self) -> None:
        for name, value in DURABLE.items():
            if self._admin.row(f"SHOW {name}") != (value,):
                raise RuntimeError(f"PostgreSQL runs without {name} = {value}: not a fair run.")

    def version(self) -> str:
        return str(self._admin.row("SHOW server_version")[0])

    def _template(self, fixture: Fixture) -> str:
        if fixture.name not in self._templates:
            self._templates[fixture.name] = self._fill(fixture)
        return self._templates[fixture.name]

    def _fill(self, fixture: Fixture) -> str:
        name = f"template_{fixture.name}"
        self._admin.execute(f'CREATE DATABASE "{name}"')
        database = self._database(name)
        fixture.fill(database)
        database.execute("VACUUM (ANALYZE)")
        return name

    def _database(self, name: str) -> PostgresDatabase:
        return PostgresDatabase(f"{self._server_url}/{name}")


@contextmanager
def running_postgres() -> Iterator[PostgresStore]:
    """The machine's own PostgreSQL where there is one: it brings pgbench."""
    with PostgresServer({**DURABLE, **STEADY}, binaries=find_system_binaries()) as server:
        store = PostgresStore(server.dsn("").rstrip("/"), server.binaries)
        store.prove_durable()
        yield store

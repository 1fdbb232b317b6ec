"""SQLite files of a run. The same durability as PostgreSQL: WAL with `synchronous=FULL`."""

import itertools
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.stores import Fixture


@dataclass(frozen=True, slots=True)
class SqliteDatabase:
    path: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def execute(self, script: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)

    def row(self, query: str) -> tuple[Any, ...]:
        with closing(sqlite3.connect(self.path)) as connection:
            row: tuple[Any, ...] | None = connection.execute(query).fetchone()
        if row is None:
            raise LookupError(f"No row for: {query}")
        return row


class SqliteStore:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._templates: dict[str, Path] = {}
        self._numbers = itertools.count(1)

    @contextmanager
    def clone(self, fixture: Fixture) -> Iterator[SqliteDatabase]:
        directory = self._directory / f"bench_{next(self._numbers)}"
        directory.mkdir()
        path = directory / "bench.db"
        shutil.copyfile(self._template(fixture), path)
        try:
            yield SqliteDatabase(path)
        finally:
            shutil.rmtree(directory)

    def _template(self, fixture: Fixture) -> Path:
        if fixture.name not in self._templates:
            database = SqliteDatabase(self._directory / f"{fixture.name}.db")
            fixture.fill(database)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE); ANALYZE")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._templates[fixture.name] = database.path
        return self._templates[fixture.name]

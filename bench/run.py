"""What every benchmark of a run shares: its plan, its stores, its serial numbers."""

import compileall
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import allocation
from bench.plan import Plan
from bench.postgres import PostgresStore, running_postgres
from bench.sqlite import SqliteStore


@dataclass(slots=True)
class Run:
    """`remembered` keeps figures that one benchmark finds on its way and another one reports."""

    plan: Plan
    postgres: PostgresStore
    sqlite: SqliteStore
    scratch: Path
    remembered: dict[str, float] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def unique(self) -> str:
        """A prefix for order ids that no other load of this run has."""
        return f"run{next(self._numbers)}"


@contextmanager
def started(plan: Plan) -> Iterator[Run]:
    compileall.compile_dir(Path(allocation.__file__).parent, quiet=1)  # as installing does: no start is to include it
    with TemporaryDirectory(prefix="bench-") as scratch, running_postgres() as postgres:
        yield Run(plan, postgres, SqliteStore(Path(scratch)), Path(scratch))

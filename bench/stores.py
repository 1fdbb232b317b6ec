"""Where contenders keep their rows: databases that are filled once and cloned for every sample."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Database(Protocol):
    """One contender's database for one sample."""

    @property
    def url(self) -> str:
        """As the contender's driver spells it, without the name of a driver."""

    def execute(self, script: str) -> None: ...

    def row(self, query: str) -> tuple[Any, ...]:
        """The first row."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """A starting state: `fill` makes it in an empty database, once per run of the benchmarks."""

    name: str
    fill: Callable[[Database], None]


class Store(Protocol):
    def clone(self, fixture: Fixture) -> AbstractContextManager[Database]:
        """A database of one's own in the state of the fixture; gone afterwards."""

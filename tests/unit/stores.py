"""Stores that behave in unusual ways, each around a real one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from allocation.adapters.memory import MemoryStore
from allocation.domain.lines import Fit, Miscount, Today
from allocation.service_layer.writing.store import (
    BatchRow,
    Changes,
    LineRow,
    Loaded,
    Session,
    StoreUnavailable,
    TimedRow,
    Wanted,
)

T = TypeVar("T")


class WatchedSession:
    """Counts what is asked of the session, and fails for one SKU, as a bug would."""

    def __init__(self, session: Session, calls: Counter[str], poison: str) -> None:
        self._session = session
        self._calls = calls
        self._poison = poison

    def load(self, wanted: Wanted) -> Loaded:
        self._calls["load"] += 1
        if self._poison in wanted.skus:
            raise ZeroDivisionError(self._poison)
        return self._session.load(wanted)

    def batch(self, sku: str, ref: str) -> BatchRow | None:
        self._calls["batch"] += 1
        return self._session.batch(sku, ref)

    def line(self, sku: str, orderid: str) -> LineRow | None:
        self._calls["line"] += 1
        return self._session.line(sku, orderid)

    def priorities(self, sku: str, ref: str | None) -> Sequence[int]:
        self._calls["priorities"] += 1
        return self._session.priorities(sku, ref)

    def newest_lines(self, sku: str, ref: str, before: int, priority: int = 0) -> Sequence[LineRow]:
        self._calls["newest_lines"] += 1
        return self._session.newest_lines(sku, ref, before, priority)

    def any_waiting(self, sku: str, fits: Sequence[Fit]) -> bool:
        self._calls["any_waiting"] += 1
        return self._session.any_waiting(sku, fits)

    def waiting_lines(self, sku: str, after: int, fits: Sequence[Fit], priority: int = 0) -> Sequence[LineRow]:
        self._calls["waiting_lines"] += 1
        return self._session.waiting_lines(sku, after, fits, priority)

    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        self._calls["late_lines"] += 1
        return self._session.late_lines(sku, today, fits, rewritten, after)

    def miscounts(self, sku: str) -> Sequence[Miscount]:
        self._calls["miscounts"] += 1
        return self._session.miscounts(sku)

    def delivered(self, delivery: str) -> Sequence[tuple[str, str]]:
        self._calls["delivered"] += 1
        return self._session.delivered(delivery)

    def stock_told(self, sku: str) -> Sequence[TimedRow]:
        self._calls["stock_told"] += 1
        return self._session.stock_told(sku)

    def told_before(self, sku: str, position: int | None) -> Sequence[TimedRow]:
        self._calls["told_before"] += 1
        return self._session.told_before(sku, position)

    def save(self, changes: Changes) -> None:
        self._calls["save"] += 1
        self._session.save(changes)


class UnusualStore:
    """Memory, with what a test wants to see or to go wrong.

    ``lost_before`` and ``lost_after`` count the calls still to be lost before their work, and after it was committed;
    ``conflicts`` are raised one by one where something is written. While ``gate`` is closed no call begins.
    """

    def __init__(self, poison: str = "") -> None:
        self.store = MemoryStore()
        self.calls: Counter[str] = Counter()
        self.poison = poison
        self.lost_before = 0
        self.lost_after = 0
        self.conflicts: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, work: Callable[[Session], T]) -> T:
        await self._begin("run")
        if self.conflicts:
            raise self.conflicts.pop()
        result = await self.store.run(lambda session: work(WatchedSession(session, self.calls, self.poison)))
        self._end()
        return result

    async def read(self, wanted: Wanted) -> Loaded:
        await self._begin("read")
        if self.poison in wanted.skus:
            raise ZeroDivisionError(self.poison)
        return await self.store.read(wanted)

    async def write(self, changes: Changes) -> None:
        await self._begin("write")
        if self.conflicts:
            raise self.conflicts.pop()
        await self.store.write(changes)
        self._end()

    async def _begin(self, call: str) -> None:
        self.calls[call] += 1
        await self.gate.wait()
        if self.lost_before:
            self.lost_before -= 1
            raise StoreUnavailable("connection lost")

    def _end(self) -> None:
        if self.lost_after:
            self.lost_after -= 1
            raise StoreUnavailable("connection lost while committing")

    async def close(self) -> None:
        await self.store.close()

"""Turns to write, among the processes that change the same products."""

from __future__ import annotations

import asyncio
from typing import Protocol

CONTENDED_S = 1.0  # for which groups are written in turns, or products locked at once, after others changed them too
TURN_S = 0.05  # that a turn lasts, in which a process writes one group after the other
LULL_S = 0.002  # after which a turn ends early, if nothing is asked for


class Turns(Protocol):
    """Turns that processes take: for speed alone, nothing relies on them."""

    async def take(self) -> bool:
        """Wait for the turn, after all processes that wait already. False if there is no turn in time."""

    async def give_back(self) -> None:
        """Let the next have it, if it was taken."""


class OwnTurns:
    """The turns of one writer, which it needs while other processes change the same products.

    A turn has room for several groups: no other process changes anything meanwhile, so the products in memory remain
    valid for the next group. Without ``turns``, the writer never takes one.
    """

    def __init__(self, turns: Turns | None) -> None:
        self._turns = turns
        self._contended_until = 0.0
        self._until: float | None = None  # the end of our turn; None: it is not ours

    def expect_others(self) -> None:
        """Somebody else changed a product that we were about to."""
        self._contended_until = _now() + CONTENDED_S

    @property
    def others_expected(self) -> bool:
        return _now() < self._contended_until

    @property
    def is_needed(self) -> bool:
        return self._turns is not None and self.others_expected

    @property
    def is_ours(self) -> bool:
        return self._until is not None

    @property
    def is_over(self) -> bool:
        return self._until is not None and _now() >= self._until

    async def take(self) -> None:
        """Wait for our turn; without it if it cannot be had in time."""
        if self._turns is not None and await self._turns.take():
            self._until = _now() + TURN_S

    async def end(self) -> None:
        """Let the next have it, if it is ours."""
        if self._turns is not None and self.is_ours:
            self._until = None
            await self._turns.give_back()

    async def wait(self, due: asyncio.Event) -> None:
        """Wait until something is to be done; if that takes long, the turn ends meanwhile."""
        if self.is_ours:
            try:
                async with asyncio.timeout(LULL_S):
                    await due.wait()
            except TimeoutError:
                await self.end()
        await due.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()

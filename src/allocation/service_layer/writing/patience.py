"""How long a writer waits for a database that is lost, and for how long it says so to everybody."""

from __future__ import annotations

import asyncio

TROUBLE_S = 10.0  # for which a database that could not be written is taken to be so still, unless it is written again


class Patience:
    """Counts from the loss, not for each group, so that later callers do not wait again."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lost_at: float | None = None  # time of the first failed transaction; None: the last one succeeded
        self._trouble: tuple[str, float] | None = None  # the last error reported to callers, and its time

    @property
    def trouble(self) -> str | None:
        """Why the last messages could not be written, a short while ago; None: they were, or another try is due."""
        if self._lost_at is None or self._trouble is None or _now() > self._trouble[1] + TROUBLE_S:
            return None
        return self._trouble[0]

    def is_over(self) -> bool:
        """Whether the database, which was found lost just now, has been lost for too long."""
        now = _now()
        if self._lost_at is None:
            self._lost_at = now
        return now > self._lost_at + self._timeout_s

    def give_up(self, reason: str) -> None:
        """Record that callers got this error for their messages."""
        self._trouble = reason, _now()

    def renew(self) -> None:
        """A transaction has succeeded."""
        self._lost_at = None


def _now() -> float:
    return asyncio.get_running_loop().time()

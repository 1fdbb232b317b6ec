"""How busy the writer was, second by second: a few additions for each group, and nothing for each message."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

MINUTES_KEPT = 5


class Second(NamedTuple):
    """The answers of one second."""

    messages: int
    groups: int

    @property
    def group_size(self) -> float:
        """The mean; 0 if there was no group."""
        return self.messages / self.groups if self.groups else 0.0


class Meter:
    """Counts the groups of the last minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.in_vain = 0  # groups that were handled ahead and needed more than was read, since the start
        self._seconds: dict[int, list[int]] = {}  # by the clock's second, the oldest first: messages and groups

    def count(self, messages: int) -> None:
        """Count a group of answered messages."""
        now = int(self._clock())
        counted = self._seconds.get(now)
        if counted is None:
            counted = self._seconds[now] = [0, 0]
            if len(self._seconds) > MINUTES_KEPT * 60:
                del self._seconds[next(iter(self._seconds))]
        counted[0] += messages
        counted[1] += 1

    def last(self, seconds: int) -> Sequence[Second]:
        """The last ``number`` whole seconds, the oldest first."""
        now = int(self._clock())
        return [Second(*self._seconds.get(second, (0, 0))) for second in range(now - seconds, now)]

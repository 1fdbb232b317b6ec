"""Counts of today's causes and consequences, from the ledger as it grows, over all processes."""

from __future__ import annotations

import time
from collections import Counter, deque
from datetime import UTC, datetime
from typing import NamedTuple

from allocation.adapters.reader import Reader
from allocation.console_views import ledger
from allocation.console_views.ledger import Pair
from allocation.domain.days import UTC_DAYS, Calendar
from allocation.entrypoints.console.pacing import Paced

CHUNK = 20_000  # rows counted at once
# Another process may commit after rows with higher positions, but not later than this.
SETTLED_AFTER_S = 2.0


class Day(NamedTuple):
    """The counts of a day; ``behind`` are the rows that could be counted by now and are not.

    ``is_complete``: there are no others either, which are left until they have settled.
    """

    since: datetime
    counts: Counter[Pair]
    behind: int
    is_complete: bool

    def total(self, type_: str) -> int:
        """Messages of this type, with any cause."""
        return sum(number for (_, led_to), number in self.counts.items() if led_to == type_)

    def pair(self, cause: str | None, type_: str) -> int:
        return self.counts[cause, type_]


class Tally:
    """Counts a chunk at a time, and starts again from zero at midnight."""

    def __init__(
        self, reader: Reader, calendar: Calendar = UTC_DAYS, *, settled_after_s: float = SETTLED_AFTER_S
    ) -> None:
        self._reader = reader
        self._calendar = calendar
        self._settled_after_s = settled_after_s
        self._seen: deque[tuple[float, int]] = deque()  # when the ledger ended where
        self._since = datetime.min.replace(tzinfo=UTC)
        self._counted = 0
        self._counts: Counter[Pair] = Counter()
        self._paced = Paced(self._catch_up)

    async def today(self) -> Day:
        """As far as it is counted."""
        return (await self._paced.get()).value

    async def _catch_up(self) -> Day:
        midnight = self._calendar.midnight(datetime.now(UTC))
        if midnight != self._since:
            first = await self._reader.run(ledger.first_position_since, midnight)
            self._since, self._counted, self._counts = midnight, first - 1, Counter()
        end = await self._settled_end()
        until = min(end, self._counted + CHUNK)
        if until > self._counted:
            self._counts += await self._reader.run(ledger.tally, self._counted, until)
            self._counted = until
        _, last = self._seen[-1]
        return Day(self._since, self._counts, max(0, end - self._counted), self._counted >= last)

    async def _settled_end(self) -> int:
        """Where the ledger ended so long ago that nothing below is still to come."""
        now = time.monotonic()
        self._seen.append((now, await self._reader.run(ledger.last_position)))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._settled_after_s:
            self._seen.popleft()
        at, end = self._seen[0]
        return end if at <= now - self._settled_after_s else self._counted  # not known yet

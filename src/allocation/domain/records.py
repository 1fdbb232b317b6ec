"""The stored data of a product that are not in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from allocation.domain.batches import Batch, NoStoredLines, StoredLines
from allocation.domain.lines import Fit, Miscount, OrderLine, Promise, Today


class Records(StoredLines, Protocol):
    """The stored rows of one product. Pages may have any length; an empty page is the last.

    Closed lines are in no page.
    """

    def promise(self, orderid: str) -> Promise | None:
        """The order's line and its place, or None if it was never ordered."""

    def batch(self, ref: str) -> Batch | None:
        """The batch of this product with that reference, exhausted or not."""

    def any_waiting(self, fits: Sequence[Fit]) -> bool:
        """Whether `waiting_lines` has any for a priority. It costs the same however many lines wait."""

    def waiting_lines(self, priority: int, after: int, fits: Sequence[Fit]) -> Sequence[OrderLine]:
        """A page of backorders of a priority, oldest first, with positions above ``after``.

        Each has a fit that is large enough and not before the day it is needed by. A line that may be split has any
        quantity.
        """

    def late_lines(
        self, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[Promise]:
        """A page of the lines promised too late that are needed today or later.

        Each has a fit that is large enough and not after the day it is needed by.
        They are sorted by priority, the highest first, then by position; the page begins behind the line ``after``.
        Storage has an outdated ETA of the batches that were ``rewritten`` since, so it may return more of their lines.
        """

    def miscounts(self) -> Sequence[Miscount]:
        """The counters that are wrong in storage."""


class _NoRecords(NoStoredLines):
    """The records of a product that has everything in memory."""

    def promise(self, orderid: str) -> Promise | None:
        return None

    def batch(self, ref: str) -> Batch | None:
        return None

    def any_waiting(self, fits: Sequence[Fit]) -> bool:
        return False

    def waiting_lines(self, priority: int, after: int, fits: Sequence[Fit]) -> Sequence[OrderLine]:
        return ()

    def late_lines(
        self, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[Promise]:
        return ()

    def miscounts(self) -> Sequence[Miscount]:
        return ()


NO_RECORDS: Final[Records] = _NoRecords()

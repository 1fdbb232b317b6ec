"""Keeps stock for the oldest backorder, once it has aged, until a batch has enough for it."""

from __future__ import annotations

from typing import NamedTuple

from allocation.domain.lines import OrderLine, is_pinned


class Kept(NamedTuple):
    """The free stock of a batch is kept for a line, which has gained that priority by its age."""

    line: OrderLine
    batchref: str
    priority: int

    def is_for(self, line: OrderLine) -> bool:
        """Whether the line may have it: it is that line, an older one, or one of a higher priority than it has gained.

        Holds may not, and a pinned line that lost its batch may.
        """
        if line.orderid == self.line.orderid or line.priority > self.priority or is_pinned(line.priority):
            return True
        return line.priority >= 0 and 0 < line.position < self.line.position

    def is_for_any(self, priority: int, after: int) -> bool:
        """Whether a line of that priority, after that position, may have it."""
        return after < self.line.position or priority > self.priority or is_pinned(priority)

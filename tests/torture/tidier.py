"""A process that removes what was closed before a moment, again and again, as if 30 days had gone by since.

``python -m tests.torture.tidier DATABASE_URL MOMENT``: only the clock is set, all else is the real thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import datetime, timedelta

from allocation.adapters.closed_lines import SqlClosedLines
from allocation.adapters.database import parse_url
from allocation.service_layer.proving import retention
from allocation.service_layer.proving.retention import Retention, Tidied
from allocation.service_layer.writing.store import StoreUnavailable

KEEP = timedelta(days=30)
BATCH_SIZE = 5  # lines in a transaction: many of those, to be killed and cut off in
PAUSE_S = 0.02


async def tidy_once(url: str, moment: datetime) -> Tidied:
    """Remove all that was closed before the moment, and of which nothing was said since."""
    tidier = Retention(SqlClosedLines(parse_url(url)), KEEP, lambda: moment + KEEP)
    try:
        return await tidier.tidy(KEEP)
    finally:
        await tidier.close()


async def tidy(url: str, moment: datetime) -> None:
    """The same until the process is killed."""
    retention.BATCH_SIZE = BATCH_SIZE
    while True:
        with contextlib.suppress(StoreUnavailable):
            await tidy_once(url, moment)
        await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    asyncio.run(tidy(sys.argv[1], datetime.fromisoformat(sys.argv[2])))

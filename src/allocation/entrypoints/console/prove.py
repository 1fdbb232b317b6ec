"""The process that proves the books for `proof`: a JSON line for each step, and one for the verdict.

It gives way to every other process of the machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import msgspec

from allocation.adapters.database import parse_url
from allocation.adapters.long_reader import LongReader
from allocation.config import Settings
from allocation.entrypoints.console.proof import MOST_SHOWN, Difference, Progress, Report, Verdict
from allocation.views.audit import Found, audit_all

NICENESS = 10
TELL_EVERY_S = 0.2


class Teller:
    """Tells now and then how far it is."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, seen: int, total: int) -> None:
        if time.monotonic() >= self._next or seen == total:
            self._next = time.monotonic() + TELL_EVERY_S
            tell(Report(progress=Progress(seen, total)))


def tell(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    os.nice(NICENESS)
    url = parse_url(Settings.from_environment(os.environ).database_url)
    report, found = asyncio.run(LongReader(url).run(audit_all, Teller()))
    shown = [_difference(each) for each in found[:MOST_SHOWN]]
    tell(Report(verdict=Verdict(report.products, report.batches, report.lines, report.messages, report.found, shown)))


def _difference(found: Found) -> Difference:
    kind, sku, name, stored, expected, _ = found.difference
    return Difference(kind, sku, name, _shown(stored), _shown(expected), found.cause.id if found.cause else None)


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()

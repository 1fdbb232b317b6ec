"""The command line: ``allocation``, or ``python -m allocation.entrypoints.cli``."""

from __future__ import annotations

import atexit
import gc
import sys

GC_THRESHOLD = 50_000  # new objects between two collections


def main() -> None:
    """Run the command line and exit.

    The loaded modules are never garbage: looking for garbage among them, and once more at exit, would take a fifth of
    the time of a short command.
    """
    gc.set_threshold(GC_THRESHOLD)
    atexit.register(gc.freeze)
    from allocation.entrypoints.cli.app import run  # noqa: PLC0415 - loads everything, after the threshold is set

    sys.exit(run())

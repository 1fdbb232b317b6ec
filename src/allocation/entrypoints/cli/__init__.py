"""The command line: ``allocation``, or ``python -m allocation.entrypoints.cli``."""

from allocation.entrypoints.cli.app import main

__all__ = ["main"]

"""``python -m allocation.entrypoints.cli``."""

from allocation.entrypoints.cli import main

main()

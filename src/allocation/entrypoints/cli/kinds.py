"""Choices of options, apart from the heavy modules that act on them."""

from enum import StrEnum


class Past(StrEnum):
    """What can be done at a time of the past."""

    SHOW = "show"


class Format(StrEnum):
    """How exported rows are written."""

    CSV = "csv"
    JSONL = "jsonl"


class What(StrEnum):
    """What can be exported."""

    BATCHES = "batches"
    ALLOCATIONS = "allocations"
    BACKORDERS = "backorders"
    LEDGER = "ledger"

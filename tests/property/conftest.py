"""What random histories need besides servers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from allocation.adapters import memory, postgresql, sqlite

SMALL_PAGE = 2


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short histories must turn pages too."""
    monkeypatch.setattr(memory, "PAGE_SIZE", SMALL_PAGE)
    for module in (sqlite, postgresql):
        for name in ("NEWEST_LINES", "NEWEST_LINES_OF", "WAITING_LINES", "WAITING_LINES_OF"):
            statement, pages = re.subn(r"LIMIT \d+", f"LIMIT {SMALL_PAGE}", getattr(module, name))
            assert pages
            monkeypatch.setattr(module, name, statement)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner

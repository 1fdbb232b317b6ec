"""A line is late if its stock is there after it is needed, or on no known day, or if it waits and is needed already."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from allocation.domain.lines import NO_DAY, is_late, late_by
from tests.builders import on

TODAY = on(date(2026, 6, 1))
YESTERDAY, TOMORROW = TODAY.day - timedelta(days=1), TODAY.day + timedelta(days=1)


@pytest.mark.parametrize(
    ("need_by", "day", "late", "days"),
    [
        (None, TOMORROW, False, 0),
        (None, None, False, 0),
        (TOMORROW, TOMORROW, False, 0),
        (TODAY.day, TOMORROW, True, 1),
        (YESTERDAY, TOMORROW, True, 2),
        (TODAY.day, None, False, 0),
        (YESTERDAY, None, True, 1),
        (TOMORROW, NO_DAY, True, 0),
        (YESTERDAY, NO_DAY, True, 1),
        (None, NO_DAY, False, 0),
    ],
)
def test_a_line_is_late(need_by: date | None, day: date | None, late: bool, days: int) -> None:
    assert (is_late(need_by, day, TODAY), late_by(need_by, day, TODAY)) == (late, days)

"""When a digest is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from allocation.service_layer.delivering.digest import next_due

BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("zone", "hour", "now", "due"),
    [
        ("UTC", 7, "2026-07-01T06:59:59Z", "2026-07-01T07:00Z"),
        ("UTC", 7, "2026-07-01T07:00:00Z", "2026-07-02T07:00Z"),
        ("UTC", 0, "2026-12-31T23:59:59Z", "2027-01-01T00:00Z"),
        (BERLIN, 7, "2026-07-01T04:00:00Z", "2026-07-01T05:00Z"),
        (BERLIN, 7, "2026-12-01T04:00:00Z", "2026-12-01T06:00Z"),
        ("Asia/Seoul", 23, "2026-07-01T14:30:00Z", "2026-07-02T14:00Z"),
        ("America/New_York", 20, "2026-07-02T00:10:00Z", "2026-07-03T00:00Z"),
        (BERLIN, 2, "2026-03-28T23:00:00Z", "2026-03-29T01:00Z"),  # there is no hour 2 on that day: it is 3 o'clock
        (BERLIN, 2, "2026-03-29T01:00:00Z", "2026-03-30T00:00Z"),
        (BERLIN, 2, "2026-10-24T23:00:00Z", "2026-10-25T00:00Z"),  # there are two of them
        (BERLIN, 2, "2026-10-25T00:00:00Z", "2026-10-26T01:00Z"),
    ],
)
def test_the_next_digest_is_at_the_hour_of_the_business(zone: str, hour: int, now: str, due: str) -> None:
    assert next_due(datetime.fromisoformat(now), hour, ZoneInfo(zone)) == datetime.fromisoformat(due)


@pytest.mark.parametrize("hour", range(24))
def test_there_is_one_digest_on_each_day_also_when_the_clocks_change(hour: int) -> None:
    zone = ZoneInfo(BERLIN)
    moment = datetime(2026, 1, 1, tzinfo=zone).astimezone(UTC) - timedelta(seconds=1)
    days = []
    for _ in range(365):
        moment = next_due(moment, hour, zone)
        days.append(moment.astimezone(zone).date())
    assert [day.timetuple().tm_yday for day in days] == list(range(1, 366))

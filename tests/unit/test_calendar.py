"""The days of the business: where they begin, how long they are, and for which day overdue stock is promised."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from allocation.domain.days import UTC_DAYS, Calendar
from allocation.domain.events import AllocationRequired, BatchCreated, PromiseChanged
from allocation.domain.lines import Today, stock_day
from allocation.service_layer.writing.writer import Writer
from tests.builders import message
from tests.unit.stores import UnusualStore

BERLIN, NEW_YORK, SEOUL = (ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Asia/Seoul"))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        (NEW_YORK, "2026-01-02T01:10Z", "2026-01-01"),  # ten past eight in the evening
        (NEW_YORK, "2026-01-02T04:59:59Z", "2026-01-01"),
        (NEW_YORK, "2026-01-02T05:00Z", "2026-01-02"),
        (SEOUL, "2026-01-01T22:00Z", "2026-01-02"),  # seven in the morning
        (SEOUL, "2026-01-01T14:59:59Z", "2026-01-01"),
        (BERLIN, "2026-03-28T23:00Z", "2026-03-29"),  # the night that the clocks go forward
        (BERLIN, "2026-03-29T21:59:59Z", "2026-03-29"),
        (BERLIN, "2026-03-29T22:00Z", "2026-03-30"),  # after 23 hours
        (BERLIN, "2026-10-24T22:00Z", "2026-10-25"),  # the night that they go back
        (BERLIN, "2026-10-25T22:59:59Z", "2026-10-25"),
        (BERLIN, "2026-10-25T23:00Z", "2026-10-26"),  # after 25 hours
        (NEW_YORK, "2026-03-08T04:59:59Z", "2026-03-07"),
        (NEW_YORK, "2026-03-09T04:00Z", "2026-03-09"),
        (UTC, "2026-01-02T01:10+02:00", "2026-01-01"),
        (NEW_YORK, "0001-01-01T00:00Z", "0001-01-01"),
        (SEOUL, "9999-12-31T23:00Z", "9999-12-31"),
    ],
)
def test_a_moment_is_in_the_day_of_the_time_zone(zone: ZoneInfo, at: str, day: str) -> None:
    assert Calendar(zone).at(moment(at)).day == date.fromisoformat(day)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (BERLIN, "2026-03-29", 23),
        (BERLIN, "2026-10-25", 25),
        (BERLIN, "2026-06-01", 24),
        (NEW_YORK, "2026-03-08", 23),
        (NEW_YORK, "2026-11-01", 25),
        (SEOUL, "2026-03-29", 24),
        (UTC, "2026-10-25", 24),
    ],
)
def test_a_day_has_23_or_25_hours_when_the_clocks_change(zone: ZoneInfo, day: str, hours: int) -> None:
    calendar, begins = (
        Calendar(zone),
        Calendar(zone).midnight(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=zone)),
    )
    assert (
        calendar.at(begins).day
        == date.fromisoformat(day)
        == calendar.at(begins - timedelta(seconds=1)).day + timedelta(1)
    )
    assert calendar.midnight(begins + timedelta(days=1, hours=6)) - begins == timedelta(hours=hours)


@pytest.mark.parametrize(("allowance", "overdue"), [(0, 5), (1, 6), (3, 8)])
def test_an_overdue_delivery_is_promised_for_as_many_days_after_today(allowance: int, overdue: int) -> None:
    today = Calendar(UTC, allowance).at(moment("2026-01-05T12:00Z"))
    assert today == Today(date(2026, 1, 5), date(2026, 1, overdue))
    assert stock_day(None, today) == date(2026, 1, 5)
    assert stock_day(date(2026, 1, 5), today) == date(2026, 1, 5), "it may still come"
    assert stock_day(date(2026, 1, 6), today) == date(2026, 1, 6)
    assert stock_day(date(2026, 1, 4), today) == date(2026, 1, overdue)


def test_the_last_day_there_is_has_no_day_after_it() -> None:
    assert UTC_DAYS.at(moment("9999-12-31T12:00Z")) == Today(date.max, date.max)


@pytest.mark.parametrize(("zone", "batchref"), [(NEW_YORK, "milk"), (UTC, None), (SEOUL, None)])
def test_messages_of_one_moment_are_of_the_day_of_the_time_zone(zone: ZoneInfo, batchref: str | None) -> None:
    """Milk that is good until the first is sold in the evening of New York, where others write the second."""

    async def play() -> object:
        writer = Writer(UnusualStore(), calendar=Calendar(zone), clock=lambda: moment("2026-01-02T01:10Z"))
        writer.start()
        await writer.handle(message(BatchCreated("milk", "MILK", 5, expires_on=date(2026, 1, 1))))
        outcome = await writer.handle(message(AllocationRequired("o1", "MILK", 2, need_by=date(2026, 1, 1))))
        await writer.close()
        assert not [each for each in outcome.raised if isinstance(each, PromiseChanged)]
        return outcome.result

    assert asyncio.run(play()) == batchref

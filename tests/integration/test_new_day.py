"""Days that begin, on real databases: what they bring is said once, by whatever process, also after a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, event, make_url
from structlog.testing import capture_logs

from allocation.adapters.clock import SqlClock
from allocation.adapters.database import is_sqlite
from allocation.adapters.long_reader import LongReader
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.days import Calendar
from allocation.domain.errors import NotShippable
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    Event,
    LineQuantityChanged,
    LineShipped,
    MoveUpRequired,
    StockHeld,
)
from allocation.service_layer.messages import Outcome, checked_message
from allocation.service_layer.writing import new_day
from allocation.service_layer.writing.new_day import ACTOR, NewDay
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import audit_all
from allocation.views.new_day import brought
from tests.builders import message, select

BERLIN, NEW_YORK, SEOUL = (ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Asia/Seoul"))
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TODAY = NOON.date()
SKU = "MILK"
BY_THE_CLOCK = "('BatchExpired', 'DeliveryOverdue', 'LineBecameLate')"


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


class Process:
    """A writer and what begins its days, with a clock that is set by hand."""

    def __init__(self, database_url: str, calendar: Calendar = Calendar()) -> None:  # noqa: B008 - it never changes
        self.url = make_url(database_url)
        self.now = NOON
        self.store = SqliteStore(self.url) if is_sqlite(self.url) else PostgresStore(self.url)
        self.reader = Reader(self.url)
        self.writer = Writer(self.store, calendar=calendar, clock=lambda: self.now)
        self.days = NewDay(self.writer, self.find, SqlClock(self.url), calendar, clock=lambda: self.now)

    async def find(self, *asked: Any) -> Sequence[new_day.Brought]:
        return await self.reader.run_by_index(brought, *asked)

    async def handle(self, *events: Event) -> list[Outcome]:
        return [await self.writer.handle(message(event)) for event in events]

    async def __aenter__(self) -> Self:
        self.writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.days.close()
        await self.writer.close()
        await self.reader.close()
        await self.store.close()


async def said(database_url: str) -> list[tuple[str, str]]:
    """What was said by the clock, and about what, in the order of the ledger."""
    rows = await select(
        make_url(database_url), f"SELECT type, body, actor FROM messages WHERE type IN {BY_THE_CLOCK} ORDER BY position"
    )
    assert {actor for *_, actor in rows} <= {ACTOR}
    return [(kind, body.split('"')[3]) for kind, body, _ in rows]


async def places(database_url: str) -> dict[str, str | None]:
    rows = await select(make_url(database_url), "SELECT orderid, batchref, closed FROM order_lines")
    return {orderid: closed or batchref for orderid, batchref, closed in rows}


async def check_books(database_url: str) -> None:
    report, differences = await LongReader(make_url(database_url)).run(audit_all)
    assert (differences, report.found) == ([], {})


def test_what_a_day_brings_is_said_when_it_has_begun(database_url: str) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(
                *(BatchCreated("milk", SKU, 5, expires_on=day(1)), AllocationRequired("m1", SKU, 2)),
                *(BatchCreated("ship", "LAMP", 5, day(1)), AllocationRequired("o1", "LAMP", 5)),
                AllocationRequired("o2", "LAMP", 3, day(1)),
            )
            assert await process.days.look()
            process.now += timedelta(days=1, hours=11, minutes=59)
            assert await process.days.look()
            assert await said(database_url) == []
            process.now += timedelta(minutes=1)
            assert await process.days.look()
            first = [("BatchExpired", "milk"), ("DeliveryOverdue", "ship"), ("LineBecameLate", "o2")]
            assert await said(database_url) == first
            assert await places(database_url) == {"m1": None, "o1": "ship", "o2": None}
            told = await select(process.url, "SELECT body FROM messages WHERE type = 'PromiseChanged' AND sku = 'LAMP'")
            assert [f'"before":"{day(1)}","after":"{day(3)}"' in body for (body,) in told] == [True]
            for _ in range(3):
                process.now += timedelta(days=1)
                assert await process.days.look()
            assert await said(database_url) == first
            await check_books(database_url)

    asyncio.run(play())


def test_a_day_that_brings_something_to_a_name_of_an_earlier_version_is_done(database_url: str) -> None:
    """Names could once end in white space. Nobody may send such a name now, but the clock has it from storage."""

    async def play() -> None:
        async with Process(database_url) as process:
            for each in (BatchCreated("milk ", SKU, 5, expires_on=day(0)), AllocationRequired("m1", SKU, 2)):
                await process.writer.handle(checked_message(each, "test"))
            process.now += timedelta(days=1)
            assert await process.days.look()
            assert await said(database_url) == [("BatchExpired", "milk ")]

    asyncio.run(play())


def test_milk_that_nobody_fetched_is_not_sold_any_more_and_fresh_milk_is(database_url: str) -> None:
    """Five days after the last day: a line moves to fresh stock, and what expired is not shipped."""

    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(BatchCreated("milk", SKU, 5, expires_on=day(0)), AllocationRequired("m1", SKU, 2))
            process.now += timedelta(days=5)
            with pytest.raises(NotShippable, match="expired on 2026-01-31"):
                await process.handle(LineShipped("m1", SKU))
            await process.handle(BatchCreated("fresh", SKU, 50, expires_on=day(31)), MoveUpRequired(SKU))
            assert await process.days.look()
            assert await places(database_url) == {"m1": "fresh"}
            await process.handle(LineShipped("m1", SKU))
            await check_books(database_url)

    asyncio.run(play())


def test_days_that_began_while_nothing_ran_are_made_up_for(database_url: str) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(
                *(BatchCreated(f"milk-{n}", SKU, 5, expires_on=day(n)) for n in range(-2, 4)),
                *(BatchCreated(f"ship-{n}", SKU, 5, day(n)) for n in (2, 9)),
            )
            assert await process.days.look(), "what the days before the first one brought is said too"
        first = [("BatchExpired", f"milk-{n}") for n in (-2, -1)]
        assert await said(database_url) == first
        async with Process(database_url) as process:
            process.now += timedelta(days=3)
            assert await process.days.look()
        second = [("BatchExpired", f"milk-{n}") for n in (0, 1, 2)]
        assert await said(database_url) == [*first, *second, ("DeliveryOverdue", "ship-2")]

    asyncio.run(play())


def test_a_day_that_was_begun_halfway_is_begun_again_and_nothing_is_said_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_day, "PAGE_SIZE", 2)

    class Interrupted(Exception):
        pass

    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(*(BatchCreated(f"milk-{n}", SKU, 5, expires_on=day(0)) for n in range(5)))
            process.now += timedelta(days=1)
            find, pages = process.days._find, iter(range(2))

            async def break_off(*asked: Any) -> Sequence[new_day.Brought]:
                if next(pages, None) is None:
                    raise Interrupted
                return await find(*asked)

            monkeypatch.setattr(process.days, "_find", break_off)
            with pytest.raises(Interrupted):
                await process.days.look()
            assert len(await said(database_url)) == 4
        async with Process(database_url) as process:
            process.now += timedelta(days=1)
            assert await process.days.look()
        assert sorted(await said(database_url)) == [("BatchExpired", f"milk-{n}") for n in range(5)]

    asyncio.run(play())


def test_processes_begin_a_day_together_and_say_everything_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_day, "PAGE_SIZE", 4)

    async def play() -> None:
        async with Process(database_url) as one, Process(database_url) as other:
            await one.handle(
                *(BatchCreated(f"milk-{n}", SKU, 5, expires_on=day(0)) for n in range(9)),
                *(AllocationRequired(f"m{n}", SKU, 3) for n in range(9)),
                BatchCreated("few", "LAMP", 1),
                *(AllocationRequired(f"o{n}", "LAMP", 3, day(0)) for n in range(9)),
            )
            one.now = other.now = NOON + timedelta(days=1)
            assert all(await asyncio.gather(one.days.look(), other.days.look()))
            late = [("LineBecameLate", f"o{n}") for n in range(9)]
            assert sorted(await said(database_url)) == [*(("BatchExpired", f"milk-{n}") for n in range(9)), *late]
            assert set((await places(database_url)).values()) == {None}
            await check_books(database_url)

    asyncio.run(play())


def test_a_clock_that_jumps_over_midnight_and_back_says_nothing_twice(database_url: str) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(*(BatchCreated(f"milk-{n}", SKU, 5, expires_on=day(n)) for n in range(4)))
            with capture_logs() as logged:
                for hours in (12, -1, 1, -23, 24, 47):  # beginning at noon
                    process.now = process.now + timedelta(hours=hours)
                    assert await process.days.look()
            assert not logged, "a day that is done is not looked at again by the process that did it"
            assert await said(database_url) == [("BatchExpired", f"milk-{n}") for n in range(4)][:3]
        async with Process(database_url) as process:
            with capture_logs() as logged:
                assert await process.days.look()
            assert [entry["event"] for entry in logged] == ["the clock was put back"]
            process.now += timedelta(days=4)
            assert await process.days.look()
            assert await said(database_url) == [("BatchExpired", f"milk-{n}") for n in range(4)]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("zone", "before", "after"),
    [
        (NEW_YORK, "2026-02-01T04:59:59Z", "2026-02-01T05:00Z"),
        (SEOUL, "2026-01-31T14:59:59Z", "2026-01-31T15:00Z"),
        (UTC, "2026-01-31T23:59:59Z", "2026-02-01T00:00Z"),
    ],
)
def test_a_day_begins_at_midnight_where_the_business_is(
    database_url: str, zone: ZoneInfo, before: str, after: str
) -> None:
    async def play() -> None:
        async with Process(database_url, Calendar(zone)) as process:
            await process.handle(BatchCreated("milk", SKU, 5, expires_on=day(0)), AllocationRequired("m1", SKU, 2))
            process.now = datetime.fromisoformat(before)
            assert await process.days.look()
            assert await said(database_url) == []
            process.now = datetime.fromisoformat(after)
            assert await process.days.look()
            assert await said(database_url) == [("BatchExpired", "milk")]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("zone", "begins", "hours"),
    [
        (BERLIN, "2026-03-29T00:00+01:00", 23),
        (BERLIN, "2026-10-25T00:00+02:00", 25),
        (NEW_YORK, "2026-03-08T00:00-05:00", 23),
        (NEW_YORK, "2026-11-01T00:00-04:00", 25),
        (SEOUL, "2026-03-29T00:00+09:00", 24),
    ],
)
def test_a_day_has_as_many_hours_as_the_clocks_of_the_business_say(
    database_url: str, zone: ZoneInfo, begins: str, hours: int
) -> None:
    async def play() -> None:
        async with Process(database_url, Calendar(zone)) as process:
            process.now = datetime.fromisoformat(begins).astimezone(UTC)
            await process.handle(BatchCreated("milk", SKU, 5, expires_on=date.fromisoformat(begins[:10])))
            looks = 0
            while not await said(database_url):
                process.now += timedelta(minutes=30)
                assert await process.days.look()
                looks += 1
            assert looks == 2 * hours

    asyncio.run(play())


def test_what_somebody_changed_in_the_last_moment_is_not_said(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is as true as before, with another quantity, is said so."""

    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(
                *(BatchCreated("ship", "LAMP", 5, day(0)), BatchCreated("boat", "LAMP", 5, day(0))),
                *(BatchCreated("few", SKU, 1), AllocationRequired("o1", SKU, 3, day(0))),
            )
            process.now += timedelta(days=1)
            find, changes = process.days._find, [LineQuantityChanged("o1", SKU, 2), BatchReceived("ship")]

            async def meanwhile(*asked: Any) -> Sequence[new_day.Brought]:
                found = await find(*asked)
                await process.handle(*changes)
                changes.clear()
                return found

            monkeypatch.setattr(process.days, "_find", meanwhile)
            assert await process.days.look()
            assert await said(database_url) == [("DeliveryOverdue", "boat"), ("LineBecameLate", "o1")]

    asyncio.run(play())


def test_a_delivery_is_overdue_again_after_it_was_put_off(database_url: str) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(BatchCreated("ship", SKU, 5, day(0)), AllocationRequired("o1", SKU, 3))
            process.now += timedelta(days=1)
            assert await process.days.look()
            await process.handle(BatchEtaChanged("ship", day(4)))
            process.now += timedelta(days=4)
            assert await process.days.look()
            assert await said(database_url) == [("DeliveryOverdue", "ship")] * 2
            told = await select(
                process.url, "SELECT body FROM messages WHERE type = 'PromiseChanged' ORDER BY position"
            )
            days = [(day(0), day(2)), (day(2), day(4)), (day(4), day(6))]
            assert [body[body.index('"before"') :] for (body,) in told] == [
                f'"before":"{before}","after":"{after}","late_days":0}}' for before, after in days
            ]

    asyncio.run(play())


def test_a_hold_on_stock_that_expired_is_lost_although_the_cart_runs(database_url: str) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            hold = StockHeld("cart", SKU, 2, NOON + timedelta(days=2))
            await process.handle(BatchCreated("milk", SKU, 5, expires_on=day(0)), hold)
            process.now += timedelta(days=1)
            assert await process.days.look()
            assert await places(database_url) == {"cart": "lost"}
            await check_books(database_url)

    asyncio.run(play())


def test_stock_that_was_shipped_or_cut_to_nothing_does_not_expire(database_url: str) -> None:
    async def play() -> None:
        async with Process(database_url) as process:
            await process.handle(
                *(BatchCreated("milk", SKU, 2, expires_on=day(0)), AllocationRequired("m1", SKU, 2)),
                *(LineShipped("m1", SKU), BatchCreated("ship", SKU, 2, day(0)), BatchQuantityChanged("ship", 0)),
            )
            process.now += timedelta(days=1)
            assert await process.days.look()
            assert await said(database_url) == []

    asyncio.run(play())


def test_a_day_is_found_by_an_index_of_its_own(database_url: str) -> None:
    async def play() -> list[str]:
        async with Process(database_url) as process:
            return await process.reader.run_by_index(plans)

    for plan, index in zip(asyncio.run(play()), ("batches_expiring", "batches_due", "order_lines_late"), strict=True):
        assert f"ix_{index}" in plan
        assert "SORT" not in plan.upper().replace("TEMP B-TREE FOR ORDER BY", "SORT")


def plans(connection: Connection) -> list[str]:
    """How the database finds what a day brings."""
    found: list[str] = []

    def explain(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        if "FROM" in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"{prefix} {statement}", values)
            found.append("\n".join(str(row) for row in rows))

    event.listen(connection, "before_cursor_execute", explain)
    for kind in new_day.KINDS:
        brought(connection, kind, new_day.Span(day(0), day(1)), new_day.START, 10)
    return found

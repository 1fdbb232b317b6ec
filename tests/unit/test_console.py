"""The parts of the console that need no server: pace, meter, hub, links, bars."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise

import pytest

from allocation.adapters.database import parse_url
from allocation.adapters.reader import Reader
from allocation.domain.figures import Figures, Shelf
from allocation.entrypoints.console import live
from allocation.entrypoints.console.drawing import Curve, chart, step_curve, stock_bar
from allocation.entrypoints.console.live import Hub, Rendered, Topics
from allocation.entrypoints.console.pacing import Paced, timed
from allocation.entrypoints.console.rendering import environment, few, shown, url
from allocation.entrypoints.refusals import TooManyStreams
from allocation.service_layer import flow
from allocation.service_layer.writing.meter import Meter, Second
from allocation.views.availability import Promisable
from allocation.views.figures import Total
from tests.waiting import until


def test_a_meter_counts_by_the_second_and_forgets() -> None:
    now = [100.0]
    meter = Meter(lambda: now[0])
    meter.count(3)
    meter.count(5)
    now[0] = 101.9
    meter.count(4)
    now[0] = 103.0
    assert meter.last(4) == [Second(0, 0), Second(8, 2), Second(4, 1), Second(0, 0)]
    assert meter.last(3)[0].group_size == 4
    for second in range(1_000):
        now[0] = 200.0 + second
        meter.count(1)
    assert sum(each.messages for each in meter.last(2_000)) == 299


def test_paced_work_is_done_once_for_all_and_then_rests() -> None:
    done = 0

    async def work() -> int:
        nonlocal done
        done += 1
        await asyncio.sleep(0.02)
        return done

    async def ask() -> None:
        paced = Paced(work, least_pause_s=0.1, rest=1)
        assert [result.value for result in await asyncio.gather(*(paced.get() for _ in range(5)))] == [1] * 5
        assert (await paced.get()).value == 1
        await asyncio.sleep(0.15)
        assert (await paced.get()).value == 2

    asyncio.run(ask())


def test_work_that_failed_fails_for_who_asked_and_is_tried_again() -> None:
    answers: Iterator[int | OSError] = iter([OSError("gone"), 7])

    async def work() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask() -> None:
        paced = Paced(work, least_pause_s=0, rest=0)
        with pytest.raises(OSError, match="gone"):
            await paced.get()
        assert (await paced.get()).value == 7

    asyncio.run(ask())


def test_no_more_streams_are_opened_than_there_may_be(sqlite_url: str) -> None:
    async def render() -> Rendered:
        return Rendered({"part": "<p>1</p>"}, Topics())

    async def open_some() -> None:
        reader = Reader(parse_url(sqlite_url))
        hub = Hub(reader, asyncio.Event(), max_streams=2)
        first = await hub.open("page", render, "")
        await hub.open("page", render, "")
        with pytest.raises(TooManyStreams, match="2 pages are live already"):
            await hub.open("page", render, "")
        hub.leave(first)
        await hub.open("page", render, "")
        await hub.close()
        await reader.close()

    asyncio.run(open_some())


def test_a_page_is_rendered_once_for_all_who_watch_it(sqlite_url: str) -> None:
    rendered = 0

    async def render() -> Rendered:
        nonlocal rendered
        rendered += 1
        return Rendered({"part": "<p>the same</p>"}, Topics(always=True))

    async def watch() -> None:
        reader = Reader(parse_url(sqlite_url))
        hub = Hub(reader, asyncio.Event())
        streams = [await hub.open("page", render, "") for _ in range(50)]
        assert rendered == 1
        await until(lambda: rendered > 1)
        assert not any(stream.due.is_set() for stream in streams)  # nothing differs
        await hub.close()
        await reader.close()

    asyncio.run(watch())
    assert rendered in {2, 3}


def burn(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_only_the_time_in_which_work_keeps_the_loop_busy_counts() -> None:
    spent: list[float] = []

    async def work() -> str:
        burn(0.02)
        await asyncio.sleep(0.2)
        burn(0.02)
        return "done"

    async def watch() -> None:
        assert await timed(work(), spent.append) == "done"

    asyncio.run(watch())
    assert 0.04 <= sum(spent) < 0.14


def test_timed_work_fails_and_is_cancelled_like_any_other() -> None:
    spent: list[float] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise OSError("gone")

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            burn(0.02)
            raise

    async def watch() -> None:
        with pytest.raises(OSError, match="gone"):
            await timed(fail(), spent.append)
        task = asyncio.ensure_future(asyncio.wait_for(timed(wait(), spent.append), 0.01))
        with pytest.raises(TimeoutError):
            await task

    asyncio.run(watch())
    assert sum(spent) >= 0.02


def test_the_more_there_is_to_render_the_further_apart_are_looks(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(live, "SHARE", 0.1)
    rendered: list[float] = []

    async def render() -> Rendered:
        rendered.append(time.perf_counter())
        burn(0.01)
        await asyncio.sleep(0.02)  # waiting for a database, say
        return Rendered({"part": "<p>the same</p>"}, Topics(always=True))

    async def watch() -> None:
        reader = Reader(parse_url(sqlite_url))
        hub = Hub(reader, asyncio.Event())
        await hub.open("page", render, "")
        await until(lambda: len(rendered) > 5)
        await hub.close()
        await reader.close()

    asyncio.run(asyncio.wait_for(watch(), 20))
    pauses = [after - before for before, after in pairwise(rendered[1:])]
    assert min(pauses) >= 0.01 / 0.1


@pytest.mark.parametrize(
    ("key", "there"),
    [
        ("CHAIR", "/console/products/CHAIR"),
        ("a/b", "/console/products/a%2Fb"),
        ("..", "/console/products?key=.."),
        ("<&\"'>", "/console/products/%3C%26%22%27%3E"),
    ],
)
def test_whatever_a_product_is_called_it_has_an_address(key: str, there: str) -> None:
    assert url("products", key) == there


def test_empty_values_are_left_out_of_an_address() -> None:
    assert url("products", q="", only="short", after=None) == "/console/products?only=short"


def test_a_number_that_was_not_counted_to_its_end_says_so() -> None:
    assert (few(9_999), few(10_000), few(10_001)) == ("9,999", "10,000", "10,000+")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("split", True, "yes"),
        ("split", False, "no"),
        ("qty", 1_200, "1,200"),
        ("qty", 0, "0"),
        ("batchref", None, "–"),
        ("after", None, "–"),
        ("eta", "2027-01-31", "2027-01-31"),
        ("expires_on", date(2027, 1, 31), "2027-01-31"),
        ("reason", "2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
        ("reason", "<b>", "&lt;b&gt;"),
    ],
)
def test_what_a_message_says_is_shown_by_its_kind(field: str, value: object, told: str) -> None:
    assert re.sub("<[^>]+>", "", as_fields({field: value})) == f"{field} {told}"
    assert "<b>" not in as_fields({field: value}) or isinstance(value, int)


def test_of_what_may_be_left_out_only_what_is_said_is_shown() -> None:
    assert "location" not in as_fields({"ref": "b1", "location": None})
    assert "location" in as_fields({"ref": "b1", "location": "BERLIN"})


def test_a_moment_that_a_message_names_is_shown_like_any_other() -> None:
    assert shown("2027-01-31T12:00:00.5Z", "expires_at") == (
        '<time datetime="2027-01-31T12:00:00.500000+00:00" title="2027-01-31 12:00:00.500000 UTC">'
        "2027-01-31 12:00</time>"
    )


def as_fields(values: dict[str, object]) -> str:
    """As pages show what a message says."""
    parts = environment({}).get_template("parts.html")
    return str(parts.module.fields(values)).strip()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("blocked", "incoming", "shelf"),
    [
        (0, 30, Shelf(4, 6, 1, 29)),
        (5, 10**9, Shelf(1, 0, 10**9, 0)),
        (10**9, 1, Shelf(1, 10**9, 0, 0)),
        (0, 0, Shelf()),
    ],
)
def test_a_bar_shows_every_part_and_is_never_longer_than_it_is(blocked: int, incoming: int, shelf: Shelf) -> None:
    on_hand = blocked + shelf.on_hand_allocated + shelf.on_hand_available
    figures = Figures(on_hand_quantity=on_hand, incoming_quantity=incoming, blocked_quantity=blocked)
    parts = stock_bar(Total(figures, shelf))
    assert sum(part.qty for part in parts) == on_hand + incoming
    assert all(part.length > 0.5 for part in parts)
    assert sum(part.length for part in parts) <= 100.0001
    for before, after in pairwise(parts):
        assert after.start == pytest.approx(before.start + before.length)


def test_a_chart_without_values_is_flat() -> None:
    assert chart([0, 0]) == ([], 0)
    assert chart([0, 5, 10])[0] == [(1, 20.0), (2, 40.0)]


def test_what_can_be_promised_rises_by_a_step_on_each_day_that_there_is_more() -> None:
    today = date(2026, 6, 1)
    steps = [Promisable(today, 5), Promisable(today + timedelta(10), 15), Promisable(today + timedelta(20), 20)]
    assert step_curve(steps, today) == Curve("M0.00 30.00H43.48V10.00H86.96V0.00H100", today + timedelta(23), 20)


@pytest.mark.parametrize("steps", [[], [Promisable(date(2026, 6, 1), 0)]])
def test_the_curve_of_nothing_is_flat(steps: list[Promisable]) -> None:
    curve = step_curve(steps, date(2026, 6, 1))
    assert (curve.scale, curve.last) == (0, date(2026, 6, 15))
    assert "V" not in curve.path


def test_a_flow_with_numbers_has_one_on_every_edge_and_no_style_of_its_own() -> None:
    drawn = flow.svg(labels={edge: f"n{number}" for number, edge in enumerate(flow.edges())})
    assert all(f">n{number}</text>" in drawn for number, _ in enumerate(flow.edges()))
    assert "<style" not in drawn
    assert "<style" in flow.svg()

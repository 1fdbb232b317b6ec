"""What the console reads, against the same asked of the tables in the plainest way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, text

from allocation.adapters.database import parse_url
from allocation.adapters.reader import Reader
from allocation.console_views import deliveries, ledger, overview, product, stock
from allocation.domain.errors import UnknownMessage, UnknownOrder, UnknownSku
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    RepairRequired,
)
from allocation.domain.figures import Figures, Shelf
from allocation.entrypoints.console.tally import Tally
from allocation.service_layer.writing.store import as_moment
from allocation.views.figures import Total
from tests.builders import on
from tests.e2e.program import given
from tests.waiting import until

T = TypeVar("T")

TODAY = on(date(2026, 6, 1))
NOT_A_FACT = 'of,"Allocated",{'  # a name that looks like one inside a row
NOT_SEVERAL = "one],[two"  # a name that looks like the end of a fact and the beginning of another


@pytest.fixture
def database(database_url: str) -> str:
    given(
        database_url,
        BatchCreated("stock", "CHAIR", 10),
        BatchCreated("late", "CHAIR", 5, date(2026, 5, 31)),
        BatchCreated("due", "TABLE", 7, date(2026, 6, 1)),
        AllocationRequired("o1", "CHAIR", 6),
        AllocationRequired("o2", "CHAIR", 4),
        AllocationRequired("o3", "CHAIR", 9),
        AllocationRequired("o1", "TABLE", 8),
        AllocationRequired(NOT_A_FACT, "TABLE", 1),
        BatchQuantityChanged("stock", 7),
        RepairRequired("CHAIR"),
    )
    return database_url


def read(url: str, view: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    async def run() -> T:
        reader = Reader(parse_url(url))
        try:
            return await reader.run(view, *args, **kwargs)
        finally:
            await reader.close()

    return asyncio.run(run())


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    def view(connection: Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(text(query))]

    return read(url, view)


def test_the_totals_are_the_sums(database: str) -> None:
    found = read(database, overview.totals, TODAY)
    assert found.stock.figures == Figures(19, 11, 8, 7, 12, 0, 5, 0)
    assert found.stock.shelf == Shelf(6, 1, 5, 7)
    assert (found.products, found.batches, found.waiting_lines, found.waiting_qty) == (2, 3, 2, 17)
    assert [(batch.ref, batch.eta) for batch in found.overdue_batches] == [("late", date(2026, 5, 31))]
    assert found.overdue == 1
    assert found.most_waiting == [overview.WaitingProduct("CHAIR", 1), overview.WaitingProduct("TABLE", 1)]
    assert [(line.orderid, line.sku, line.qty) for line in found.oldest_waiting] == [
        ("o3", "CHAIR", 9),
        ("o1", "TABLE", 8),
    ]


def test_the_lines_that_wait_longest_are_the_oldest_of_all_products(database_url: str) -> None:
    ordered = [("a1", "A"), ("a2", "A"), ("b1", "B"), ("a3", "A"), ("c1", "C"), ("b2", "B"), ("a4", "A")]
    given(
        database_url,
        *(BatchCreated(f"batch-{sku}", sku, 1) for sku in "CBA"),
        *(AllocationRequired(orderid, sku, 5) for orderid, sku in ordered),
        AllocationCancelled("a2", "A"),
    )
    oldest = read(database_url, overview.totals, TODAY).oldest_waiting
    assert [line.orderid for line in oldest] == ["a1", "b1", "a3", "c1", "b2"]
    assert [line.since for line in oldest] == sorted(line.since for line in oldest)


def test_totals_of_nothing_are_nothing(database_url: str) -> None:
    found = read(database_url, overview.totals, TODAY)
    assert (found.products, found.stock, found.waiting_lines, found.overdue) == (0, Total(), 0, 0)


def test_counts_of_causes_agree_with_the_messages_one_by_one(database: str) -> None:
    given(database, AllocationRequired(NOT_SEVERAL, "CHAIR", 1))
    expected = Counter[tuple[Any, ...]]()
    for cause, type_, number in rows(
        database,
        "SELECT cause.type, messages.type, count(*) FROM messages LEFT JOIN messages AS cause"
        " ON cause.correlation_id = messages.correlation_id AND cause.step = messages.causation_step GROUP BY 1, 2",
    ):
        expected[cause, type_] = number
    assert expected["AllocationRequired", "Backordered"] > 1
    end = read(database, ledger.last_position)
    assert read(database, ledger.tally, 0, end) == expected
    halves = read(database, ledger.tally, 0, 4) + read(database, ledger.tally, 4, end)
    assert halves == expected


@pytest.mark.parametrize("step", [1, 99_999])
def test_every_fact_is_told_by_the_head_of_its_row(step: int) -> None:
    for type_ in ledger.FACTS:
        assert ledger.fact_of(f'[[{step},"{type_}",{{"sku":"CHAIR"}}]]'[: ledger.HEAD]) == type_


def test_the_first_position_of_a_time_is_found(database: str) -> None:
    now = datetime.now(UTC)
    end = read(database, ledger.last_position)
    assert read(database, ledger.first_position_since, now - timedelta(days=1)) == 1
    assert read(database, ledger.first_position_since, now + timedelta(days=1)) == end + 1
    for position, recorded_at in rows(database, "SELECT position, recorded_at FROM ledger ORDER BY position"):
        found = read(database, ledger.first_position_since, as_moment(recorded_at))
        assert found <= position


def test_a_tally_of_today_counts_what_has_settled(database: str) -> None:
    async def count() -> int:
        reader = Reader(parse_url(database))
        tally = Tally(reader, settled_after_s=0.1)

        async def settled() -> int:
            return (await tally.today()).pair(None, "AllocationRequired")

        count: int = await until(settled)
        await reader.close()
        return count

    assert asyncio.run(count()) == 5


@pytest.mark.parametrize(
    "asked", [{}, {"sku": "CHAIR"}, {"orderid": "o1"}, {"type_": "OutOfStock"}, {"type_": "Allocated"}]
)
def test_pages_of_the_ledger_have_every_message_newest_first(database: str, asked: dict[str, str]) -> None:
    where = " AND ".join([f"{name.strip('_')} = '{value}'" for name, value in asked.items()]) or "position > 0"
    expected = rows(
        database, f"SELECT correlation_id, step, type FROM messages WHERE {where} ORDER BY position DESC, place DESC"
    )
    found: list[tuple[Any, ...]] = []
    before: int | None = 2**63 - 1
    while before is not None:
        page = read(database, ledger.latest, **asked, before=before, limit=2)
        found += [(told.correlation_id, told.step, told.type) for told in page.messages]
        before = page.next_before
    assert found == expected
    assert found


def test_a_product_is_seen_as_its_parts_are(database: str) -> None:
    seen = read(database, product.look, "CHAIR", TODAY, batches_after="", waiting_after=0, before=2**63 - 1)
    assert [batch.batchref for batch in seen.product.batches] == ["stock", "late"]
    assert seen.stock == Total(Figures(12, 10, 2, 7, 5, 0, 5, 0), Shelf(6, 1, 4, 1))
    assert [each.quantity for each in seen.promisable] == [1, 2]
    assert (seen.late, seen.holds, seen.rules) == ((), (), None)
    newest = read(database, ledger.latest, sku="CHAIR", limit=ledger.HISTORY)
    assert seen.history == newest
    with pytest.raises(UnknownSku):
        read(database, product.look, "SOFA", TODAY, batches_after="", waiting_after=0, before=2**63 - 1)


def test_a_cascade_has_everything_that_belongs_to_a_message(database: str) -> None:
    ((id_,),) = rows(database, "SELECT correlation_id FROM ledger WHERE type = 'BatchQuantityChanged'")
    found = read(database, ledger.cascade, id_)
    assert [told.type for told in found.messages][:2] == ["BatchQuantityChanged", "Deallocated"]
    assert [told.step for told in found.messages] == list(range(len(found.messages)))
    assert read(database, ledger.cascade, f"{id_}~1").messages == found.messages
    for unknown in ("none", f"{id_}~99"):
        with pytest.raises(UnknownMessage):
            read(database, ledger.cascade, unknown)


def test_what_has_changed_is_told_of_those_asked_about(database: str) -> None:
    end = read(database, ledger.last_position)
    assert read(database, ledger.changed, 0, ["CHAIR", "SOFA"], ["o2", "o9"]) == ({"CHAIR"}, {"o2"})
    assert read(database, ledger.changed, end - 1, ["CHAIR", "TABLE"], ["o1"]) == ({"CHAIR"}, set())
    assert read(database, ledger.changed, end, ["CHAIR"], []) == (set(), ())


def test_an_order_has_its_lines_with_their_batches(database: str) -> None:
    lines = read(database, stock.order, "o1")
    assert [(line.sku, line.batchref, line.eta, line.state) for line in lines] == [
        ("CHAIR", "stock", None, "allocated"),
        ("TABLE", None, None, "waiting"),
    ]
    with pytest.raises(UnknownOrder):
        read(database, stock.order, "o9")


def test_a_list_that_has_looked_through_enough_says_where_to_go_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock, "WINDOW", 3)
    given(database_url, *[BatchCreated(f"b{n}", f"S{n}", 1) for n in range(8)], AllocationRequired("o", "S7", 1))
    found, after, pages = [], "", 0
    while True:
        page = read(database_url, stock.products, only="short", after=after, today=TODAY, limit=2)
        found += [row.sku for row in page.rows]
        pages += 1
        if page.next_after is None:
            break
        assert page.looked_through
        after = page.next_after
    assert (found, pages) == (["S7"], 3)


def test_effects_show_what_they_owe(database: str) -> None:
    found = {row.effect: row for row in read(database, deliveries.effects, ["declared"])}
    assert found["declared"] == deliveries.EffectRow("declared", 0, 0, 0, None, None)
    mails = found["send_out_of_stock_notification"]
    ((owed,),) = rows(database, "SELECT count(*) FROM deliveries")
    assert (mails.pending, mails.held, mails.dead) == (owed, 0, 0)
    assert mails.oldest is not None
    assert read(database, overview.deliveries) == (owed, 0)


def test_a_line_of_an_overdue_batch_is_late_although_it_was_promised_in_time(database_url: str) -> None:
    given(
        database_url,
        BatchCreated("overdue", "CHAIR", 5, date(2026, 5, 20)),
        AllocationRequired("o1", "CHAIR", 1, date(2026, 5, 25)),
        AllocationRequired("o2", "CHAIR", 1, date(2026, 6, 1)),
        AllocationRequired("o3", "CHAIR", 1, date(2026, 6, 2)),
    )
    lines = read(database_url, stock.late_lines, "CHAIR", today=TODAY, limit=10)
    assert [(line.orderid, line.lateness(TODAY).late_days) for line in lines] == [("o1", 8), ("o2", 1)]
    assert [each.sku for each in read(database_url, stock.products, only="late", today=TODAY).rows] == ["CHAIR"]
    [of_order] = read(database_url, stock.order, "o1")
    assert of_order.lateness(TODAY).late_days == 8

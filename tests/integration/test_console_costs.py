"""What pages of the console read, counted and not timed: as much of many products as of few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Connection, text

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.reader import Reader
from allocation.console_views import overview, stock
from allocation.domain.events import AllocationCancelled, AllocationRequired, BatchCreated
from tests.builders import change, on
from tests.e2e.program import given

TODAY = on(date(2026, 6, 1))
FEW, MANY = 3_000, 20_000
WINDOW, WAITING_WINDOW = 1_000, 100  # of products that are looked at for one page
NEAR_THE_END = 600
EVERY = 10  # of so many products one is short, one overdue, one late, and of one a line waits
STEPS = 10  # of SQLite's machine are counted together
LOOKS = 6  # PostgreSQL plans a statement anew five times, then maybe never again
ABOUT_THE_SAME, A_HANDFUL = 1.3, 20
FILL = """
    WITH RECURSIVE numbers (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}),
    named (n, name, kind) AS (SELECT n, substr(CAST(10000000 + n AS TEXT), 2), n % {every} FROM numbers)
"""
PRODUCTS = """
    INSERT INTO products (sku, version_number, waiting_lines)
    {fill} SELECT 'SKU-' || name, 1, CASE kind WHEN 4 THEN 1 ELSE 0 END FROM named
"""
BATCHES = """
    INSERT INTO batches (ref, sku, purchased_quantity, allocated_quantity, position, initial_quantity, eta)
    {fill} SELECT 'B-' || name, 'SKU-' || name, 9, CASE kind WHEN 1 THEN 9 ELSE 1 END, 1, 9,
    CASE kind WHEN 2 THEN {past} END FROM named
"""
LINES = """
    INSERT INTO order_lines (orderid, sku, qty, position, batchref, need_by)
    {fill} SELECT 'O-' || name, 'SKU-' || name, 1, 1, CASE WHEN kind <> 4 THEN 'B-' || name END,
    CASE kind WHEN 3 THEN {past} END FROM named
"""
HOT_LINES = """
    INSERT INTO order_lines (orderid, sku, qty, position)
    {fill} SELECT 'O-' || name, 'HOT', 1, n FROM named
"""
HISTORY = """
    INSERT INTO ledger (correlation_id, step, type, sku, orderid, body, actor, recorded_at)
    {fill} SELECT 'M-' || name, 0, 'AllocationRequired', 'HOT', 'O-' || name, '{{}}', 'test', {moment} FROM named
"""
ROWS_READ = """
    SELECT CAST(sum(pg_stat_get_xact_tuples_returned(pg_class.oid)) AS BIGINT) FROM pg_class
    LEFT JOIN pg_index ON indexrelid = pg_class.oid WHERE coalesce(indrelid, pg_class.oid)
    IN ('products'::regclass, 'batches'::regclass, 'order_lines'::regclass, 'ledger'::regclass)
"""


def sku(number: int) -> str:
    return f"SKU-{number:07}"


def pages(products: int) -> Iterator[dict[str, Any]]:
    """Every filter and order with every kind of search: the first page, one in the middle and one near the end."""
    middle, end = products // 2, products - NEAR_THE_END
    searches: tuple[dict[str, Any], ...] = ({}, {"search": "sku-"}, {"search": "7", "anywhere": True})
    for only, search in product(("", "waiting", "short", "late", "overdue", "blocked"), searches):
        for sort, after in product(("sku", "-sku"), ("", sku(middle), sku(end))):
            yield {"only": only, "sort": sort, "after": after, **search}
    yield {"search": sku(1_000)[:-3]}
    yield {"search": "nowhere"}
    yield {"search": "nowhere", "anywhere": True}
    for search, after in product(searches, ("", sku(EVERY * 5 + 4))):
        yield {"only": "waiting", "sort": "waiting", "after": after, **search}


def cost(connection: Connection, view: Callable[..., object], /, *args: object, **kwargs: object) -> int:
    """Of what a view reads: the rows and entries of indexes, or the steps of SQLite's machine."""
    if connection.dialect.name == "sqlite":
        return steps(connection, lambda: view(connection, *args, **kwargs))
    before = connection.execute(text(ROWS_READ)).scalar_one()
    view(connection, *args, **kwargs)
    return int(connection.execute(text(ROWS_READ)).scalar_one() - before)


def steps(connection: Connection, read: Callable[[], object]) -> int:
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += STEPS

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(count, STEPS)
    read()
    driver.set_progress_handler(None, 0)
    return taken


async def fill(url: str, first: int, last: int, every: int) -> None:
    past = "'2026-05-01'" if is_sqlite(parse_url(url)) else "DATE '2026-05-01'"
    numbered = FILL.format(first=first, last=last, every=every)
    for statement in (PRODUCTS, BATCHES, LINES):
        await change(parse_url(url), statement.format(fill=numbered, past=past))


@pytest.mark.parametrize("every", [EVERY, 10 * MANY])  # with many to find, and with none at all
def test_a_page_of_products_costs_the_same_however_many_there_are(
    database_url: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a connection that knows the statements from when there were none, and nobody told the planner."""
    for name, most in (("WINDOW", WINDOW), ("WAITING_WINDOW", WAITING_WINDOW), ("MOST_WAITING", WAITING_WINDOW)):
        monkeypatch.setattr(stock, name, most)

    async def of_page(reader: Reader, asked: dict[str, Any]) -> int:
        looks = [await reader.run_by_index(cost, stock.products, today=TODAY, **asked) for _ in range(LOOKS)]
        return max(looks)

    async def costs(reader: Reader, products: int) -> list[int]:
        return [await of_page(reader, asked) for asked in pages(products)]

    async def compare() -> None:
        reader = Reader(parse_url(database_url))
        await change(parse_url(database_url), "ANALYZE")
        await costs(reader, FEW)
        await fill(database_url, 1, FEW, every)
        of_few = await costs(reader, FEW)
        await fill(database_url, FEW + 1, MANY, every)
        of_many = await costs(reader, MANY)
        await reader.close()
        found = zip(pages(MANY), of_few, of_many, strict=True)
        assert [each for each in found if each[2] > ABOUT_THE_SAME * each[1] + A_HANDFUL] == []

    asyncio.run(compare())


def test_the_overview_costs_no_more_for_a_product_because_there_are_others(database_url: str) -> None:
    async def compare() -> None:
        reader = Reader(parse_url(database_url))
        await fill(database_url, 1, FEW, EVERY)
        await change(parse_url(database_url), "ANALYZE")
        of_few = await reader.run(cost, overview.totals, TODAY)
        await fill(database_url, FEW + 1, MANY, EVERY)
        await change(parse_url(database_url), "ANALYZE")
        of_many = await reader.run(cost, overview.totals, TODAY)
        await reader.close()
        assert of_many / MANY <= ABOUT_THE_SAME * of_few / FEW, (of_few, of_many)

    asyncio.run(compare())


def test_the_lines_that_wait_longest_cost_the_same_however_long_the_history_of_their_product_is(
    database_url: str,
) -> None:
    moment = "'2026-05-01T12:00:00+00:00'"

    async def add(first: int, last: int) -> None:
        numbered = FILL.format(first=first, last=last, every=EVERY)
        await change(parse_url(database_url), HISTORY.format(fill=numbered, moment=moment))
        await change(parse_url(database_url), "ANALYZE")

    async def compare() -> None:
        reader = Reader(parse_url(database_url))
        url = parse_url(database_url)
        await change(url, "INSERT INTO products (sku, version_number, waiting_lines) VALUES ('HOT', 1, 9)")
        numbered = FILL.format(first=1, last=9, every=EVERY)
        await change(url, f"{HOT_LINES.format(fill=numbered)}")
        await add(1, FEW)
        of_few = await reader.run(cost, oldest)
        await add(FEW + 1, MANY)
        of_many = await reader.run(cost, oldest)
        found = await reader.run(oldest)
        await reader.close()
        assert len(found) == overview.MOST_SHOWN
        assert of_many <= ABOUT_THE_SAME * of_few + A_HANDFUL, (of_few, of_many)

    asyncio.run(compare())


def oldest(connection: Connection) -> Sequence[overview.WaitingLine]:
    return overview._oldest(connection)


def test_lines_that_were_cancelled_wait_no_longer(database_url: str) -> None:
    given(
        database_url,
        BatchCreated("stock", "CHAIR", 1),
        AllocationRequired("gone", "CHAIR", 5),
        AllocationRequired("waits", "CHAIR", 7),
        BatchCreated("other", "TABLE", 1),
        AllocationRequired("gone", "TABLE", 5),
        AllocationCancelled("gone", "CHAIR"),
        AllocationCancelled("gone", "TABLE"),
    )

    async def read() -> tuple[overview.Totals, stock.ProductPage]:
        reader = Reader(parse_url(database_url))
        totals = await reader.run(overview.totals, TODAY)
        waiting = await reader.run(stock.products, only="waiting", today=TODAY)
        await reader.close()
        return totals, waiting

    totals, waiting = asyncio.run(read())
    assert (totals.waiting_lines, totals.waiting_qty) == (1, 7)
    assert [line.orderid for line in totals.oldest_waiting] == ["waits"]
    assert [each.sku for each in totals.most_waiting] == ["CHAIR"]
    assert [row.sku for row in waiting.rows] == ["CHAIR"]

"""What pages of the console read, counted and not timed: as much of many products as of few."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

from allocation.adapters.database import parse_url, sqlite_engine
from allocation.adapters.reader import Reader
from allocation.console_views import overview, stock
from allocation.domain.events import AllocationCancelled, AllocationRequired, BatchCreated
from tests.e2e.program import given

TODAY = date(2026, 6, 1)
FEW, MANY = 2_000, 40_000
WAIT = 100  # the last of them have a line that waits
STEPS = 10  # of the database's machine are counted together
ABOUT_THE_SAME = 1.3
NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)"
FILL = f"""
    {NUMBERS} INSERT INTO products (sku, version_number, waiting_lines)
    SELECT printf('SKU-%07d', n), 1, n > :last - :wait FROM numbers;
    {NUMBERS} INSERT INTO batches (ref, sku, purchased_quantity, allocated_quantity, position, initial_quantity)
    SELECT printf('B-%07d', n), printf('SKU-%07d', n), 9, 1, 1, 9 FROM numbers;
    {NUMBERS} INSERT INTO order_lines (orderid, sku, qty, batchref, position)
    SELECT printf('O-%07d', n), printf('SKU-%07d', n), 1, CASE WHEN n <= :last - :wait THEN printf('B-%07d', n) END, 1
    FROM numbers
"""
PAGES: tuple[dict[str, Any], ...] = (
    {},
    {"sort": "-sku"},
    {"after": "SKU-0001000"},
    {"search": "sku-00010"},
    {"only": "waiting"},
    {"only": "waiting", "sort": "-sku"},
    {"only": "waiting", "sort": "waiting"},
)


def steps(connection: Connection, asked: dict[str, Any]) -> int:
    """Of the database's virtual machine, for this page; it has to have rows."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += STEPS

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(count, STEPS)
    page = stock.products(connection, today=TODAY, **asked)
    driver.set_progress_handler(None, 0)
    assert page.rows
    assert not page.looked_through
    return taken


def costs(url: str, products: int) -> list[int]:
    engine = sqlite_engine(parse_url(url))
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        for statement in FILL.split(";"):
            connection.execute(text(statement), {"last": products, "wait": WAIT})
        found = [steps(connection, asked) for asked in PAGES]
        connection.exec_driver_sql("ROLLBACK")
    engine.dispose()
    return found


def test_a_page_of_products_costs_the_same_however_many_there_are(sqlite_url: str) -> None:
    of_few, of_many = costs(sqlite_url, FEW), costs(sqlite_url, MANY)
    dearer = [asked for asked, few, many in zip(PAGES, of_few, of_many, strict=True) if many > ABOUT_THE_SAME * few]
    assert dearer == [], (of_few, of_many)


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

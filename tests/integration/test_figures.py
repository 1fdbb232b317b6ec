"""The figures of stock and the late lines: SQL says what the domain says, on both databases, for every kind of row."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Row, text

from allocation import views
from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.console_views import overview, stock
from allocation.domain.batches import Batch
from allocation.domain.figures import Figures, Shelf, figures, in_sum, shelf
from allocation.domain.lines import NO_DAY, Today, is_late, late_by
from allocation.domain.records import NO_RECORDS
from allocation.service_layer.writing.rows import batch_of, line_of
from allocation.service_layer.writing.store import BatchRow, Changes, LineRow, ProductRow, Store
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import BATCHES, LINES
from allocation.views.audit import _batch as batch_row
from allocation.views.audit import _line as line_row
from allocation.views.availability import availability
from allocation.views.exports import TABLES, pages
from allocation.views.figures import totals_of
from tests.builders import handle_together, message, on
from tests.lives import BEGIN, random_life

T = TypeVar("T")

TODAY = on(date(2026, 6, 1))
DAYS = [TODAY.day + timedelta(days=days) for days in (-9, -1, 0, 1, 9)]
SKUS = [f"SKU-{number}" for number in range(6)]


def store_at(url: str) -> Store:
    parsed = parse_url(url)
    return SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)


def read(url: str, view: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    async def run() -> T:
        reader = Reader(parse_url(url))
        try:
            return await reader.run(view, *args, **kwargs)
        finally:
            await reader.close()

    return asyncio.run(run())


def random_batch(dice: random.Random, number: int) -> BatchRow:
    """A batch as it may be stored: on hand, due, overdue, of no known day; shipped, blocked, expired, in parts."""
    purchased = dice.randint(0, 20)
    allocated = dice.randint(0, purchased)
    eta = dice.choice((None, None, *DAYS, NO_DAY))
    in_parts = eta is not None and purchased > 0 and dice.random() < 0.5
    arrived = dice.randint(1, purchased) if in_parts else None
    taken = dice.randint(0, min(allocated, arrived)) if arrived is not None else None
    most = allocated if eta is None else taken or 0
    row = BatchRow(f"b{number}", dice.choice(SKUS), eta, purchased, allocated, number, purchased, eta)
    return row._replace(
        shipped_quantity=dice.randint(0, most),
        expires_on=dice.choice((None, None, *DAYS)),
        quarantine=dice.choice((None, None, "wet")),
        arrived_quantity=arrived,
        arrived_allocated=taken,
        inspect_quantity=dice.choice((0, 0, 0, 5)),
    )


def random_line(dice: random.Random, number: int, batches: Sequence[BatchRow]) -> LineRow:
    on_batch = dice.choice((None, *batches))
    closed = dice.choice((None, None, None, "shipped" if on_batch else "cancelled"))
    sku, ref = (on_batch.sku, on_batch.ref) if on_batch else (dice.choice(SKUS), None)
    return LineRow(
        *(f"o{number}", sku, 1, ref, number),
        need_by=dice.choice((None, *DAYS)),
        closed=closed,
        arrived=dice.choice((None, True)) if on_batch else None,
    )


@pytest.fixture(params=range(3))
def filled(request: pytest.FixtureRequest, database_url: str) -> str:
    """A database with rows that no rule would have made, so that every combination is there."""
    dice = random.Random(request.param)
    batches = [random_batch(dice, number) for number in range(1, 120)]
    lines = [random_line(dice, number, batches) for number in range(1, 200)]
    products = [ProductRow(sku, 1, 0) for sku in SKUS]

    async def write() -> None:
        store = store_at(database_url)
        changes = Changes(BEGIN, new_products=products, new_batches=batches, new_lines=lines)
        await store.run(lambda session: session.save(changes))
        await store.close()

    asyncio.run(write())
    return database_url


@pytest.fixture(params=range(3))
def lived(request: pytest.FixtureRequest, database_url: str) -> str:
    """A database after a random life."""

    async def live() -> None:
        store, now = store_at(database_url), BEGIN
        writer = Writer(store, clock=lambda: now)
        writer.start()
        for now, event in random_life(request.param, 150):  # noqa: B007 - the clock reads it
            await handle_together(writer, message(event))
        await writer.close()
        await store.close()

    asyncio.run(live())
    return database_url


class Rows:
    """All batches and lines, for the plain sums to compare with."""

    def __init__(self, connection: Connection) -> None:
        def rows(statement: str) -> Iterable[Row[Any]]:
            return connection.execute(text(statement.format(sku="sku", orderid="orderid"))).all()

        self.batches = [batch_of(batch_row(row), NO_RECORDS) for row in rows(BATCHES)]
        self.lines = [line_row(row) for row in rows(LINES)]

    def by_sku(self) -> Mapping[str, Sequence[Batch]]:
        found = defaultdict(list)
        for batch in self.batches:
            found[batch.sku].append(batch)
        return found

    def late(self, today: Today) -> dict[tuple[str, str], int]:
        """By how many days each late line is late."""
        batches = {batch.reference: batch for batch in self.batches}
        days = {
            row[:2]: (row.need_by, batches[row.batchref].source_of(line_of(row)).day(today) if row.batchref else None)
            for row in self.lines
            if row.closed is None
        }
        return {key: late_by(*each, today) for key, each in days.items() if is_late(*each, today)}


def check(connection: Connection, today: Today) -> None:
    rows = Rows(connection)
    assert rows.batches
    expected = {batch.reference: figures(batch, today) for batch in rows.batches}
    by_sku = rows.by_sku()
    for ref, figure in expected.items():
        assert figures_of(views.batch(connection, ref, today)) == figure
    exported = {row["ref"]: row for page in pages(connection, TABLES["batches"], today) for row in page}
    assert {ref: Figures(**{name: row[name] for name in Figures._fields}) for ref, row in exported.items()} == expected
    sums = {sku: in_sum(figures(batch, today) for batch in batches) for sku, batches in by_sku.items()}
    listed = views.products(connection, today, retired=True).products
    assert {each.sku: figures_of(each) for each in listed if each.sku in sums} == sums
    for sku, batches in by_sku.items():
        product = views.product(connection, sku, today)
        assert figures_of(product) == sums[sku]
        assert {batch.batchref: figures_of(batch) for batch in product.batches} == {
            batch.reference: expected[batch.reference] for batch in batches
        }
        assert availability(connection, sku, today).available_quantity == sums[sku].available_quantity
        total = totals_of(connection, [sku], today)[sku]
        assert total == (sums[sku], Shelf(*map(sum, zip(*(shelf(batch, today) for batch in batches), strict=True))))
    totals = overview.totals(connection, today)
    assert totals.stock.figures == in_sum(sums.values())
    assert totals.overdue == sum(figure.overdue_quantity > 0 for figure in expected.values())
    check_lists(connection, today)
    check_late(connection, today, rows.late(today), totals)


def check_lists(connection: Connection, today: Today) -> None:
    """The filters of the list of products choose by the figures."""
    shown = {only: {row.sku for row in stock.products(connection, only=only, today=today).rows} for only in FILTERS}
    everything = views.products(connection, today, retired=True).products
    assert shown == {only: {each.sku for each in everything if is_chosen(each)} for only, is_chosen in FILTERS.items()}


FILTERS: Mapping[Any, Callable[[views.ProductSummary], bool]] = {
    "short": lambda product: product.available_quantity == 0 and not product.retired,
    "overdue": lambda product: product.overdue_quantity > 0,
    "blocked": lambda product: product.blocked_quantity > 0,
    "retired": lambda product: product.retired,
}


def check_late(
    connection: Connection, today: Today, late: Mapping[tuple[str, str], int], totals: overview.Totals
) -> None:
    skus = {sku for _, sku in late}
    assert totals.late == len(late)
    assert {row.sku for row in stock.products(connection, only="late", today=today).rows} == skus
    found: dict[tuple[str, str], int] = {}
    for sku in {each.sku for each in views.products(connection, today, retired=True).products}:
        lines = stock.late_lines(connection, sku, today, limit=1_000)
        assert views.product(connection, sku, today).late_lines == len(lines)
        found |= {(line.orderid, line.sku): line.lateness(today).late_days for line in lines}
    assert found == late
    for what in ("allocations", "backorders"):
        for row in (row for page in pages(connection, TABLES[what], today) for row in page):
            key = row["orderid"], row["sku"]
            assert (row["late"], row["late_days"]) == (key in late, late.get(key, 0)), row
    for orderid, sku in late:
        [line] = [each for each in views.allocations(connection, orderid, today, limit=1_000) if each.sku == sku][:1]
        assert (line.late, line.late_days) == (True, late[orderid, sku])


def figures_of(shown: Any) -> Figures:
    return Figures(*(getattr(shown, name) for name in Figures._fields))


@pytest.mark.parametrize("days", [0, 1, -9])
def test_sql_says_what_the_domain_says_of_any_rows(filled: str, days: int) -> None:
    read(filled, check, on(TODAY.day + timedelta(days=days), allowance=2))


def test_sql_says_what_the_domain_says_after_a_random_life(lived: str) -> None:
    for days in (0, 3, 20):
        read(lived, check, on(BEGIN.date() + timedelta(days=days)))

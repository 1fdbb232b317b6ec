"""However many lines and exhausted batches a product collects, reading it costs what it cost on the first day."""

from __future__ import annotations

import asyncio
import functools
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from typing import Any

import pytest
from sqlalchemy import make_url

from allocation.adapters import postgresql, postgresql_pages, sqlite
from allocation.adapters.postgresql import PostgresSession, PostgresStore, _bounds, array_literal
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.lines import Fit
from allocation.service_layer.writing.store import PAGE_SIZE, UNUSUAL_PRIORITIES, Changes, Loaded, Session, Wanted
from allocation.testing.rows import batch, ledger, line, product
from tests.builders import on, select
from tests.contract.conftest import MOMENT, Place

YOUNG, OLD = "YOUNG-LAMP", "OLD-LAMP"
EXHAUSTED = 1_000
LINES = 20_000
WAITING = 2_000


def load(session: Session, sku: str) -> Loaded:
    return session.load(wanted(sku))


SOON, NONE = Fit(9, MOMENT.date()), Fit(0, date.max)

READS: dict[str, Callable[[Session, str], Any]] = {
    "load": load,
    "batch": lambda session, sku: session.batch(sku, f"{sku}-7"),
    "line": lambda session, sku: session.line(sku, "o7"),
    "newest_lines": lambda session, sku: session.newest_lines(sku, f"{sku}-7", 99_999),
    "waiting_lines": lambda session, sku: session.waiting_lines(sku, 0, [Fit(1, date.max)])[:1],
    "any_waiting": lambda session, sku: session.any_waiting(sku, [NONE]),
    "late_lines": lambda session, sku: session.late_lines(sku, on(MOMENT.date()), [SOON], ["b7"], (0, 0)),
    "priorities": lambda session, sku: session.priorities(sku, f"{sku}-7"),
}


def wanted(sku: str) -> Wanted:
    """What an allocation of a line, a line that is new and a count of an exhausted batch need."""
    return Wanted(skus={sku}, refs={f"{sku}-7"}, lines={("o7", sku), ("new", sku)}, message_ids={f"{sku}-7"})


def product_with_history(sku: str, exhausted: int, lines: int, waiting: int) -> Changes:
    """Each exhausted batch holds an equal share of the lines; one batch has room; no waiting line fits into it."""
    share = lines // exhausted
    full = [batch(f"{sku}-{n}", sku, share, share, n) for n in range(7, 7 + exhausted)]
    held = [line(f"o{7 + n}", f"{sku}-{7 + n // share}", position=exhausted + 10 + n, sku=sku) for n in range(lines)]
    waits = [line(f"w{n}", None, position=exhausted + lines + 10 + n, sku=sku) for n in range(waiting)]
    return Changes(
        MOMENT,
        new_products=[product(sku, exhausted + lines + waiting + 20, waiting)],
        new_batches=[*full, batch(f"{sku}-open", sku, position=8 + exhausted)],
        new_lines=[*held, *waits],
        messages=[ledger(f"{sku}-{n}", sku=sku) for n in range(7, 7 + lines)],
    )


def fill(place: Place) -> None:
    """A product of the first day beside one with a long history."""
    share = LINES // EXHAUSTED
    place.run(lambda session: session.save(product_with_history(YOUNG, 1, share, PAGE_SIZE)))
    place.run(lambda session: session.save(product_with_history(OLD, EXHAUSTED, LINES, WAITING)))


@pytest.fixture
def sqlite_place(sqlite_url: str) -> Iterator[Place]:
    url = make_url(sqlite_url)
    place = Place(SqliteStore(url), url)
    fill(place)
    yield place
    place.close()


@pytest.fixture
def postgres_place(postgres_url: str) -> Iterator[Place]:
    url = make_url(postgres_url)
    place = Place(PostgresStore(url), url)
    fill(place)
    yield place
    place.close()


def test_what_is_loaded_does_not_grow_with_the_history(place: Place) -> None:
    fill(place)
    for sku in (YOUNG, OLD):
        found = place.run(functools.partial(load, sku=sku))
        counts = [len(rows) for rows in (found.products, found.batches, found.lines, found.messages)]
        assert counts == [1, 2, 1, 1]


def test_sqlite_takes_as_many_steps_for_a_long_history_as_for_a_short_one(sqlite_place: Place) -> None:
    for name in READS:
        young, old = (sqlite_steps(sqlite_place, name, sku) for sku in (YOUNG, OLD))
        assert old <= 1.2 * young + 50, f"{name}: looking at every line or batch takes thousands"


def sqlite_steps(place: Place, read: str, sku: str) -> int:
    """Steps of SQLite's virtual machine that a read takes."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    def counted(session: Session) -> None:
        connection = place.store._connection  # type: ignore[attr-defined]
        connection.set_progress_handler(step, 1)
        READS[read](session, sku)
        connection.set_progress_handler(None, 0)

    place.run(counted)
    return taken


SQLITE_STATEMENTS = {
    name: statement
    for name, statement in vars(sqlite).items()
    if isinstance(statement, str) and re.match(r"\s*(SELECT|UPDATE)", statement)
}


# The last is of an IN list, as SQLite 3.53 builds it; that of a table reads "BLOOM FILTER ON".
READS_NO_TABLE = (
    "json_each|VIRTUAL TABLE|SUBQUERY|UNION ALL|COMPOUND|LEFT-MOST|TEMP B-TREE|^LEFT$|^RIGHT$|^CREATE BLOOM FILTER$"
)


@pytest.mark.parametrize("name", SQLITE_STATEMENTS)
def test_sqlite_finds_every_row_by_an_index(sqlite_url: str, name: str) -> None:
    statement = SQLITE_STATEMENTS[name]
    arguments = ["[]"] * len(set(re.findall(r"\?\d", statement)) or re.findall(r"\?", statement))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:
        steps = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {statement}", arguments)]
    plan = [step for step in steps if not re.search(READS_NO_TABLE, step)]
    assert plan
    assert all(re.match(r"SEARCH .* USING (COVERING )?(INDEX|PRIMARY KEY)", step) for step in plan), plan


POSTGRES_READS: dict[str, Callable[[str], tuple[str, tuple[Any, ...]]]] = {
    "load": lambda sku: (postgresql.LOAD, load_arguments(sku)),
    "read": lambda sku: (postgresql.READ, load_arguments(sku)),
    "batch": lambda sku: (postgresql.BATCH, (sku, f"{sku}-7")),
    "line": lambda sku: (postgresql.LINE, (sku, "o7")),
    "newest_lines": lambda sku: (postgresql_pages.NEWEST_LINES, (sku, f"{sku}-7", 99_999)),
    "waiting_lines": lambda sku: (postgresql_pages.WAITING_LINES, (sku, 0, *_bounds([Fit(1, date.max)]))),
    "any_waiting": lambda sku: (postgresql_pages.ANY_WAITING, (sku, *_bounds([NONE]))),
    "late_lines": lambda sku: (postgresql_pages.LATE_LINES, late_arguments(sku)),
    "newest_lines_of": lambda sku: (postgresql_pages.NEWEST_LINES_OF, (sku, f"{sku}-7", 99_999, 1)),
    "waiting_lines_of": lambda sku: (postgresql_pages.WAITING_LINES_OF, (sku, 0, *_bounds([Fit(1, date.max)]), 1)),
    "priorities_on": lambda sku: (postgresql.PRIORITIES_ON, (array_literal(UNUSUAL_PRIORITIES), sku, f"{sku}-7")),
    "priorities_waiting": lambda sku: (postgresql.PRIORITIES_WAITING, (array_literal(UNUSUAL_PRIORITIES), sku)),
}


BY_INDEX = {"Index Scan", "Index Only Scan", "Bitmap Index Scan", "Bitmap Heap Scan"}


def load_arguments(sku: str) -> tuple[str, ...]:
    asked = wanted(sku)
    orderids, skus = zip(*asked.lines, strict=True)
    return tuple(map(array_literal, (asked.skus, asked.refs, orderids, skus, asked.message_ids, asked.holdids)))


def late_arguments(sku: str) -> tuple[Any, ...]:
    return (sku, *on(MOMENT.date()), MOMENT.date(), array_literal(["b7"]), 0, 0, *_bounds([SOON])[2:])


def test_postgres_reads_as_many_rows_of_a_long_history_as_of_a_short_one(postgres_place: Place) -> None:
    for name, read in POSTGRES_READS.items():
        young, old = (postgres_scans(postgres_place, *read(sku)) for sku in (YOUNG, OLD))
        assert {scan["Node Type"] for scan in old} <= BY_INDEX, name
        assert rows_read(old) <= rows_read(young), name


def test_postgres_plans_by_index_while_the_tables_are_empty(postgres_url: str) -> None:
    """The writer plans each statement once and for all, maybe on its first day."""
    place = Place(PostgresStore(make_url(postgres_url)), make_url(postgres_url))
    asyncio.run(select(make_url(postgres_url), "ANALYZE"))
    for name, read in POSTGRES_READS.items():
        scans = postgres_scans(place, *read(YOUNG))
        assert {scan["Node Type"] for scan in scans} <= BY_INDEX, name
    place.close()


def test_postgres_finds_every_row_to_update_by_an_index(postgres_place: Place) -> None:
    statement = postgresql.save_statement(("products", "batches", "lines"))
    columns: list[list[list[str | int | None]]] = [
        [[OLD], [99_999], [0], [EXHAUSTED + LINES + WAITING + 20], [None], [None]],
        [[f"{OLD}-7"], [OLD], [20], [20]],
        [["o7"], [OLD], [1], [f"{OLD}-7"], [0], [None], [None], [None], [None]],
    ]
    arrays = [array_literal(column) for part in columns for column in part]
    scans = postgres_scans(postgres_place, statement, (MOMENT, *arrays))
    read = [scan for scan in scans if scan["Node Type"] != "ModifyTable"]
    assert {scan["Node Type"] for scan in read} <= BY_INDEX
    assert rows_read(read) <= 3 * 2


def postgres_scans(place: Place, statement: str, arguments: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The nodes of the plan, as the writer's connection makes it, that read tables of ours."""

    def explain(session: Session) -> list[dict[str, Any]]:
        assert isinstance(session, PostgresSession)
        [[[document]]] = session.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
        return list(nodes(document["Plan"]))

    return [node for node in place.run(explain) if "Relation Name" in node or "Index Name" in node]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def rows_read(scans: list[dict[str, Any]]) -> int:
    """Rows that came out of the scans, and those that they read and threw away."""
    rows = [scan["Actual Loops"] * (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) for scan in scans]
    return int(sum(rows))

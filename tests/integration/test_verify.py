"""The audit of a real database: damage done behind the program's back is found, also beside a busy writer."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.long_reader import LongReader
from allocation.adapters.migrate import migrate
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    Event,
    LinePinned,
    RulesChanged,
    StockHeld,
)
from allocation.service_layer.messages import new_message
from allocation.service_layer.proving.audit import Report
from allocation.service_layer.writing.store import StoreUnavailable
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import Found, audit_all
from tests.builders import dsn, select

ROOT = Path(__file__).resolve().parents[2]
FUNNY = ['quote"s', "b🛋", "Ängström", "a b", "Z", "a", "_", "ß", "\U00010000", "\uffee"]  # sorted unlike by a locale
AUDITS = 20
LINES_SMALL, LINES_LARGE = 10_000, 100_000
MEMORY_LIMIT_KIB = 24 * 1024  # that ten times as many lines may take more: what the database sorts in
TIMEOUT_S = 120.0
HISTORY: Sequence[Event] = [
    BatchCreated("b1", "SETTEE", 10),
    BatchCreated("b2", "SETTEE", 5),
    BatchCreated("b3", "LAMP", 100),
    *(AllocationRequired(f"o{n}", "SETTEE", 3) for n in range(1, 6)),
    AllocationRequired("o1", "LAMP", 3),
    BatchQuantityChanged("b1", 4),
]
UNUSUAL_HISTORY: Sequence[Event] = [
    BatchCreated("b1", "SETTEE", 10, None, date(2031, 1, 1), "OSLO"),
    RulesChanged("SETTEE", safety_stock=1),
    AllocationRequired("o1", "SETTEE", 3, date(2030, 2, 5), 3),
    LinePinned("o1", "SETTEE", "b1", "a friend"),
    StockHeld("h1", "SETTEE", 1, datetime(2030, 1, 31, 12, tzinfo=UTC)),
    AllocationRequired("o2", "SETTEE", 9, priority=2, split=True),
]


@asynccontextmanager
async def writer_at(url: str) -> AsyncIterator[Writer]:
    parsed = parse_url(url)
    store = SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)
    writer = Writer(store)
    writer.start()
    try:
        yield writer
    finally:
        await writer.close()
        await store.close()


async def send(url: str, events: Sequence[Event]) -> None:
    async with writer_at(url) as writer:
        await asyncio.gather(*[writer.handle(new_message(event, "test")) for event in events])


def audit(url: str) -> tuple[Report, Sequence[Found]]:
    return asyncio.run(LongReader(parse_url(url)).run(audit_all))


def damage(url: str, *statements: str) -> None:
    """What no message did."""
    parsed = make_url(url)
    if is_sqlite(parsed):
        with sqlite3.connect(parsed.database or "") as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return

    async def execute() -> None:
        connection = await asyncpg.connect(dsn(parsed))
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(execute())


def test_an_empty_database_is_right(database_url: str) -> None:
    report, found = audit(database_url)
    assert (report.products, report.lines, report.messages, found) == (0, 0, 0, [])


def test_books_that_are_right_are_counted(database_url: str) -> None:
    asyncio.run(send(database_url, HISTORY))
    report, found = audit(database_url)
    assert (report.products, report.batches, report.lines, found) == (2, 3, 6, [])
    assert report.messages == len([*HISTORY]) + 4  # o2 and o3 were freed and placed again; the others once


def test_any_name_is_compared_in_one_order(database_url: str) -> None:
    """The database sorts as Python compares, whatever its locale thinks of it."""
    chance = random.Random(1)
    events: list[Event] = [BatchCreated(f"{sku}-{n}", sku, 20) for sku in FUNNY for n in range(2)]
    events += [AllocationRequired(orderid, sku, chance.randrange(1, 9)) for sku in FUNNY for orderid in FUNNY]
    asyncio.run(send(database_url, events))
    report, found = audit(database_url)
    assert (report.products, report.lines, found) == (len(FUNNY), len(FUNNY) ** 2, [])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE batches SET allocated_quantity = allocated_quantity - 1 WHERE ref = 'b3'",
            [("allocated-quantity", "LAMP", "b3", 2, 3, "Allocated")],
        ),
        (
            "UPDATE products SET waiting_lines = 0 WHERE sku = 'SETTEE'",
            [("waiting-lines", "SETTEE", "SETTEE", 0, 3, None)],
        ),
        (
            "UPDATE batches SET purchased_quantity = 99 WHERE ref = 'b1'",
            [("purchased-quantity", "SETTEE", "b1", 99, 4, "Deallocated")],
        ),
        (
            "DELETE FROM order_lines WHERE orderid = 'o1' AND sku = 'LAMP'",
            [
                ("line-missing", "LAMP", "o1", None, "3, on b3", "Allocated"),
                ("allocated-quantity", "LAMP", "b3", 3, 0, "Allocated"),
            ],
        ),
        (
            "INSERT INTO order_lines (orderid, sku, qty, position) VALUES ('o9', 'NOWHERE', 1, 1)",
            [
                ("position", "NOWHERE", "o9", 1, "1 to 0", None),
                ("line-unexplained", "NOWHERE", "o9", "1, waiting", None, None),
                ("product-missing", "NOWHERE", "NOWHERE", None, "a product", None),
            ],
        ),
        (
            "UPDATE order_lines SET batchref = 'b1' WHERE orderid = 'o1' AND sku = 'LAMP'",
            [
                ("unknown-batch", "LAMP", "o1", "b1", "a batch of the product", "Allocated"),
                ("line-elsewhere", "LAMP", "o1", "on b1", "on b3", "Allocated"),
                ("allocated-quantity", "LAMP", "b3", 3, 0, "Allocated"),
            ],
        ),
        (
            "UPDATE ledger SET facts = NULL WHERE orderid = 'o1' AND sku = 'LAMP'",
            [
                ("line-unexplained", "LAMP", "o1", "3, on b3", None, "AllocationRequired"),
                ("version", "LAMP", "LAMP", 2, 1, None),
            ],
        ),
        (
            'UPDATE ledger SET facts = \'[[2,"OutOfStock",{"sku":"SETTEE"}]]\' WHERE orderid = \'o5\' AND step = 0',
            [
                ("line-unexplained", "SETTEE", "o5", "3, waiting", None, "AllocationRequired"),
                ("version", "SETTEE", "SETTEE", 8, 7, None),
                ("ledger", "SETTEE", "CORRELATION", "2 messages", "3 messages", "AllocationRequired"),
            ],
        ),
    ],
)
def test_damage_is_found_and_the_message_named(
    database_url: str, statement: str, expected: list[tuple[object, ...]]
) -> None:
    asyncio.run(send(database_url, HISTORY))
    damage(database_url, statement)
    (correlation_id,) = asyncio.run(
        select(make_url(database_url), "SELECT correlation_id FROM ledger WHERE orderid = 'o5' AND step = 0")
    )
    report, found = audit(database_url)
    assert [
        (*each.difference[:2], each.difference.name, *each.difference[3:5], each.cause and each.cause.type)
        for each in found
    ] == [tuple(correlation_id[0] if value == "CORRELATION" else value for value in each) for each in expected]
    assert report.found.total() == len(expected)
    assert all(each.cause is None or each.cause.actor == "test" for each in found)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE order_lines SET need_by = NULL WHERE orderid = 'o1'",
            ("line-differs", "o1", "needed by no day", "needed by 2030-02-05", "Allocated"),
        ),
        (
            "UPDATE order_lines SET need_by = '2030-02-06' WHERE orderid = 'o1'",
            ("line-differs", "o1", "needed by 2030-02-06", "needed by 2030-02-05", "Allocated"),
        ),
        (
            "UPDATE order_lines SET priority = 3 WHERE orderid = 'o1'",
            ("line-differs", "o1", "priority 3", "priority 3, pinned", "Allocated"),
        ),
        (
            "UPDATE order_lines SET expires_at = '2030-01-31T13:00:00+00:00' WHERE orderid = 'h1'",
            ("line-differs", "h1", "held until 2030-01-31T13:00:00Z", "held until 2030-01-31T12:00:00Z", "Held"),
        ),
        (
            "UPDATE order_lines SET priority = 1 WHERE orderid = 'o2/2'",
            ("line-differs", "o2/2", "priority 1", "priority 2", "Backordered"),
        ),
        (
            "UPDATE batches SET location = 'LYON'",
            ("batch-differs", "b1", "at LYON", "at OSLO", "Allocated"),
        ),
        (
            "UPDATE batches SET expires_on = NULL",
            ("batch-differs", "b1", "never expires", "expires 2031-01-01", "Allocated"),
        ),
        (
            "UPDATE products SET rules = '{}'",
            ("rules-differ", "SETTEE", "{}", "{expected}", "RulesChanged"),
        ),
    ],
)
def test_damage_to_what_few_have_is_found_too(database_url: str, statement: str, expected: tuple[str, ...]) -> None:
    asyncio.run(send(database_url, UNUSUAL_HISTORY))
    assert audit(database_url)[1] == []
    damage(database_url, statement)
    _, [(difference, cause)] = audit(database_url)
    should_be = expected[3].replace("{expected}", str(difference.expected))
    assert (difference.kind, difference.name, difference.stored, difference.expected) == (*expected[:3], should_be)
    assert cause is not None
    assert cause.type == expected[4]


def test_progress_is_told_in_lines(database_url: str) -> None:
    asyncio.run(send(database_url, HISTORY))
    told: list[tuple[int, int]] = []
    asyncio.run(LongReader(parse_url(database_url)).run(audit_all, lambda seen, total: told.append((seen, total))))
    assert (told[0], told[-1]) == ((0, 6), (6, 6))


def test_a_database_that_is_not_there_is_said_to_be_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        audit("postgresql://nobody@127.0.0.1:1/nothing")


def test_beside_a_busy_writer_no_difference_is_imagined(database_url: str) -> None:
    """Whatever moment the audit sees, all that belongs to it and nothing later."""
    seen = asyncio.run(audit_while_writing(database_url))
    assert all(found == [] for _, found in seen)
    lines = [report.lines for report, _ in seen]
    assert lines == sorted(set(lines)), "the writer wrote between any two"


async def audit_while_writing(url: str) -> Sequence[tuple[Report, Sequence[Found]]]:
    skus = ["SETTEE", "LAMP", "VASE"]
    await send(url, [BatchCreated(f"b{n}-{sku}", sku, 200) for sku in skus for n in range(3)])
    done = asyncio.Event()
    written = asyncio.Semaphore(0)

    async def write() -> None:
        chance = random.Random(7)
        orders = (f"o{n}" for n in itertools.count())
        async with writer_at(url) as writer:
            while not done.is_set():
                events: list[Event] = [
                    AllocationRequired(next(orders), chance.choice(skus), chance.randrange(1, 4)) for _ in range(10)
                ]
                events.append(
                    BatchQuantityChanged(f"b{chance.randrange(3)}-{chance.choice(skus)}", chance.randrange(300))
                )
                await asyncio.gather(*[writer.handle(new_message(event, "test")) for event in events])
                written.release()

    async def audit_later() -> tuple[Report, Sequence[Found]]:
        """Once a whole turn was written after the one before, which may have seen the turn that ends now."""
        while not written.locked():
            await written.acquire()
        for _ in range(2):
            await written.acquire()
        return await LongReader(parse_url(url)).run(audit_all)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        seen = [await audit_later() for _ in range(AUDITS)]
        done.set()
    return seen


MEASURED = """
import asyncio, json, pathlib, re, sys
from allocation.adapters.long_reader import LongReader
from allocation.views.audit import audit_all
from allocation.adapters.database import parse_url
report, found = asyncio.run(LongReader(parse_url(sys.argv[1])).run(audit_all))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
print(json.dumps([report.lines, len(found), int(peak[1])]))
"""


def measured(url: str) -> Any:
    """Lines seen, differences found, and the most memory the audit took, in KiB, in a process of its own."""
    command = [sys.executable, "-c", MEASURED, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def many_lines(path: Path, number: int) -> str:
    """A database of one product with so many lines, written without the program, for it would take long."""
    migrate(parse_url(f"sqlite:///{path}"))
    orders = [f"order-{n:07d}" for n in range(number)]
    body = '{{"orderid":"{}","sku":"HOT","qty":1,"batchref":"b1"}}'
    created = f'{{"ref":"b1","sku":"HOT","qty":{number},"eta":null}}'
    columns = "correlation_id, step, type, sku, orderid, body, actor, recorded_at"
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO products (sku, version_number, waiting_lines) VALUES ('HOT', ?, 0)", [number + 1])
        file.execute(
            "INSERT INTO batches (ref, sku, purchased_quantity, allocated_quantity, position, initial_quantity)"
            " VALUES ('b1', 'HOT', ?1, ?1, 1, ?1)",
            [number],
        )
        file.executemany(
            "INSERT INTO order_lines (orderid, sku, qty, batchref, position) VALUES (?, 'HOT', 1, 'b1', ?)",
            [(orderid, n) for n, orderid in enumerate(orders, start=2)],
        )
        file.execute(
            f"INSERT INTO ledger ({columns}) VALUES ('b', 0, 'BatchCreated', 'HOT', NULL, ?, 'x', 'x')", [created]
        )
        file.executemany(
            f"INSERT INTO ledger ({columns}) VALUES (?1, 0, 'Allocated', 'HOT', ?1, ?2, 'x', 'x')",
            [(orderid, body.format(orderid)) for orderid in orders],
        )
    file.close()
    return f"sqlite:///{path}"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_lines_of_a_product(tmp_path: Path) -> None:
    small = measured(many_lines(tmp_path / "small.db", LINES_SMALL))
    large = measured(many_lines(tmp_path / "large.db", LINES_LARGE))
    assert (small[:2], large[:2]) == ([LINES_SMALL, 0], [LINES_LARGE, 0])
    assert large[2] - small[2] < MEMORY_LIMIT_KIB

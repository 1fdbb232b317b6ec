"""``allocation verify`` and ``allocation at`` as people run them."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    Event,
    LineShipped,
)
from allocation.entrypoints.cli.exits import DIFFERENT
from allocation.service_layer.messages import new_message
from allocation.service_layer.proving.audit import KINDS
from allocation.service_layer.writing.store import ProductRow
from tests.builders import contents, select
from tests.e2e.program import Done, given, run
from tests.integration.test_verify import damage

DOCS = Path(__file__).resolve().parents[2] / "docs" / "howto"
LEDGER = "SELECT type, actor FROM messages ORDER BY position, place"


@pytest.fixture
def books(database_url: str) -> str:
    """Two products, a line that waits, and nothing wrong."""
    given(
        database_url,
        BatchCreated("b1", "SETTEE", 10),
        BatchCreated("b2", "LAMP", 9),
        AllocationRequired("o1", "SETTEE", 4),
        AllocationRequired("o2", "SETTEE", 99),
        AllocationRequired("o1", "LAMP", 5),
    )
    return database_url


def verify(database: str, *options: str) -> tuple[int, Any]:
    done = run("verify", "--json", *options, database=database)
    assert done.errors == ""
    return done.code, json.loads(done.output)


def test_books_that_are_right(books: str) -> None:
    done = run("verify", database=books)
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("2 products, 2 batches and 3 lines against 5 messages in ")
    assert done.output.endswith(" s: the books are right\n")
    code, told = verify(books)
    assert (code, told["found"], told["differences"], told["left"]) == (0, {}, [], 0)
    assert (told["products"], told["batches"], told["lines"], told["messages"]) == (2, 2, 3, 5)


def test_a_difference_is_named_with_its_message(books: str) -> None:
    damage(books, "UPDATE batches SET allocated_quantity = 7 WHERE ref = 'b1'")
    ((id_,),) = asyncio.run(
        select(
            make_url(books), "SELECT correlation_id FROM ledger WHERE orderid = 'o1' AND sku = 'SETTEE' AND step = 0"
        )
    )
    done = run("verify", database=books)
    assert done.code == DIFFERENT
    for words in ("SETTEE", "allocated-quantity", "b1", KINDS["allocated-quantity"], "1 differences, 1 left"):
        assert words in done.output
    code, told = verify(books)
    (difference,) = told["differences"]
    message = difference.pop("message")
    assert (code, told["left"], told["found"]) == (DIFFERENT, 1, {"allocated-quantity": 1})
    assert difference == {"kind": "allocated-quantity", "sku": "SETTEE", "name": "b1", "stored": 7, "expected": 4}
    assert (message["id"], message["type"], message["actor"]) == (f"{id_}~1", "Allocated", "given")


def test_repair_mends_counters_and_only_counters_under_ledger_entries(books: str) -> None:
    before = asyncio.run(contents(make_url(books)))
    damage(
        books,
        "UPDATE batches SET allocated_quantity = 7 WHERE ref = 'b1'",
        "UPDATE batches SET allocated_quantity = 0 WHERE ref = 'b2'",
        "UPDATE products SET waiting_lines = 3 WHERE sku = 'SETTEE'",
    )
    code, told = verify(books, "--repair")
    assert (code, told["left"], len(told["differences"])) == (0, 0, 3)
    assert sorted(told["repaired"], key=lambda each: (each["sku"], each["batchref"] or "")) == [
        {"sku": "LAMP", "counter": "allocated_quantity", "batchref": "b2", "stored": 0, "counted": 5},
        {"sku": "SETTEE", "counter": "waiting_lines", "batchref": None, "stored": 3, "counted": 1},
        {"sku": "SETTEE", "counter": "allocated_quantity", "batchref": "b1", "stored": 7, "counted": 4},
    ]
    after = asyncio.run(contents(make_url(books)))
    assert after.lines == before.lines
    assert after.batches == before.batches
    assert [row[::2] for row in after.products] == [row[::2] for row in before.products]
    assert after.ledger[: len(before.ledger)] == before.ledger
    entries = {(row[3], row[8]) for row in after.ledger[len(before.ledger) :]}
    assert entries == {
        ("RepairRequired", "verify"),
        ("AllocatedQuantityRepaired", "verify"),
        ("WaitingLinesRepaired", "verify"),
    }
    assert verify(books)[0] == 0
    assert verify(books, "--repair")[1]["repaired"] == []


WRONG: Mapping[str, Mapping[str, int]] = {  # by product, in an order that the schema lets pass
    "SETTEE": {"allocated_quantity": 7},
    "LAMP": {"shipped_quantity": 0},
    "VASE": {"shipped_quantity": 6},
    "RUG": {"waiting_lines": 0},
    "SOFA": {"allocated_quantity": 3, "shipped_quantity": 3},
    "CHAIR": {"waiting_lines": 9, "shipped_quantity": 0, "allocated_quantity": 1},
}
RIGHT: Mapping[str, int] = {"allocated_quantity": 6, "shipped_quantity": 2, "waiting_lines": 1}


def a_life(sku: str) -> Sequence[Event]:
    """Of 10 bought 4 are promised and 2 were shipped; a line was cancelled, another waits."""
    orders = [AllocationRequired(f"o{number}", sku, qty) for number, qty in enumerate((4, 2, 99, 4))]
    cancelled = AllocationCancelled("o0", sku)
    return [BatchCreated(f"b-{sku}", sku, 10), *orders[:3], LineShipped("o1", sku), cancelled, orders[3]]


def test_every_counter_is_named_and_mended_and_right_again(database_url: str) -> None:
    given(database_url, *(event for sku in WRONG for event in a_life(sku)))
    wrong = [(sku, counter, value) for sku, counters in WRONG.items() for counter, value in counters.items()]
    for sku, counter, value in wrong:
        table = "products" if counter in ProductRow._fields else "batches"
        damage(database_url, f"UPDATE {table} SET {counter} = {value} WHERE sku = '{sku}'")
    code, told = verify(database_url)
    named = {(each["sku"], each["kind"].replace("-", "_"), each["stored"]) for each in told["differences"]}
    assert (code, told["left"], named) == (DIFFERENT, len(wrong), {*wrong})
    code, told = verify(database_url, "--repair")
    assert {(each["sku"], each["counter"], each["stored"]) for each in told["repaired"]} == {*wrong}
    assert all(each["counted"] == RIGHT[each["counter"]] for each in told["repaired"])
    assert (code, told["left"], len(told["repaired"])) == (0, 0, len(wrong))
    code, told = verify(database_url, "--repair")
    assert (code, told["found"], told["repaired"]) == (0, {}, [])
    now = run("show", "CHAIR", "--json", database=database_url)
    assert run("at", "2035-01-01T00:00Z", "show", "CHAIR", "--json", database=database_url).output == now.output


def test_repair_can_be_read(books: str) -> None:
    damage(books, "UPDATE batches SET allocated_quantity = 7 WHERE ref = 'b1'")
    done = run("verify", "--repair", database=books)
    assert done.code == 0
    assert "Repaired" in done.output
    assert done.output.endswith("1 differences, 1 repaired, 0 left\n")


def test_counters_are_left_while_lines_are_in_doubt(books: str) -> None:
    damage(books, "DELETE FROM order_lines WHERE orderid = 'o1' AND sku = 'LAMP'")
    code, told = verify(books, "--repair")
    assert (code, told["repaired"], told["doubted"], told["left"]) == (DIFFERENT, [], ["LAMP"], 2)
    done = run("verify", "--repair", database=books)
    assert "Not repaired, because their lines are in doubt: LAMP" in done.output


def test_a_counter_that_would_say_that_too_much_is_sold_is_left(books: str) -> None:
    damage(books, "UPDATE batches SET allocated_quantity = 1, purchased_quantity = 3 WHERE ref = 'b1'")
    code, told = verify(books, "--repair")
    assert (code, told["repaired"], told["left"]) == (DIFFERENT, [], 3)
    assert told["found"] == {"allocated-quantity": 1, "oversold": 1, "purchased-quantity": 1}


def test_without_repair_nothing_is_written(books: str) -> None:
    damage(books, "UPDATE batches SET allocated_quantity = 7 WHERE ref = 'b1'")
    before = asyncio.run(contents(make_url(books)))
    assert verify(books)[0] == DIFFERENT
    assert asyncio.run(contents(make_url(books))) == before


def test_a_file_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    done = run("verify", database=f"sqlite:///{tmp_path / 'none.db'}")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])


def test_every_kind_of_difference_is_documented() -> None:
    page = (DOCS / "verify.md").read_text()
    for kind, meaning in KINDS.items():
        assert f"| `{kind}` | {meaning} |" in page


class Past:
    """A database in which each event happened a second after the one before."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.beginning = datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)

    def play(self, *events: Event) -> None:
        async def handle_all() -> None:
            async with bootstrap(Settings(database_url=self.database)) as service:
                for second, event in enumerate(events):
                    moment = self.beginning + timedelta(seconds=second)
                    service.writer._clock = functools.partial(datetime.fromtimestamp, moment.timestamp(), UTC)
                    await service.writer.handle(new_message(event, "given"))

        asyncio.run(handle_all())

    def moment(self, second: float, zone: timezone = UTC) -> str:
        return (self.beginning + timedelta(seconds=second)).astimezone(zone).isoformat()

    def at(self, second: float, name: str) -> Any:
        done = run("at", self.moment(second), "show", name, "--json", database=self.database)
        assert (done.code, done.errors) == (0, "")
        return json.loads(done.output)

    def said(self, time: str, name: str) -> Done:
        return run("at", time, "show", name, database=self.database)


@pytest.fixture
def past(database_url: str) -> Past:
    """A cut, a refill: 0 b1 of 10; 1 to 3 lines o1 to o3 of 3; 4 b1 is 4; 5 b2 of 9 arrives."""
    past = Past(database_url)
    past.play(
        BatchCreated("b1", "SETTEE", 10),
        *(AllocationRequired(f"o{n}", "SETTEE", 3) for n in (1, 2, 3)),
        BatchQuantityChanged("b1", 4),
        BatchCreated("b2", "SETTEE", 9),
    )
    return past


def test_an_order_stood_where_it_then_was(past: Past) -> None:
    stood = [past.at(second, "o3")["order"][0]["batchref"] for second in (3, 4, 5)]
    assert stood == ["b1", None, "b2"]
    assert past.at(5, "o1")["order"] == [{"sku": "SETTEE", "qty": 3, "batchref": "b1", "state": "allocated"}]


def test_a_product_was_as_it_then_was(past: Past) -> None:
    before, cut, refilled = (past.at(second, "SETTEE")["product"] for second in (3, 4, 5))
    assert [before[f"{each}_quantity"] for each in ("purchased", "allocated", "available")] == [10, 9, 1]
    assert [cut[f"{each}_quantity"] for each in ("purchased", "allocated", "available")] == [4, 3, 1]
    assert [refilled[f"{each}_quantity"] for each in ("purchased", "allocated", "available")] == [13, 9, 4]
    assert [line["orderid"] for line in cut["waiting"]] == ["o2", "o3"]
    assert (before["waiting_lines"], cut["waiting_lines"], refilled["waiting_lines"]) == (0, 2, 0)


def test_a_batch_was_as_it_then_was(past: Past) -> None:
    before, cut = (past.at(second, "b1")["batch"] for second in (3, 4))
    assert [line["orderid"] for line in before["lines"]] == ["o3", "o2", "o1"]
    assert [line["orderid"] for line in cut["lines"]] == ["o1"]


def test_a_moment_is_exact_and_may_be_told_in_any_zone(past: Past) -> None:
    """A whole second is text of another length on SQLite, and still before the half second after it."""
    assert past.said(past.moment(-0.5), "SETTEE").code == 3
    assert past.at(0, "SETTEE")["product"]["purchased_quantity"] == 10
    assert past.said(past.moment(-0.000001), "SETTEE").code == 3
    said = past.said(past.moment(3.5, timezone(timedelta(hours=9))), "o3")
    assert (said.code, "b1" in said.output) == (0, True)
    said = past.said(past.moment(4.5).replace("+00:00", "Z"), "o3")
    assert (said.code, "waits" in said.output) == (0, True)


def test_now_is_what_show_shows(past: Past) -> None:
    for name in ("SETTEE", "b1", "b2", "o2"):
        shown = run("show", name, "--json", database=past.database)
        assert past.at(60, name) == json.loads(shown.output)


def test_what_was_not_there_yet_is_unknown(past: Past) -> None:
    for name in ("b2", "o3", "NOTHING"):
        said = past.said(past.moment(2), name)
        assert said.code == 3
        assert f"{name}: unknown at 2026-01-31T12:00:02.500000+00:00" in said.errors


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("2026-01-31T12:00", ["does not say which time zone", "2026-01-31T12:00:00Z"]),
        ("2026-01-31", ["does not say which time zone"]),
        ("yesterday", ["'yesterday' is no time", "2026-01-31T12:00Z"]),
    ],
)
def test_a_time_that_is_none_is_refused_with_the_cure(past: Past, time: str, words: list[str]) -> None:
    said = past.said(time, "SETTEE")
    assert said.code == 2
    assert all(each in said.errors for each in words)

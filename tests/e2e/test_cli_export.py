"""Tables out of the database: all rows once, readable by machines, the same from both databases."""

import asyncio
import csv
import io
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from allocation.adapters.database import parse_url
from allocation.adapters.reader import Reader
from allocation.domain.events import AllocationRequired, BatchCreated, Event
from allocation.entrypoints.cli import exporting
from allocation.entrypoints.cli.options import What
from allocation.views import exports
from tests.builders import right_now, select
from tests.e2e.program import PROGRAM, given, run, run_program

NAMES = ("RUG", 'COMMA, "QUOTE"', "ÜMLAUT 雪", "-dash", "=1+1")
QUERIES: Mapping[str, str] = {
    "batches": (
        "SELECT ref, sku, CAST(eta AS text), purchased_quantity, allocated_quantity,"
        " purchased_quantity - allocated_quantity, shipped_quantity, location, CAST(expires_on AS text), quarantine,"
        " CASE WHEN eta IS NULL THEN purchased_quantity ELSE 0 END,"
        " CASE WHEN eta IS NULL THEN 0 ELSE purchased_quantity END, 0, 0, 1 = 2, 1 = 2, NULL, 0"
        " FROM batches ORDER BY sku, ref"
    ),
    "allocations": (
        "SELECT orderid, sku, qty, batchref, 'allocated', CAST(need_by AS text), priority, CAST(expires_at AS text),"
        " NULL, 1 = 2, 0 FROM order_lines WHERE batchref IS NOT NULL ORDER BY orderid, sku"
    ),
    "backorders": (
        "SELECT orderid, sku, qty, position, CAST(need_by AS text), priority, NULL, 1 = 2, 0"
        " FROM order_lines WHERE batchref IS NULL ORDER BY sku, position"
    ),
}


@pytest.fixture
def filled(database_url: str) -> str:
    """A database with every kind of row, and names that need quoting."""
    events: list[Event] = []
    for number, sku in enumerate(NAMES):
        events.append(BatchCreated(f"b, {number}", sku, 10, date(2031, 1, 31) if number % 2 else None))
        events += [AllocationRequired(f"o{qty}", sku, qty) for qty in range(1, 7)]
    given(database_url, *events)
    return database_url


def rows_of(url: str, query: str) -> list[tuple[Any, ...]]:
    return asyncio.run(select(make_url(url), query))


def as_cell(value: object) -> str:
    """A value of JSON as CSV has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def export(what: str, format_: str, url: str) -> str:
    done = run("export", what, f"--format={format_}", database=url)
    assert (done.code, done.errors) == (0, "")
    return done.output


@pytest.mark.parametrize("what", QUERIES)
def test_every_row_once_in_order_as_json_lines_and_as_csv(filled: str, what: str) -> None:
    told = [json.loads(line) for line in export(what, "jsonl", filled).splitlines()]
    header, *cells = csv.reader(io.StringIO(export(what, "csv", filled)))
    expected = rows_of(filled, QUERIES[what])
    assert expected
    assert [tuple(row.values()) for row in told] == expected
    assert {tuple(row) for row in told} == {tuple(header)}
    assert cells == [[as_cell(value) for value in row.values()] for row in told]


def test_the_ledger_tells_every_message_and_what_caused_it(filled: str) -> None:
    told = [json.loads(line) for line in export("ledger", "jsonl", filled).splitlines()]
    assert [row["position"] for row in told] == [
        row[0] for row in rows_of(filled, "SELECT position FROM messages ORDER BY 1")
    ]
    ids = {row["id"] for row in told}
    assert len(ids) == len(told)
    assert {row["causation_id"] for row in told} - {None} <= ids
    assert all((row["causation_id"] is None) == (row["id"] == row["correlation_id"]) for row in told)
    first = told[0]
    assert (first["type"], first["body"]["qty"], first["result"], first["actor"]) == (
        "BatchCreated",
        10,
        "b, 0",
        "given",
    )
    assert datetime.fromisoformat(first["recorded_at"]).tzinfo == UTC
    cells = list(csv.DictReader(io.StringIO(export("ledger", "csv", filled))))
    assert [json.loads(row["body"]) for row in cells] == [row["body"] for row in told]


@pytest.mark.parametrize("what", What)
def test_pages_join_without_gap_or_repetition(filled: str, what: What, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one, in_many = (read_pages(filled, what, size, monkeypatch) for size in (1_000, 3))
    assert len(in_one) == 2  # an empty one comes first, where a header has its place
    assert len(in_many) > 2
    assert [row for page in in_many for row in page] == in_one[1]


def read_pages(
    url: str, what: What, size: int, monkeypatch: pytest.MonkeyPatch, after_first: Callable[[], object] = lambda: None
) -> list[list[exports.Row]]:
    """What `write_all` encodes, page by page; ``after_first`` happens when the first page was read."""
    monkeypatch.setattr(exports, "PAGE_ROWS", size)
    pages: list[list[exports.Row]] = []

    def encode(rows: Sequence[exports.Row]) -> bytes:
        pages.append(list(rows))
        if len(pages) == 2:
            after_first()
        return b""

    async def read() -> None:
        reader = Reader(parse_url(url))
        await reader.run(exporting.write_all, exports.TABLES[what], right_now(), encode, io.BytesIO())
        await reader.close()

    asyncio.run(read())
    return pages


def test_rows_are_as_of_one_moment_however_long_it_takes(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "later.jsonl"
    later.write_text('{"type":"BatchCreated","ref":"later","sku":"ZEBRA","qty":1}\n')
    before = rows_of(filled, QUERIES["batches"])
    pages = read_pages(
        filled, What.BATCHES, 2, monkeypatch, after_first=lambda: run_program("import", str(later), database=filled)
    )
    assert [row["ref"] for page in pages for row in page] == [row[0] for row in before]
    assert len(rows_of(filled, QUERIES["batches"])) == len(before) + 1


def test_an_empty_table_is_a_header_or_nothing(sqlite_url: str) -> None:
    header = "orderid,sku,qty,batchref,state,need_by,priority,expires_at,part_of,late,late_days\n"
    assert export("allocations", "csv", sqlite_url) == header
    assert export("allocations", "jsonl", sqlite_url) == ""


def test_an_exported_batch_list_makes_the_same_batches_elsewhere(filled: str, tmp_path: Path) -> None:
    renamed = export("batches", "csv", filled).replace("purchased_quantity", "qty", 1)
    rows = list(csv.DictReader(io.StringIO(renamed)))
    file = tmp_path / "batches.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, ("ref", "sku", "qty", "eta"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert run("import", str(file), "--type=BatchCreated", "--empty-eta", "on-hand", database=other).code == 0
    query = "SELECT ref, sku, CAST(eta AS text), purchased_quantity FROM batches ORDER BY ref"
    assert rows_of(other, query) == rows_of(filled, query)


def test_a_file_is_named_by_its_ending_and_complete(sqlite_url: str, tmp_path: Path) -> None:
    given(sqlite_url, BatchCreated("b1", "RUG", 1))
    for name in ("batches.jsonl", "batches.csv"):
        assert run("export", "batches", "--output", str(tmp_path / name), database=sqlite_url).code == 0
    assert json.loads((tmp_path / "batches.jsonl").read_text())["ref"] == "b1"
    assert (tmp_path / "batches.csv").read_text().splitlines()[0].startswith("ref,sku,")
    assert not list(tmp_path.glob("*.part"))


def test_a_file_that_cannot_be_written_is_told_and_none_is_left(sqlite_url: str, tmp_path: Path) -> None:
    done = run("export", "batches", "--output", str(tmp_path / "missing" / "batches.csv"), database=sqlite_url)
    assert (done.code, "No such file or directory" in done.errors) == (2, True)
    (tmp_path / "folder").mkdir()
    assert run("export", "batches", "--output", str(tmp_path / "folder"), database=sqlite_url).code == 2
    assert not list(tmp_path.glob("*.part"))
    full = subprocess.run(
        ["/bin/sh", "-c", f"{' '.join(PROGRAM)} export batches --database={sqlite_url} > /dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (full.returncode, full.stderr) == (2, "error: input or output: No space left on device\n")


def test_whoever_reads_may_stop_early(filled: str) -> None:
    command = f"{' '.join(PROGRAM)} export ledger '--database={filled}' | head -1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_a_missing_database_is_not_made_by_looking_at_it(tmp_path: Path) -> None:
    assert run("export", "batches", database=f"sqlite:///{tmp_path / 'typo.db'}").code == 2
    assert list(tmp_path.iterdir()) == []

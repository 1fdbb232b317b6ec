"""Files of events into the database: everything once, whatever happens, and what is refused is told."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from allocation.adapters.database import parse_url
from allocation.entrypoints.intake.lines import CHUNK_BYTES, MAX_LINE_BYTES
from journey import books, plan, sample
from tests.builders import Contents, contents, select
from tests.e2e.program import PROGRAM, TIMEOUT_S, Done, run
from tests.waiting import wait_until

BATCH = '{"type":"BatchCreated","ref":"b1","sku":"RUG","qty":10}'


def line(orderid: str, qty: int = 1, sku: str = "RUG") -> str:
    return json.dumps({"type": "AllocationRequired", "orderid": orderid, "sku": sku, "qty": qty})


def write(path: Path, lines: Sequence[str]) -> str:
    path.write_text("".join(f"{each}\n" for each in lines))
    return str(path)


def stored(url: str) -> Contents:
    return asyncio.run(contents(parse_url(url)))


def summary(*arguments: str, database: str, code: int = 0, given: bytes = b"") -> dict[str, Any]:
    done = run("import", *arguments, "--json", database=database, given=given)
    assert done.code == code, done
    found: dict[str, Any] = json.loads(done.output)[0]
    return found


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["lines"], found["taken"], found["repeated"], found["refused"]


def test_takes_every_line_in_order(database_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", [BATCH, "", line("o1", 4), line("o2", 6), line("o3", 1)])
    assert counts(summary(file, database=database_url)) == (4, 4, 0, 0)
    assert [(row[0], row[3]) for row in stored(database_url).lines] == [("o1", "b1"), ("o2", "b1"), ("o3", None)]


def test_says_what_it_did(sqlite_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", [BATCH, line("o1"), "nonsense"])
    done = run("import", file, database=sqlite_url)
    assert (done.code, done.errors) == (5, "")
    assert done.output.startswith(
        f"{file}: 3 lines, 2 taken, 0 imported before, 1 refused (see {file}.refused.jsonl); "
    )
    assert done.output.endswith(" lines/s\n")


def test_a_second_import_changes_nothing(database_url: str, tmp_path: Path) -> None:
    recount = '{"type":"BatchQuantityChanged","ref":"b1","qty":%d}'
    lines = [BATCH, line("o1", 4), recount % 3, recount % 8, line("o2", 2)]
    file = write(tmp_path / "events.jsonl", lines)
    summary(file, database=database_url)
    before = stored(database_url)
    assert counts(summary(file, database=database_url)) == (5, 0, 5, 0)
    assert stored(database_url) == before


def test_lines_added_at_the_end_are_all_that_is_new(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f"{BATCH}\n{line('o1')}")  # the last line without its end
    summary(str(path), database=sqlite_url)
    path.write_bytes(f"\ufeff{BATCH}\r\n{line('o1')}\r\n{line('o2')}\r\n".encode())
    assert counts(summary(str(path), database=sqlite_url)) == (3, 1, 2, 0)


def test_the_same_line_twice_in_a_file_is_two_messages(sqlite_url: str, tmp_path: Path) -> None:
    recount = '{"type":"BatchQuantityChanged","ref":"b1","qty":%d}'
    file = write(tmp_path / "events.jsonl", [BATCH, recount % 5, recount % 7, recount % 5])
    assert counts(summary(file, database=sqlite_url)) == (4, 4, 0, 0)
    assert stored(sqlite_url).batches[0][3] == 5


def test_another_label_makes_the_same_lines_count_again(sqlite_url: str, tmp_path: Path) -> None:
    write(tmp_path / "batch.jsonl", [BATCH])
    file = write(tmp_path / "recount.jsonl", ['{"type":"BatchQuantityChanged","ref":"b1","qty":5}'])
    summary(str(tmp_path / "batch.jsonl"), database=sqlite_url)
    assert counts(summary(file, "--label=monday", database=sqlite_url)) == (1, 1, 0, 0)
    assert counts(summary(file, "--label=monday", database=sqlite_url)) == (1, 0, 1, 0)
    assert counts(summary(file, "--label=tuesday", database=sqlite_url)) == (1, 1, 0, 0)


def test_a_senders_own_id_holds_wherever_the_line_stands(sqlite_url: str, tmp_path: Path) -> None:
    own = '{"type":"BatchQuantityChanged","ref":"b1","qty":5,"id":"mine"}'
    write(tmp_path / "a.jsonl", [BATCH, own])
    write(tmp_path / "b.jsonl", ["", own])
    summary(str(tmp_path / "a.jsonl"), database=sqlite_url)
    assert counts(summary(str(tmp_path / "b.jsonl"), database=sqlite_url)) == (1, 0, 1, 0)
    assert "mine" in {row[0] for row in stored(sqlite_url).ledger}


def test_refused_lines_go_to_a_file_and_the_rest_goes_in(database_url: str, tmp_path: Path) -> None:
    bad = [
        ("{", "Not valid JSON: Input data was truncated"),
        ("[1]", "Not a JSON object: [1]"),
        ('{"type":"Nothing"}', 'Unknown event type "Nothing"'),
        (line("o1", 0), "qty is 0"),
        (line("o1", 2), "Order o1 already has a line of RUG with quantity 1, not 2"),
        (line("o1", 1, sku="NONE"), "Invalid sku NONE"),
        (
            '{"type":"BatchCreated","ref":"b1","sku":"RUG","qty":11}',
            "Batch b1 already exists: 10 of RUG, in the warehouse",
        ),
        ('{"type":"BatchQuantityChanged","ref":"b9","qty":1}', "Unknown batch b9"),
        ('{"type":"BatchQuantityChanged","ref":"b1","qty":1,"why":"?"}', 'Unknown field "why"'),
        ('{"type":"BatchQuantityChanged","ref":"b1","qty":1,"id":7}', "id is not a text"),
    ]
    file = write(tmp_path / "events.jsonl", [BATCH, line("o1"), *(text for text, _ in bad), line("o2")])
    found = summary(file, database=database_url, code=5)
    assert counts(found) == (13, 3, 0, 10)
    told = [json.loads(each) for each in Path(found["refused_file"]).read_text().splitlines()]
    assert [(each["line"], each["text"], each["reason"]) for each in told] == [
        (number, text, reason) for number, (text, reason) in enumerate(bad, 3)
    ]
    assert {each["file"] for each in told} == {file}
    assert all(each["cure"] for each in told)
    assert [row[0] for row in stored(database_url).lines] == ["o1", "o2"]


def test_a_refused_line_goes_in_when_its_reason_is_gone(sqlite_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", [line("o1")])
    refused = Path(summary(file, database=sqlite_url, code=5)["refused_file"])
    run("add-batch", "--ref=b1", "--sku=RUG", "--qty=1", database=sqlite_url)
    assert counts(summary(file, database=sqlite_url)) == (1, 1, 0, 0)
    assert not refused.exists()


def test_refused_lines_of_all_files_can_go_to_one(sqlite_url: str, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.jsonl", [BATCH, name]) for name in ("a", "b")]
    refused = tmp_path / "refused.jsonl"
    refused.write_text("from last time\n")
    done = run("import", *files, f"--refused={refused}", database=sqlite_url)
    assert done.code == 5
    told = [json.loads(each) for each in refused.read_text().splitlines()]
    assert [(each["file"], each["line"], each["text"]) for each in told] == [(files[0], 2, "a"), (files[1], 2, "b")]


def test_reads_standard_input(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = summary("-", database=sqlite_url, given=f"{BATCH}\n{line('o1')}\nnonsense".encode(), code=5)
    assert (counts(found), found["refused_file"]) == ((3, 2, 0, 1), "stdin.refused.jsonl")


def test_bytes_that_are_no_text_and_lines_without_end_are_refused(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    endless = b'{"type":"' + b"x" * (CHUNK_BYTES * 3) + b'"}'
    path.write_bytes(b"\n".join([b"\xff\xfe\x00", BATCH.encode(), endless, line("o1").encode(), endless]))
    found = summary(str(path), database=sqlite_url, code=5)
    assert counts(found) == (5, 2, 0, 3)
    told = [json.loads(each) for each in Path(found["refused_file"]).read_text().splitlines()]
    assert told[0]["text"] == r"\xff\xfe" + "\x00"
    assert told[1]["reason"] == told[2]["reason"] == f"The line has more than {MAX_LINE_BYTES} bytes"
    assert [each["line"] for each in told] == [1, 3, 5]
    assert [len(each["text"]) for each in told[1:]] == [MAX_LINE_BYTES + 1] * 2  # no more of it was kept


def test_csv_with_a_header(database_url: str, tmp_path: Path) -> None:
    batches = tmp_path / "batches.csv"
    batches.write_bytes(b'\xef\xbb\xbfref,sku,qty,eta\r\nb1,"RUG, ""red""",10,\r\nb2,"RUG, ""red""",5,2031-01-31\r\n')
    assert counts(summary(str(batches), "--type=BatchCreated", "--empty-eta", "on-hand", database=database_url)) == (
        2,
        2,
        0,
        0,
    )
    assert [row[:4] for row in stored(database_url).batches] == [
        ("b1", 'RUG, "red"', None, 10),
        ("b2", 'RUG, "red"', "2031-01-31", 5),
    ]
    assert counts(summary(str(batches), "--type=BatchCreated", "--empty-eta", "on-hand", database=database_url)) == (
        2,
        0,
        2,
        0,
    )


def test_bad_csv_rows_are_refused_with_their_line(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "batches.csv"
    path.write_bytes(
        b'ref,sku,qty\nb1,RUG,1\nb2,RUG\nb3,RUG,one\n"b4"x,RUG,1\n\nb5,"two\nlines",1\nb6,\xff,1\nb7,RUG,7\n'
    )
    found = summary(str(path), "--type=BatchCreated", database=sqlite_url, code=5)
    told = [json.loads(each) for each in Path(found["refused_file"]).read_text().splitlines()]
    assert [(each["line"], each["reason"]) for each in told] == [
        (3, "2 cells under a header of 3"),
        (4, 'qty is "one"'),
        (5, "Not valid CSV: ',' expected after '\"'"),
        (7, r"sku is 'two\nlines'"),
        (9, r"sku is '\udcff'"),
    ]
    assert [row[0] for row in stored(sqlite_url).batches] == ["b1", "b7"]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("ref,sku,quantity", "names 'quantity'"),
        ("ref,sku", "does not name 'qty'"),
        ("ref,sku,qty,qty", "names 'qty' twice"),
        ("ref;sku;qty", "names 'ref;sku;qty'"),
        ("", "does not name 'ref'"),
    ],
)
def test_a_csv_header_that_does_not_fit_is_refused_before_anything_goes_in(
    sqlite_url: str, tmp_path: Path, header: str, told: str
) -> None:
    file = write(tmp_path / "batches.csv", [header, "b1,RUG,1"])
    done = run("import", file, "--type=BatchCreated", database=sqlite_url)
    assert (done.code, done.errors.splitlines()[0]) == (2, f"error: The CSV header {told}")
    assert stored(sqlite_url).batches == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.jsonl"], "none.jsonl: there is no such file"),
        (["."], ". is a folder"),
        (["events.csv"], "events.csv does not say which event its rows are"),
        (["events.csv", "--type=Nothing"], 'Unknown event type "Nothing"'),
        (["events.csv", "--type=Allocated"], 'Unknown event type "Allocated"'),
        (["events.jsonl", "--refused=events.jsonl"], "events.jsonl would be overwritten with refused lines"),
        ([], "Missing argument 'FILE...'"),
    ],
)
def test_what_cannot_be_imported_is_told_first(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "events.csv", ["ref,sku,qty"])
    write(tmp_path / "events.jsonl", [BATCH])
    done = run("import", *arguments, database=sqlite_url)
    assert (done.code, done.errors.splitlines()[0]) == (2, f"error: {told}")
    assert (tmp_path / "events.jsonl").read_text() == f"{BATCH}\n"


def test_a_database_that_is_down_stops_the_import(tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", [BATCH])
    done = run("import", file, database="postgresql://nobody@127.0.0.1:1/none")
    assert (done.code, done.output) == (75, "")


def test_an_import_that_was_killed_is_completed_by_the_next(database_url: str, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    sold = sample.lines(count=30_000, products=300)
    count = plan.write(events, plan.events(sold))
    killed = _kill_midway(events, database_url)
    assert 0 < killed < count
    found = summary(str(events), database=database_url)
    assert (found["lines"], found["refused"]) == (count, 0)
    assert found["repeated"] >= killed
    assert found["taken"] + found["repeated"] == count
    assert _messages(database_url) == count
    kept = stored(database_url)
    assert {(row[0], row[1]): row[2] for row in kept.lines} == {(each.orderid, each.sku): each.qty for each in sold}
    held: dict[str, int] = {}
    for _, _, qty, batchref, *_ in kept.lines:
        if batchref is not None:
            held[batchref] = held.get(batchref, 0) + qty
    assert {row[0]: row[4] for row in kept.batches if row[4]} == held


def _kill_midway(events: Path, url: str) -> int:
    """Kill an import as soon as it has committed something; return how many messages that is."""
    command = [*PROGRAM, "import", str(events), f"--database={url}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as importing:
        wait_until(lambda: _messages(url) >= 5_000 or importing.poll() is not None)
        importing.send_signal(signal.SIGKILL)
    return _messages(url)


def _messages(url: str) -> int:
    rows = asyncio.run(select(make_url(url), "SELECT count(*) FROM ledger WHERE step = 0"))
    return int(rows[0][0])


def test_ctrl_c_ends_an_import_between_two_groups(sqlite_url: str, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    count = plan.write(events, plan.events(sample.lines(count=30_000, products=300)))
    with subprocess.Popen(
        [*PROGRAM, "import", str(events), f"--database={sqlite_url}"], stderr=subprocess.PIPE, text=True
    ) as importing:
        wait_until(lambda: _messages(sqlite_url) >= 3_000 or importing.poll() is not None)
        importing.send_signal(signal.SIGINT)
        assert importing.stderr is not None
        errors = importing.stderr.read()
    assert (importing.returncode, "Traceback" in errors) == (130, False)
    assert 3_000 <= _messages(sqlite_url) < count
    assert counts(summary(str(events), database=sqlite_url))[0] == count


def test_a_year_of_a_shop_in_small(tmp_path: Path) -> None:
    """`make journey` on a made-up sample: the events of the seed's stories by the thousand, and the books balance."""
    events = tmp_path / "events.jsonl"
    assert 1_800 < plan.write(events, plan.events(sample.lines())) < 2_600
    done = _play(events, tmp_path / "journey.db")
    assert done.code == 0, done
    assert "NO" not in done.output
    assert "moved to another batch" in done.output
    database = tmp_path / "journey.db"
    assert counts(summary(str(events), database=f"sqlite:///{database}"))[1] == 0


def test_books_that_do_not_balance_are_noticed(tmp_path: Path) -> None:
    """Each check of the journey sees what it looks for."""
    events = tmp_path / "events.jsonl"
    plan.write(events, plan.events(sample.lines()))
    url = f"sqlite:///{tmp_path / 'journey.db'}"
    summary(str(events), database=url)
    damages = [
        "UPDATE batches SET allocated_quantity = allocated_quantity - 1 WHERE allocated_quantity > 0",
        "UPDATE order_lines SET batchref = 'none' WHERE batchref IS NOT NULL",
        "UPDATE order_lines SET batchref = NULL WHERE batchref IS NOT NULL",
        "DELETE FROM order_lines WHERE batchref IS NULL",
        "UPDATE order_lines SET qty = qty + 1",
        "UPDATE ledger SET facts = NULL WHERE facts LIKE '%\"Allocated\"%'",
    ]
    noticed = {check for damage in damages for check in _wrong_after(damage, tmp_path / "journey.db", events)}
    assert noticed | {"no batch is oversold"} == {*books.CHECKS, books.FILES_CHECK}  # which the schema makes impossible


def _wrong_after(damage: str, database: Path, events: Path) -> set[str]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        assert all(check.wrong == 0 for check in books.checks(connection, [events]))
        connection.execute("BEGIN")
        connection.execute(damage)
        wrong = {check.name for check in books.checks(connection, [events]) if check.wrong}
        connection.execute("ROLLBACK")
    return wrong


def _play(events: Path, database: Path) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "journey.play", str(events), "--database", str(database)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        cwd=Path(books.__file__).parents[1],
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_an_empty_eta_in_a_file_that_has_etas_is_asked_about(sqlite_url: str, tmp_path: Path) -> None:
    rows = ["ref,sku,qty,eta,eta_unknown", "b1,RUG,1,,", "b2,RUG,1,2030-01-31,", "b3,RUG,1,,true", "b4,RUG,1, ,false"]
    file, about = write(tmp_path / "batches.csv", rows), ("--type", "BatchCreated")
    found = summary(file, *about, database=sqlite_url, code=5)
    assert counts(found) == (4, 3, 0, 1)
    told = json.loads(Path(found["refused_file"]).read_text())
    assert (told["line"], told["reason"]) == (2, "The row has no ETA, and other rows of the file have one")
    assert "--empty-eta" in told["cure"]
    assert counts(summary(file, *about, "--empty-eta", "unknown", database=sqlite_url)) == (4, 1, 3, 0)
    rows_stored = asyncio.run(select(make_url(sqlite_url), "SELECT ref, eta FROM batches"))
    assert dict(rows_stored) == {"b1": "9999-12-31", "b2": "2030-01-31", "b3": "9999-12-31", "b4": None}


@pytest.mark.parametrize("rows", [["b1,RUG,1,", "b2,RUG,1,"], []])
def test_empty_etas_of_a_file_without_any_are_stock_in_the_warehouse(
    sqlite_url: str, tmp_path: Path, rows: list[str]
) -> None:
    file = write(tmp_path / "batches.csv", ["ref,sku,qty,eta", *rows])
    assert counts(summary(file, "--type", "BatchCreated", database=sqlite_url)) == (len(rows), len(rows), 0, 0)


def test_an_empty_eta_can_be_said_to_be_in_the_warehouse(sqlite_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "batches.csv", ["ref,sku,qty,eta", "b1,RUG,1,", "b2,RUG,1,2030-01-31"])
    assert counts(summary(file, "--type", "BatchCreated", "--empty-eta", "on-hand", database=sqlite_url)) == (
        2,
        2,
        0,
        0,
    )
    assert asyncio.run(select(make_url(sqlite_url), "SELECT eta FROM batches WHERE ref = 'b1'")) == [(None,)]
    text = b"ref,sku,qty,eta\nb3,RUG,1,\nb4,RUG,1,2030-01-31\n"
    assert counts(summary("-", "--type", "BatchCreated", database=sqlite_url, code=5, given=text)) == (2, 1, 0, 1)

"""The command line: what it prints, how it ends, and how it talks to people who err."""

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

import allocation
from allocation.domain.events import AllocationRequired, BatchCreated, BatchQuantityChanged
from allocation.entrypoints.cli.exits import EXIT_CODES, UNKNOWN
from allocation.entrypoints.cli.groups import GROUPS
from allocation.entrypoints.intake.texts import event_from_texts
from allocation.entrypoints.refusals import EXIT_UNKNOWN, KINDS
from allocation.service_layer.handlers import HANDLERS
from allocation.service_layer.messages import field_rules
from tests.e2e.program import PROGRAM, TIMEOUT_S, Done, given, run, run_program

START_LIMIT_S = 2.0  # on a busy machine; alone it is a fifth of that


def answer_of(done: Done) -> Any:
    assert done.code == 0, done.errors
    return json.loads(done.output)


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_lists_every_command_and_exit_code(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.errors) == (0, "")
    for command in ("serve", "import", "export", "show", "webhooks", "migrate", "flow", "demo", "version"):
        assert f" {command} " in done.output
    for code, meaning in EXIT_CODES.items():
        assert f"{code}  {meaning}" in done.output


def test_help_groups_the_commands_by_the_things_that_people_do() -> None:
    groups = re.findall(r"^╭─ (\w+) ", run("--help").output, re.MULTILINE)
    assert groups == ["Options", *GROUPS]


def test_every_refusal_ends_with_a_documented_exit_code() -> None:
    assert {kind.exit_code for kind in KINDS} <= EXIT_CODES.keys()
    assert UNKNOWN == EXIT_UNKNOWN


def test_every_event_from_outside_has_a_command_with_an_option_for_each_field() -> None:
    for event, handlers in HANDLERS.items():
        if not handlers:
            continue
        done = run(handlers[0].__name__.replace("_", "-"), "--help")
        assert done.code == 0
        assert (inspect.getdoc(handlers[0]) or "").split()[0] in done.output
        told = " ".join(done.output.replace("│", " ").split())
        for rule in field_rules(event):
            assert f"--{rule.name.replace('_', '-')} " in done.output
            assert (rule.meaning if rule.base is bool else f"{rule.meaning} ({rule.shape})") in told
        assert not re.search(r"--\w+_", done.output)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "ÜMLAUT 雪"],
        ["show", "nothing"],
        ["allocate", "--orderid=o1", "--sku=ÜMLAUT 雪", "--qty=3", "--preview", "--json"],
        ["allocate", "--orderid=o1"],
        ["import", "-", "--preview"],
        ["verify", "--json"],
    ],
    ids=" ".join,
)
def test_a_command_says_in_a_process_of_its_own_what_it_says_in_this_one(sqlite_url: str, arguments: list[str]) -> None:
    """Most tests of the command line start no process."""
    given(sqlite_url, BatchCreated("b1", "ÜMLAUT 雪", 10))
    line = b'{"type":"BatchCreated","ref":"b2","sku":"RUG","qty":1}\n'
    inside, outside = (
        start(*arguments, database=sqlite_url, given=line, ALLOCATION_ACTOR="anna") for start in (run, run_program)
    )
    assert without_times(inside) == without_times(outside)
    assert outside.output or outside.errors


def without_times(done: Done) -> Done:
    return done._replace(output=re.sub(r"[\d.,]+ (s|lines/s)|\"seconds\":[\d.]+", "TIME", done.output))


def test_starts_without_loading_what_a_command_does_not_need() -> None:
    program = (
        "import sys; from allocation.entrypoints.cli.app import app; app(['version'], standalone_mode=False);"
        "heavy = {'alembic', 'asyncpg', 'pydantic', 'rich', 'sqlalchemy', 'starlette', 'structlog', 'uvicorn'};"
        "print(*heavy & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.splitlines() == [f"allocation {allocation.__version__}", ""]


def test_help_is_quick() -> None:
    started = time.perf_counter()
    run_program("--help")
    assert time.perf_counter() - started < START_LIMIT_S


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_tells_its_version(arguments: list[str]) -> None:
    assert run(*arguments).output == f"allocation {allocation.__version__}\n"


def test_a_batch_an_order_and_a_recount(database_url: str) -> None:
    """S1 of the seed, on the command line."""
    added = answer_of(run("add-batch", "--ref=b1", "--sku=MATTRESS", "--qty=10", "--json", database=database_url))
    assert added["answer"] == {"batchref": "b1"}
    given(database_url, BatchCreated("b2", "MATTRESS", 5, date(2031, 1, 31)))
    line = answer_of(run("allocate", "--orderid=o1", "--sku=MATTRESS", "--qty=4", "--json", database=database_url))
    assert line["answer"] == {"batchref": "b1"}
    assert [event["type"] for event in line["raised"]] == ["Allocated"]
    recount = answer_of(run("change-batch-quantity", "--ref=b1", "--qty=3", "--json", database=database_url))
    assert recount["answer"]["moved"] == [{"orderid": "o1", "sku": "MATTRESS", "qty": 4, "from": "b1", "to": "b2"}]
    raised = ["Deallocated", "AllocationRequired", "Allocated", "PromiseChanged"]
    assert [event["type"] for event in recount["raised"]] == raised


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--split --qty=6", 2),
        ("--qty=6 --split", 2),
        ("--split true --qty=6", 2),
        ("--split=true --qty=6", 2),
        ("--split=yes --qty=6", 2),
        ("--split false --qty=6", 0),
        ("--split=false --qty=6", 0),
        ("--qty=6", 0),
    ],
)
def test_a_switch_needs_no_value(options: str, parts: int, sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("b1", "RUG", 4), BatchCreated("b2", "RUG", 4))
    line = answer_of(run("allocate", "--orderid=o1", "--sku=RUG", *options.split(), "--json", database=sqlite_url))
    assert len(line["answer"].get("parts", [])) == parts


def test_a_value_that_looks_like_a_switch_is_a_value(sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("b1", "RUG", 4))
    held = ("quarantine-batch", "--ref=b1", "--reason", "--keep-lines")
    assert run(*held, "--json", database=sqlite_url).code == 0
    assert "--keep-lines" in run("show", "b1", database=sqlite_url).output


@pytest.mark.parametrize("name", ["--need-by", "--need_by"])
def test_an_option_may_be_spelled_as_its_field_is(name: str, sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("b1", "RUG", 4))
    run("allocate", "--orderid=o1", "--sku=RUG", "--qty=1", name, "2035-01-31", "--json", database=sqlite_url)
    (line,) = answer_of(run("show", "o1", "--json", database=sqlite_url))["order"]
    assert line["need_by"] == "2035-01-31"


def test_the_answer_can_be_read(sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("b1", "RUG", 1))
    assert run("allocate", "--orderid=o1", "--sku=RUG", "--qty=1", database=sqlite_url).output.splitlines() == [
        "batchref: b1",
        "It set off:",
        "  Allocated: orderid o1, sku RUG, qty 1, batchref b1",
    ]
    assert "batchref: none" in run("allocate", "--orderid=o2", "--sku=RUG", "--qty=1", database=sqlite_url).output


def test_under_one_key_nothing_is_done_twice(database_url: str) -> None:
    given(database_url, BatchCreated("b1", "RUG", 10))
    recount = ["change-batch-quantity", "--ref=b1", "--key=monday"]
    first = answer_of(run(*recount, "--qty=4", "--json", database=database_url))
    given(database_url, BatchQuantityChanged("b1", 7))
    again = answer_of(run(*recount, "--qty=4", "--json", database=database_url))
    assert (first["id"], first["repeated"]) == ("monday", False)
    assert again == {**first, "repeated": True}
    assert answer_of(run("show", "b1", "--json", database=database_url))["batch"]["purchased_quantity"] == 7
    other = run(*recount, "--qty=5", database=database_url)
    assert (other.code, other.errors.splitlines()[0]) == (
        4,
        "error: Idempotency key monday belongs to a different request",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message", "cure"),
    [
        (["allocate", "--orderid=o", "--sku=NONE", "--qty=1"], 2, "Invalid sku NONE", "Add a batch of it first."),
        (["allocate", "--orderid=o", "--sku=S", "--qty=0"], 2, "qty is 0", "qty takes a whole number from 1 to"),
        (["allocate", "--orderid=o", "--sku=S", "--qty=-1"], 2, "qty is -1", "qty takes a whole number from 1 to"),
        (["allocate", "--orderid=o", "--sku=S", "--qty=1.5"], 2, 'qty is "1.5"', "qty takes a whole number from 1 to"),
        (["allocate", "--orderid=o", "--sku=S", "--qty=1_0"], 2, 'qty is "1_0"', "qty takes a whole number from 1 to"),
        (["allocate", "--orderid=o", "--sku=S", f"--qty={'9' * 5000}"], 2, 'qty is "999', "qty takes a whole number"),
        (["allocate", "--orderid=", "--sku=S", "--qty=1"], 2, 'orderid is ""', "orderid takes 1 to 255 printable"),
        (["allocate", "--orderid=o\n", "--sku=S", "--qty=1"], 2, r"orderid is 'o\n'", "orderid takes 1 to 255"),
        (["allocate", f"--orderid={'x' * 256}", "--sku=S", "--qty=1"], 2, 'orderid is "xxx', "orderid takes 1 to 255"),
        (["allocate", "--sku=S", "--qty=1"], 2, "Missing option '--orderid'", "--help"),
        (["allocate", "--orderid=o", "--sku=S", "--qty=1", "--key=a~b"], 2, 'Idempotency key "a~b"', "Use 1 to 255"),
        (["add-batch", "--ref=b", "--sku=S", "--qty=1", "--eta=soon"], 2, 'eta is "soon"', "eta takes a date such as"),
        (["change-batch-quantity", "--ref=none", "--qty=1"], 3, "Unknown batch none", "Check the reference"),
        (["show", "nothing"], 3, "nothing: unknown", "No product, batch or order has this name"),
        (["sell"], 2, "No such command 'sell'", "--help"),
        (["serve", "--port=70000"], 2, "Invalid value for '--port'", "--help"),
        (["export", "dreams"], 2, "Invalid value for", "--help"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_input_is_told_in_two_lines(
    sqlite_url: str, arguments: list[str], code: int, message: str, cure: str
) -> None:
    done = run(*arguments, database=sqlite_url)
    lines = done.errors.splitlines()
    assert (done.code, done.output, len(lines)) == (code, "", 2), done
    assert lines[0].startswith(f"error: {message}")
    assert cure in lines[1]


def test_conflicts_have_an_exit_code_of_their_own(sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("b1", "RUG", 10), AllocationRequired("o1", "RUG", 1))
    assert run("add-batch", "--ref=b1", "--sku=RUG", "--qty=11", database=sqlite_url).code == 4
    assert run("allocate", "--orderid=o1", "--sku=RUG", "--qty=2", database=sqlite_url).code == 4


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "mysql://u@h/d", "sqlite:///:memory:", ""])
def test_what_is_no_database_is_refused(url: str) -> None:
    done = run("migrate", database=url)
    assert (done.code, done.errors) == (
        2,
        f"error: {url!r} is not a database URL: use sqlite:///file.db or postgresql://user@host:5432/name\n",
    )


def test_a_database_that_is_down_is_unavailable() -> None:
    done = run("allocate", "--orderid=o", "--sku=S", "--qty=1", database="postgresql://nobody@127.0.0.1:1/none")
    assert done.code == 75
    assert done.errors.startswith("error: Cannot use the database postgresql")
    assert "Traceback" not in done.errors


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("This is no database, but it is long enough to be taken for one.\n" * 100)
    done = run("show", "x", database=f"sqlite:///{path}")
    assert done.code == 75
    assert "file is not a database" in done.errors
    assert "Traceback" not in done.errors


def test_reading_creates_no_database(tmp_path: Path) -> None:
    done = run("show", "x", database=f"sqlite:///{tmp_path / 'typo.db'}")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert "there is no such database" in done.errors


def test_the_environment_names_the_database_and_an_option_another_one(tmp_path: Path) -> None:
    named, given = tmp_path / "named.db", tmp_path / "given.db"
    url = f"sqlite:///{named}"
    assert run("migrate", ALLOCATION_DATABASE_URL=url).code == 0
    assert run("migrate", f"--database=sqlite:///{given}", ALLOCATION_DATABASE_URL=url).code == 0
    assert (named.exists(), given.exists()) == (True, True)


def test_a_wrong_setting_is_told(sqlite_url: str) -> None:
    done = run("migrate", database=sqlite_url, ALLOCATION_SMTP_PORT="many")
    assert (done.code, done.errors) == (2, "error: ALLOCATION_SMTP_PORT is 'many': use a whole number\n")


def test_migrate_tells_from_where_to_where(new_database_url: str) -> None:
    first, second = run("migrate", database=new_database_url), run("migrate", database=new_database_url)
    assert (first.code, second.code) == (0, 0)
    assert ": empty → " in first.output
    assert ": up to date at " in second.output


def test_shows_products_orders_and_batches(database_url: str) -> None:
    given(
        database_url,
        BatchCreated("first", "RUG", 3),
        BatchCreated("second", "RUG", 2, date(2031, 1, 31)),
        AllocationRequired("order-1", "RUG", 3),
        AllocationRequired("order-2", "RUG", 9),
    )
    product = run("show", "RUG", database=database_url).output
    for text in ("Product RUG", "first", "in the warehouse", "2031-01-31", "Waiting for RUG: 1", "order-2"):
        assert text in product
    assert "order-1" in run("show", "first", database=database_url).output
    assert "waits" in run("show", "order-2", database=database_url).output


def test_shows_everything_of_an_ambiguous_name(sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("same", "same", 3), AllocationRequired("same", "same", 1))
    output = run("show", "same", database=sqlite_url).output
    for title in ("Product same", "Batch same of same", "Order same"):
        assert title in output
    assert answer_of(run("show", "same", "--json", database=sqlite_url)).keys() == {"product", "batch", "order"}


def test_names_that_look_like_markup_are_shown_as_they_are(sqlite_url: str) -> None:
    name = "[red]:smile:[/nothing]"
    given(sqlite_url, BatchCreated(name, name, 3))
    assert f"Batch {name} of {name}" in run("show", name, database=sqlite_url).output


def test_nothing_is_cut_off_a_long_name(sqlite_url: str) -> None:
    name = "LONG-" * 51
    given(sqlite_url, BatchCreated(name, name, 3))
    assert "".join(run("show", name, database=sqlite_url).output.split()).count("LONG-") >= 4 * 51


def test_flow_prints_mermaid_and_writes_svg(tmp_path: Path) -> None:
    assert run("flow").output.startswith("flowchart LR\n")
    picture = tmp_path / "flow.svg"
    done = run("flow", "--svg", str(picture))
    assert (done.code, done.output, picture.read_text()[:4]) == (0, "", "<svg")
    assert run("flow", "--svg", str(tmp_path / "missing" / "flow.svg")).errors.endswith("No such file or directory\n")


def test_serves_on_a_free_port_that_it_names(sqlite_url: str) -> None:
    command = [*PROGRAM, "serve", "--port=0", f"--database={sqlite_url}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        url = next(said["url"] for line in service.stderr if "url" in (said := json.loads(line)))
        assert httpx.get(f"{url}/healthz", timeout=TIMEOUT_S).status_code == 200
        service.send_signal(signal.SIGINT)
        service.stderr.read()
        assert service.wait(TIMEOUT_S) in {0, 130, -signal.SIGINT}


def test_a_port_in_use_is_told(sqlite_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_program("serve", f"--port={port}", database=sqlite_url)
    assert done.code == 2
    assert done.errors.splitlines()[0].startswith(
        f"error: Cannot listen on 127.0.0.1 port {port}: Address already in use"
    )


def test_events_come_from_texts_as_from_json() -> None:
    kind = next(event for event, handlers in HANDLERS.items() if handlers and handlers[0].__name__ == "add_batch")
    event = event_from_texts(kind, {"ref": "7", "sku": "8", "qty": "9", "eta": ""})
    assert (type(event), event) == (kind, BatchCreated("7", "8", 9))


def test_is_a_module_and_a_script() -> None:
    script = Path(sys.executable).with_name("allocation")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout == run_program("--version").output


@pytest.mark.parametrize(("name", "suffix"), [("", ""), ("anna", ":anna")])
def test_the_ledger_says_who_gave_a_command(sqlite_url: str, tmp_path: Path, name: str, suffix: str) -> None:
    def command(*arguments: str) -> None:
        assert run(*arguments, database=sqlite_url, ALLOCATION_ACTOR=name).code == 0

    lines, rows = tmp_path / "lines.jsonl", tmp_path / "rows.csv"
    lines.write_text('{"type": "BatchCreated", "ref": "b2", "sku": "LAMP", "qty": 1}\n')
    rows.write_text("ref,sku,qty\nb3,LAMP,1\n")
    command("add-batch", "--ref=b1", "--sku=LAMP", "--qty=1")
    command("import", str(lines))
    command("import", str(rows), "--type=BatchCreated")
    exported = run("export", "ledger", "--format=jsonl", database=sqlite_url).output.splitlines()
    actors = [json.loads(line)["actor"] for line in exported]
    assert actors == [f"cli{suffix}", f"import{suffix}", f"import{suffix}"]


def test_a_name_that_cannot_be_one_is_refused(sqlite_url: str) -> None:
    for command in (("add-batch", "--ref=b1", "--sku=LAMP", "--qty=1"), ("import", "-")):
        done = run(*command, database=sqlite_url, ALLOCATION_ACTOR="x" * 101)
        assert (done.code, done.output) == (2, "")
        assert "is not usable" in done.errors

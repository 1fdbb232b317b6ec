"""The sessions in the documentation, typed into a real shell: each must print what the page shows.

A session is a ``console`` block: a line after ``$`` is typed, the lines below are printed, ``…`` stands for anything
within a line. All blocks of a page are one session, in a folder of its own that holds the files the page shows with
``cat``, beside a server whose database is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers import PostgresServer
from tests.services import StartServer

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = "$ "
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if BLOCK.search(page.read_text())
)
POSTGRES_PAGE = "docs/howto/run-on-postgresql.md"
MARK = "@@@ next command @@@"
NEXT = f"code=$?; printf '\\n%s\\n' '{MARK}'; (exit $code)"
SHELL = ("bash", "--noprofile", "--norc")
HAS_CURL = shutil.which("curl") is not None
SESSION_TIMEOUT_S = 300.0
STAND_IN = f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.e2e.curl "$@"\n'


class Step(NamedTuple):
    typed: str
    printed: str


def steps_of(page: str) -> list[Step]:
    steps: list[Step] = []
    for block in BLOCK.findall((ROOT / page).read_text()):
        for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed, _, printed = text.partition("\n")
            steps.append(Step(typed, tidy(printed)))
    return steps


def tidy(text: str) -> str:
    """Without the spaces that fill a table's lines, and without blank lines around."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def run(steps: list[Step], folder: Path, environment: dict[str, str]) -> list[str]:
    """Type all commands into one shell; return what each printed, errors included."""
    script = "".join(f"{step.typed}\n{NEXT}\n" for step in steps)
    finished = subprocess.run(
        SHELL,
        input=f"exec 2>&1\n{script}",
        stdout=subprocess.PIPE,
        env=environment,
        cwd=folder,
        timeout=SESSION_TIMEOUT_S,
        encoding="utf-8",
        check=False,
    )
    return [tidy(printed) for printed in finished.stdout.split(f"\n{MARK}\n")[:-1]]


def matches(shown: str, printed: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in shown.split("…")), printed) is not None


def make_files(steps: list[Step], folder: Path) -> None:
    """The files that the page shows are there from the beginning."""
    for step in steps:
        name = step.typed.removeprefix("cat ")
        if name != step.typed and not name.endswith(".refused.jsonl"):
            (folder / name).write_text(f"{step.printed}\n")


def play(steps: list[Step], start_server: StartServer, tmp_path: Path, *, has_curl: bool = HAS_CURL) -> None:
    """Run the session beside a server of its own, and compare."""
    folder = tmp_path / "here"
    folder.mkdir()
    make_files(steps, folder)
    server = start_server(ALLOCATION_DATABASE_URL=f"sqlite:///{folder / 'allocation.db'}")
    check(steps, run(steps, folder, environment(tmp_path, server.port, has_curl=has_curl)))
    assert server.errors() == []


def environment(folder: Path, port: int = 0, *, has_curl: bool = HAS_CURL) -> dict[str, str]:
    programs = folder / "programs"
    programs.mkdir()
    (programs / ".curlrc").write_text(f"silent\nshow-error\nconnect-to = 127.0.0.1:8000:127.0.0.1:{port}\n")
    if not has_curl:
        (programs / "curl").write_text(STAND_IN)
        (programs / "curl").chmod(0o755)
    path = f"{programs}:{PROGRAMS}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "FORCE_COLOR"}}
    return {**kept, "PATH": path, "CURL_HOME": str(programs)}


def check(steps: list[Step], printed: list[str]) -> None:
    assert len(printed) == len(steps), f"the shell ended after: {printed[-1:]}"
    for step, answer in zip(steps, printed, strict=True):
        assert matches(step.printed, answer), f"{step.typed}\n--- shown\n{step.printed}\n--- printed\n{answer}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != POSTGRES_PAGE])
def test_a_session_prints_what_the_page_shows(page: str, start_server: StartServer, tmp_path: Path) -> None:
    play(steps_of(page), start_server, tmp_path)


def test_a_machine_without_curl_sees_the_same(start_server: StartServer, tmp_path: Path) -> None:
    event = '{"type": "BatchCreated", "ref": "lamp-1", "sku": "TASTELESS-LAMP", "qty": 20}'
    bulk = "curl --data-binary @lamp.jsonl -H 'Content-Type: application/x-ndjson' http://127.0.0.1:8000/bulk"
    sent = [Step("cat lamp.jsonl", event), Step(bulk, '{"line":1,"status":201,"batchref":"lamp-1"}')]
    play([*sent, *steps_of("docs/howto/retry-safely.md")], start_server, tmp_path, has_curl=False)


def test_the_session_on_postgresql_prints_what_the_page_shows(postgres_server: PostgresServer, tmp_path: Path) -> None:
    postgres_server.create_database("allocation")
    postgres_server.query("CREATE ROLE allocation LOGIN PASSWORD 'secret'")
    postgres_server.query("ALTER DATABASE allocation OWNER TO allocation")
    server = f"127.0.0.1:{postgres_server.port}"
    asked = [Step(*(text.replace("127.0.0.1:5432", server) for text in step)) for step in steps_of(POSTGRES_PAGE)]
    check(asked, run(asked, tmp_path, environment(tmp_path)))


def test_the_readme_has_a_session_with_curl_and_one_with_the_command_line() -> None:
    typed = [step.typed for step in steps_of("README.md")]
    assert {command.split()[0] for command in typed} == {"curl", "allocation"}


def test_a_session_that_prints_something_else_is_noticed(tmp_path: Path) -> None:
    steps = [Step("echo one", "one"), Step("echo two", "…o")]
    printed = run(steps, tmp_path, dict(os.environ))
    check(steps, printed)
    with pytest.raises(AssertionError, match=r"--- printed\n *two"):
        check([steps[0], Step("echo two", "three")], printed)
    with pytest.raises(AssertionError, match="the shell ended"):
        check(steps, printed[:1])

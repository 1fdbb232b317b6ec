"""`make demo`: the two stories of the seed, told by the real service."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.program import PROGRAM, TIMEOUT_S, run_program
from tests.servers import running_processes

MATTRESS = "mattress-shipment"


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo puts its files: other processes may play it at the same time."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def rows(output: str, title: str) -> list[list[str]]:
    """The cells of every table with this title, one table after the other."""
    found = []
    for part in output.split(title)[1:]:
        for text in re.split(r"─ *\n", part, maxsplit=1)[1].split("\n"):
            if not text.strip():
                break
            found.append(re.split(r"\s{2,}", text.strip()))
    return found


def test_tells_both_stories_and_leaves_nothing(temporary_files: Path) -> None:
    """S1 of the seed."""
    done = run_program("demo")
    assert (done.code, done.errors) == (0, "")
    assert rows(done.output, "The lines of SPRINGY-MATTRESS") == [
        ["anna", "4", "mattress-stock", "mattress-stock"],
        ["ben", "3", "mattress-stock", "mattress-stock"],
        ["carla", "2", "mattress-stock", MATTRESS, "moved"],
    ]
    forks = rows(done.output, "The lines of RELIABLE-FORK")
    assert forks[2:4] == [["finn", "2", "fork-customs", "waits", "moved"], ["gina", "3", "waits", "waits"]]
    assert forks[6:] == [
        ["finn", "2", "waits", "fork-express", "moved"],
        ["gina", "3", "waits", "fork-express", "moved"],
    ]
    assert rows(done.output, "Mails, sent after the commit") == [
        ["stock@example.com", "Out of stock for RELIABLE-FORK: 1 order line waits"],
        ["stock@example.com", "Out of stock for RELIABLE-FORK: 2 order lines wait"],
    ]
    assert list(temporary_files.iterdir()) == []


def test_may_run_twice_and_heeds_no_setting_of_the_service() -> None:
    """A demo must not write to somebody's database nor send mails."""
    for _ in range(2):
        done = run_program("demo", ALLOCATION_DATABASE_URL="nonsense", ALLOCATION_SMTP_HOST="mail.invalid")
        assert done.code == 0, done
        assert len(rows(done.output, "Mails, sent after the commit")) == 2  # logged, not sent


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal_it_serves_until_it_is_ended(ending: signal.Signals, temporary_files: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([*PROGRAM, "demo"], stdout=theirs, stderr=theirs, stdin=theirs) as demo:
        os.close(theirs)
        output = _read_until(ours, "Ctrl-C ends it")
        url = re.search(r"http://[\d.]+:\d+", output)
        assert url is not None
        assert httpx.get(f"{url[0]}/allocations/carla").json()[0]["batchref"] == MATTRESS
        children = [child for child, parent in running_processes().items() if parent == demo.pid]
        assert len(children) == 1
        demo.send_signal(ending)
        assert demo.wait(TIMEOUT_S) == 0
    os.close(ours)
    assert not set(children) & running_processes().keys()
    assert list(temporary_files.iterdir()) == []


def _read_until(terminal: int, text: str) -> str:
    """What was printed until the text came."""
    output = b""
    deadline = time.monotonic() + TIMEOUT_S
    while text.encode() not in output:
        readable, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert readable, output.decode()
        output += os.read(terminal, 65_536)
    return output.decode()

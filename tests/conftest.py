"""What every test may ask for: databases that are ready and empty, on real servers, and services that run.

Where `CI` is set, nothing may be skipped: a server that is missing there is a failure.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog

from allocation.adapters import tables
from allocation.adapters.database import parse_url
from allocation.adapters.migrate import migrate
from tests.servers import BINARIES_VARIABLE, PostgresNotFound, PostgresServer
from tests.services import Services

pytest.register_assert_rewrite("allocation.testing")

POSTGRES_DATABASE = "shared"
# Connections that an earlier test left would keep its locks. Tables are quicker to empty than databases to create.
DISCONNECT_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
EMPTY_TABLES = f"TRUNCATE {', '.join(tables.metadata.tables)} RESTART IDENTITY"

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    """Nobody's own settings lead the tests elsewhere, and no terminal decides how wide tables are."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            own = name.startswith("ALLOCATION_") and name != BINARIES_VARIABLE
            if own or name in {"COLUMNS", "LINES", "FORCE_COLOR"}:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_signals() -> None:
    """Ctrl-C reaches the programs under test also where a script runs the tests in its background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Through the standard library, where pytest shows the lines of a failing test; `caplog` has them too."""
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests. Whoever kills or tunes it starts another one."""
    try:
        server = PostgresServer()
    except PostgresNotFound as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def _shared_postgres_url(postgres_server: PostgresServer) -> str:
    url = postgres_server.create_database(POSTGRES_DATABASE)
    migrate(parse_url(url))
    return url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, _shared_postgres_url: str) -> str:
    """A database with our tables, all empty; the same for every test, so none may change its schema."""
    postgres_server.query(f"{DISCONNECT_OTHERS}; {EMPTY_TABLES}", POSTGRES_DATABASE)
    return _shared_postgres_url


@pytest.fixture
def new_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of the test's own without any table."""
    name = f"own_{next(_numbers)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    migrate(parse_url(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """A file with our tables, all empty."""
    return f"sqlite:///{shutil.copy(_sqlite_template, tmp_path / 'allocation.db')}"


@pytest.fixture
def new_sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path / 'new.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The test runs once for each kind of database, with our tables, all empty."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def new_database_url(request: pytest.FixtureRequest) -> str:
    """The test runs once for each kind of database, without any table."""
    url: str = request.getfixturevalue(f"new_{request.param}_url")
    return url


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Running servers, for tests that do not mind each other."""

    def create_postgres_database(name: str) -> str:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return server.create_database(name)

    services = Services(tmp_path_factory.mktemp("services"), create_postgres_database)
    yield services
    services.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{report.longreprtext}\nSkipped although CI is set: install what is missing there."

"""Commands that only read: of a database that is older, newer, or not theirs to write."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from allocation.adapters.migrations import HEAD
from allocation.domain.events import BatchCreated
from tests.e2e.program import given, run
from tests.servers import PostgresServer

OLD_DATABASE = Path(__file__).parents[1] / "frozen/0.1.0/database.frozen"
READER = "allocation_reader"
RIGHTS = f"""
    DROP ROLE IF EXISTS {READER};
    CREATE ROLE {READER} LOGIN;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
"""


def as_reader(url: str) -> str:
    """The URL for somebody who may read all tables and write none."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{READER}@{rest.partition('@')[2]}"


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        found: str = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    return found


def test_an_older_database_is_brought_up_to_date_and_read(tmp_path: Path) -> None:
    path = Path(shutil.copy(OLD_DATABASE, tmp_path / "old.db"))
    assert revision(path) < HEAD
    done = run("show", "SETTEE", database=f"sqlite:///{path}")
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("Product SETTEE")
    assert revision(path) == HEAD


def test_a_database_of_a_newer_version_is_not_read(sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = run("export", "batches", database=sqlite_url)
    assert (done.code, done.output) == (75, "")
    assert "9999" in done.errors
    assert "install the newer version" in done.errors


def test_an_empty_file_has_no_products(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    done = run("show", "SETTEE", database=f"sqlite:///{tmp_path / 'empty.db'}")
    assert (done.code, done.errors.splitlines()[0]) == (3, "error: SETTEE: unknown")


def test_who_may_only_read_needs_no_more_rights(postgres_server: PostgresServer, new_postgres_url: str) -> None:
    given(new_postgres_url, BatchCreated("b1", "SETTEE", 7))
    postgres_server.query(RIGHTS, new_postgres_url.rpartition("/")[2])
    done = run("availability", "SETTEE", database=as_reader(new_postgres_url))
    assert (done.code, done.errors) == (0, "")
    assert "7 available now" in done.output


def test_who_may_only_read_is_told_who_can_bring_an_older_database_up_to_date(
    postgres_server: PostgresServer, new_postgres_url: str
) -> None:
    given(new_postgres_url, BatchCreated("b1", "SETTEE", 7))
    name = new_postgres_url.rpartition("/")[2]
    postgres_server.query(f"{RIGHTS}; UPDATE alembic_version SET version_num = '0006'", name)
    done = run("show", "SETTEE", database=as_reader(new_postgres_url))
    assert done.code == 75
    assert "run allocation migrate as a user who may write to it" in done.errors
    assert "Traceback" not in done.errors
    assert postgres_server.query("SELECT version_num FROM alembic_version", name) == [["0006"]]


def test_a_database_that_cannot_be_reached_is_no_bug() -> None:
    done = run("show", "SETTEE", database="postgresql://nobody@127.0.0.1:1/allocation")
    assert done.code == 75
    assert done.errors.startswith("error: Cannot use the database postgresql+asyncpg://nobody@127.0.0.1:1/allocation")

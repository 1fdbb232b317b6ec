"""Brings an empty or older database up to date when the service starts.

Several processes may start at once: one migrates, the others wait for it. A database that is up to date is left
alone after one look, without loading Alembic. There is no way down: restore a backup instead.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from allocation.adapters.database import is_sqlite, postgres_engine, sqlite_engine
from allocation.adapters.migrations import HEAD
from allocation.service_layer.writing.store import StoreUnavailable

LOCK_KEY = 2_716_057  # of PostgreSQL's advisory lock while migrating
MIGRATIONS = Path(__file__).with_name("migrations")


class DatabaseTooNew(Exception):
    """The database was migrated by a newer version of this program, and only that version can read it."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"The database is at revision {found}, but this version of allocation knows none after {HEAD}:"
            " install the newer version that migrated it, or restore a backup made before."
        )


def migrate(url: URL) -> tuple[str | None, str]:
    """Bring the database up to date; return the revision it had (None: it was empty) and the one it has.

    Blocks, and may be called with or without an event loop running. Raises `StoreUnavailable` or `DatabaseTooNew`.
    """
    try:
        if is_sqlite(url):
            return _migrate_sqlite(url), HEAD
        with ThreadPoolExecutor(1, thread_name_prefix="migrate") as thread:  # which has no event loop yet
            return thread.submit(asyncio.run, _migrate_postgres(url)).result(), HEAD
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise StoreUnavailable(
            f"Cannot use the database {url.render_as_string(hide_password=True)}: {_said(reason)}."
            " Check its URL, that it can be reached and that it may be written."
        ) from error


def _migrate_sqlite(url: URL) -> str | None:
    engine = sqlite_engine(url)
    try:
        with engine.begin() as connection:
            if (found := _revision(connection)) != HEAD:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                found = _upgrade(connection)
            return found
    finally:
        engine.dispose()


async def _migrate_postgres(url: URL) -> str | None:
    engine = postgres_engine(url)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(_revision)
        if found != HEAD:
            in_a_transaction = engine.execution_options(isolation_level="READ COMMITTED")
            async with in_a_transaction.begin() as connection:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
                found = await connection.run_sync(_upgrade)
        return found
    finally:
        await engine.dispose()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is not None and found > HEAD:
        raise DatabaseTooNew(found)
    return found


def _upgrade(connection: Connection) -> str | None:
    """Run the revisions that are missing, inside the transaction under way; somebody else may have been faster."""
    found = _revision(connection)
    if found == HEAD:
        return found
    from alembic import command  # noqa: PLC0415 - takes longer to load than everything else that a start needs
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, HEAD)
    return found


def _said(error: BaseException | None) -> str:
    return str(error) or type(error).__name__

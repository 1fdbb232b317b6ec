"""Engines: which database a URL means, and how a connection to it is set up."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 10
READERS = 4
SQLITE_CACHE_KIB = 64 * 1024
# With these settings PostgreSQL finds rows by an index, in its order, if there is a suitable one.
BY_INDEX = dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"), "off")


class InvalidDatabaseUrl(ValueError):
    """The URL names no database that this service can use."""


def parse_url(text: str) -> URL:
    """The URL with the driver used here: ``sqlite:///file.db`` or ``postgresql://user@host/name``."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise InvalidDatabaseUrl(_refusal(text)) from None
    backend = url.drivername.partition("+")[0]
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite")
    if backend in {"postgresql", "postgres"} and url.database:
        return url.set(drivername="postgresql+asyncpg")
    raise InvalidDatabaseUrl(_refusal(text))


def _refusal(text: str) -> str:
    return f"{text!r} is not a database URL: use sqlite:///file.db or postgresql://user@host:5432/name"


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def sqlite_engine(url: URL, *, read_only: bool = False) -> Engine:
    """Connections in WAL mode that lose no commit when the power fails (``synchronous=FULL``), one thread at a time.

    The user of the connection begins transactions, not the driver.
    """
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": LOCK_TIMEOUT_S},
        pool_size=READERS if read_only else 1,
        max_overflow=0,
    )

    def set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{SQLITE_CACHE_KIB}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    event.listen(engine, "connect", set_up)
    return engine


def postgres_engine(
    url: URL,
    *,
    read_only: bool = False,
    plan: Literal["once", "each time"] | None = None,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
) -> AsyncEngine:
    """Connections to PostgreSQL. With a ``plan`` they have no pool, and statements read by index, in its order.

    Otherwise a statement planned while the tables were empty or small would still read whole tables after they have
    grown, or a whole backlog for its first page. Planning once saves the cost of planning; it needs statements that
    only the right index can serve.
    """
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - loads the ORM, which SQLite never needs

    settings = {"application_name": "allocation", "jit": "off", "lock_timeout": f"{LOCK_TIMEOUT_S}s"}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    if plan is not None:
        settings |= BY_INDEX | {"plan_cache_mode": "force_generic_plan" if plan == "once" else "force_custom_plan"}
    # No overflow: additional connections would be opened for each use, at the price of many reads.
    shared = {"pool_size": READERS, "max_overflow": 0, "pool_pre_ping": True}
    pool: dict[str, Any] = {"poolclass": NullPool} if plan else shared
    return create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": command_timeout_s,
            "server_settings": settings,
        },
        **pool,
    )

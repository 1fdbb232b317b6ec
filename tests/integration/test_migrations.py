"""Databases are brought up to date at start: from nothing, once, by one process, to what `tables` says."""

from __future__ import annotations

import asyncio
import functools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from allocation.adapters import migrate as migrate_module
from allocation.adapters import tables
from allocation.adapters.database import is_sqlite, parse_url, postgres_engine, sqlite_engine
from allocation.adapters.migrate import MIGRATIONS, DatabaseTooNew, migrate
from allocation.adapters.migrations import HEAD
from allocation.adapters.outbox import Outbox
from allocation.domain.errors import NothingDue
from allocation.domain.events import BatchCounted, BatchReceived, ReceiptUndone
from allocation.service_layer.delivering.effects import Delivery
from allocation.service_layer.delivering.leases import PARTITIONS
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.store import StoreUnavailable
from allocation.service_layer.writing.writer import Writer
from tests.builders import handle_together, message
from tests.integration.test_promises import kept_at, work_at
from tests.servers import PostgresServer

T = TypeVar("T")

STARTS_AT_ONCE = 6

MIGRATE = """
import sys
from allocation.adapters.database import parse_url
from allocation.adapters.migrate import migrate
url = parse_url(sys.argv[1])
"""

# Everything that PostgreSQL knows of our tables, in words that are the same wherever they came from.
POSTGRES_SCHEMA = {
    "tables": (
        "SELECT relname, reloptions::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ),
    "columns": (
        "SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,"
        " attgenerated, pg_get_expr(adbin, adrelid) FROM pg_attribute"
        " JOIN pg_class ON pg_class.oid = attrelid AND relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attnum > 0"
    ),
    "constraints": (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
    ),
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
}


@pytest.fixture
def url(new_database_url: str) -> URL:
    return parse_url(new_database_url)


@pytest.fixture
def twin_url(url: URL, postgres_server_if_needed: PostgresServer | None) -> Iterator[URL]:
    """A second database of the same kind, without any table."""
    if postgres_server_if_needed is None:
        yield url.set(database=f"{url.database}.twin")
        return
    yield parse_url(postgres_server_if_needed.create_database("twin"))
    postgres_server_if_needed.drop_database("twin")


@pytest.fixture
def postgres_server_if_needed(url: URL, request: pytest.FixtureRequest) -> PostgresServer | None:
    return None if is_sqlite(url) else request.getfixturevalue("postgres_server")


def test_an_empty_database_gets_our_tables(url: URL) -> None:
    assert migrate(url) == (None, HEAD)
    assert on(url, lambda connection: {*sa.inspect(connection).get_table_names()}) == {
        *tables.metadata.tables,
        "alembic_version",
    }


def test_a_second_time_changes_nothing(url: URL) -> None:
    migrate(url)
    before = on(url, schema)
    on(url, lambda connection: connection.execute(sa.insert(tables.products).values(PRODUCT)))
    assert migrate(url) == (HEAD, HEAD)
    assert on(url, schema) == before
    assert on(url, lambda connection: connection.scalar(sa.select(tables.products.c.sku))) == "CHAIR"


PRODUCT = {"sku": "CHAIR", "version_number": 1, "waiting_lines": 0}


def test_migrations_and_tables_agree(url: URL, twin_url: URL) -> None:
    migrate(url)
    on(twin_url, tables.metadata.create_all)
    assert on(url, schema) == on(twin_url, schema)
    assert on(url, differences) == []


def without_check(copy: sa.MetaData) -> None:
    products = copy.tables["products"]
    products.constraints = {each for each in products.constraints if not isinstance(each, sa.CheckConstraint)}


def stored_otherwise(copy: sa.MetaData) -> None:
    options = copy.tables["products"].dialect_options
    options["sqlite"]["with_rowid"] = True
    options["postgresql"]["with"] = {"fillfactor": 71}


def with_a_whole_index(copy: sa.MetaData) -> None:
    for index in copy.tables["batches"].indexes:
        index.dialect_options["sqlite"]["where"] = index.dialect_options["postgresql"]["where"] = None


@pytest.mark.parametrize("change", [without_check, stored_otherwise, with_a_whole_index])
def test_the_comparison_sees_what_alembic_does_not(
    url: URL, twin_url: URL, change: Callable[[sa.MetaData], None]
) -> None:
    migrate(url)
    copy = sa.MetaData()
    for table in tables.metadata.sorted_tables:
        table.to_metadata(copy)
    change(copy)
    on(twin_url, copy.create_all)
    assert on(twin_url, differences) == []
    assert on(twin_url, schema) != on(url, schema)


def test_the_head_that_is_named_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_up_to_date_is_not_looked_at_with_alembic(url: URL) -> None:
    migrate(url)
    program = f"{MIGRATE}print(migrate(url)[0], 'alembic' in sys.modules)"
    assert python(program, url).communicate(timeout=30)[0].split() == [HEAD, "False"]


def test_several_processes_may_start_at_once(url: URL) -> None:
    together = "import alembic.command; print('ready', flush=True); sys.stdin.readline()"
    program = f"{MIGRATE}{together}; print(migrate(url)[0])"
    starts = [python(program, url) for _ in range(STARTS_AT_ONCE)]
    for start in starts:
        assert start.stdout is not None
        assert start.stdout.readline() == "ready\n"
    for start in starts:
        assert start.stdin is not None
        start.stdin.write("go\n")
        start.stdin.flush()
    answers = sorted(start.communicate(timeout=30)[0].strip() for start in starts)
    assert answers == [HEAD] * (STARTS_AT_ONCE - 1) + ["None"]


def test_a_migration_that_fails_leaves_nothing(url: URL) -> None:
    on(url, lambda connection: connection.execute(sa.text("CREATE TABLE deliveries (number INTEGER)")))
    with pytest.raises(StoreUnavailable, match=r"deliveries.*already exists"):
        migrate(url)
    assert on(url, lambda connection: sa.inspect(connection).get_table_names()) == ["deliveries"]


def test_migrates_while_an_event_loop_runs(url: URL) -> None:
    async def start() -> tuple[str | None, str]:
        return migrate(url)

    assert asyncio.run(start()) == (None, HEAD)


def test_a_newer_database_is_refused_with_the_cure(url: URL) -> None:
    migrate(url)
    on(url, lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(DatabaseTooNew, match=rf"9999.*none after {HEAD}.*install the newer version"):
        migrate(url)


def test_an_older_revision_is_brought_up_to_date(url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is one revision yet: a second one, in a copy of the folder, goes the way that later ones will."""
    migrate(url)
    folder = tmp_path / "100% of the migrations"
    (folder / "versions").mkdir(parents=True)
    for source in [MIGRATIONS / "env.py", *MIGRATIONS.glob("versions/*.py")]:
        (folder / source.relative_to(MIGRATIONS)).write_text(source.read_text())
    (folder / "versions" / "r9998.py").write_text(
        f"from alembic import op\nimport sqlalchemy as sa\nrevision = '9998'\ndown_revision = '{HEAD}'\n"
        "def upgrade():\n    op.add_column('products', sa.Column('colour', sa.Text))\n"
    )
    monkeypatch.setattr(migrate_module, "MIGRATIONS", folder)
    monkeypatch.setattr(migrate_module, "HEAD", "9998")
    assert migrate(url) == (HEAD, "9998")
    assert migrate(url) == ("9998", "9998")
    assert "colour" in on(
        url, lambda connection: {each["name"] for each in sa.inspect(connection).get_columns("products")}
    )


def test_deliveries_of_an_older_revision_stay_pending(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = (
        "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body)"
        " VALUES ('m1', 0, 'mail', 'CHAIR', 'OutOfStock', '{}'), ('m2', 3, 'mail', 'TABLE', 'OutOfStock', '{}')"
    )
    migrate_with(url, "0002", [insert], monkeypatch)
    query = sa.text("SELECT number, correlation_id, step, effect, sku, state, attempts FROM deliveries ORDER BY number")
    assert [tuple(row) for row in on(url, lambda connection: connection.execute(query).all())] == [
        (1, "m1", 0, "mail", "CHAIR", "pending", 0),
        (2, "m2", 3, "mail", "TABLE", "pending", 0),
    ]
    outbox = Outbox(url)
    assert [each.correlation_id for each in asyncio.run(due(outbox))] == ["m1", "m2"]


def test_lines_of_an_older_revision_stay_whole(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = (
        "INSERT INTO order_lines (orderid, sku, qty, batchref, position, closed)"
        " VALUES ('o1', 'CHAIR', 3, NULL, 1, NULL), ('o1/2', 'CHAIR', 2, NULL, 2, 'cancelled')"
    )
    migrate_with(url, "0005", [insert], monkeypatch)
    query = sa.text("SELECT orderid, qty, batchref, closed, part, rest FROM order_lines ORDER BY orderid")
    assert [tuple(row) for row in on(url, lambda connection: connection.execute(query).all())] == [
        ("o1", 3, None, None, None, None),
        ("o1/2", 2, None, "cancelled", None, None),
    ]


def test_closed_lines_of_an_older_revision_were_closed_when_last_spoken_of(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        "INSERT INTO order_lines (orderid, sku, qty, batchref, position, closed)"
        " VALUES ('o1', 'CHAIR', 4, 'b1', 2, 'shipped'), ('o2', 'CHAIR', 1, NULL, 3, NULL)"
    )
    told = [
        f"('m{number}', 0, 'AllocationRequired', 'CHAIR', '{orderid}', '{{}}', 'test', '2026-01-{day}T12:00:00+00:00')"
        for number, (orderid, day) in enumerate([("o1", 10), ("o1", 12), ("o2", 14)])
    ]
    columns = "correlation_id, step, type, sku, orderid, body, actor, recorded_at"
    ledger = f"INSERT INTO ledger ({columns}) VALUES {', '.join(told)}"
    migrate_with(url, "0005", [lines, ledger], monkeypatch)
    kept = tables.order_lines.c
    query = sa.select(kept.orderid, kept.qty, kept.batchref, kept.position, kept.closed, kept.closed_at)
    rows = on(url, lambda connection: connection.execute(query.order_by(kept.orderid)).all())
    assert [tuple(row) for row in rows] == [
        ("o1", 4, "b1", 2, "shipped", datetime(2026, 1, 12, 12, tzinfo=UTC)),
        ("o2", 1, None, 3, None, None),
    ]


def test_a_receipt_of_an_older_revision_closed_the_rest(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of fifty arrived; a message about the batch is taken as if it had been received so today."""
    told = [
        ("BatchCreated", "NULL", '{"ref":"b1","sku":"CHAIR","qty":50,"eta":"2026-03-01"}'),
        ("AllocationRequired", "'o1'", '{"orderid":"o1","sku":"CHAIR","qty":8}'),
        ("Allocated", "'o1'", '{"orderid":"o1","sku":"CHAIR","qty":8,"batchref":"b1"}'),
        ("BatchReceived", "NULL", '{"ref":"b1","qty":10}'),
    ]
    rows = [
        f"('m{number}', 0, '{kind}', 'CHAIR', {orderid}, '{body}', 'test', '2026-01-31T12:00:00+00:00')"
        for number, (kind, orderid, body) in enumerate(told)
    ]
    columns = "correlation_id, step, type, sku, orderid, body, actor, recorded_at"
    batch = "ref, sku, eta, purchased_quantity, allocated_quantity, position, initial_quantity, initial_eta"
    inserts = [
        "INSERT INTO products (sku, version_number, waiting_lines) VALUES ('CHAIR', 3, 0)",
        f"INSERT INTO batches ({batch}) VALUES ('b1', 'CHAIR', NULL, 10, 8, 1, 50, '2026-03-01')",
        "INSERT INTO order_lines (orderid, sku, qty, batchref, position) VALUES ('o1', 'CHAIR', 8, 'b1', 2)",
        f"INSERT INTO ledger ({columns}) VALUES {', '.join(rows)}",
    ]
    migrate_with(url, "0007", inserts, monkeypatch)
    assert kept_at(url.render_as_string(hide_password=False)).batches[0][:5] == ("b1", "CHAIR", None, 10, 8)

    async def work(writer: Writer) -> list[Outcome | Exception]:
        count = BatchCounted("b1", 9, counted_at=datetime(2026, 1, 31, 13, tzinfo=UTC))
        undone, nothing = ReceiptUndone("b1", 2), BatchReceived("b1", 3)
        return [*await handle_together(writer, *map(message, (count, undone, nothing, nothing)))]

    *taken, refused = asyncio.run(work_at(url.render_as_string(hide_password=False), work))
    assert [each.result for each in taken] == ["b1"] * 3
    assert isinstance(refused, NothingDue)
    assert kept_at(url.render_as_string(hide_password=False)).batches[0][2:5] == (None, 10, 8)


def migrate_with(url: URL, revision: str, inserts: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """To this revision, whose tables get these rows, and from there to the newest."""
    with monkeypatch.context() as patch:
        patch.setattr(migrate_module, "HEAD", revision)
        migrate(url)
    for insert in inserts:
        on(url, functools.partial(sa.Connection.exec_driver_sql, statement=insert))
    assert migrate(url) == (revision, HEAD)


async def due(outbox: Outbox) -> Sequence[Delivery]:
    try:
        return await outbox.due("mail", range(PARTITIONS), 10, dead_letters_hold=False)
    finally:
        await outbox.close()


def test_the_schema_makes_overselling_impossible(url: URL) -> None:
    migrate(url)
    batch = {"ref": "b1", "sku": "CHAIR", "purchased_quantity": 5, "position": 1, "initial_quantity": 5}
    for wrong in (-1, 6):
        oversold = sa.insert(tables.batches).values(batch | {"allocated_quantity": wrong})
        with pytest.raises(DBAPIError, match=r"never_over(sold|shipped)"):
            on(url, functools.partial(sa.Connection.execute, statement=oversold))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sqlite:////nowhere/at/all/allocation.db", "unable to open database file"),
        ("sqlite:////", "unable to open database file"),
        ("postgresql://postgres:secret@127.0.0.1:1/allocation", "onnect"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(text: str, reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=reason) as refusal:
        migrate(parse_url(text))
    assert re.search(r"Cannot use the database (sqlite|postgresql)\S+: .*Check its URL", str(refusal.value))
    assert "secret" not in str(refusal.value)
    assert time.monotonic() - started < 8


def test_a_missing_postgresql_database_is_named(postgres_server: PostgresServer) -> None:
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        migrate(parse_url(postgres_server.url("nowhere")))


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear stock team,\n" * 100)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        migrate(parse_url(f"sqlite:///{path}"))
    assert path.read_text() == "Dear stock team,\n" * 100


def python(program: str, url: URL) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, url.render_as_string(hide_password=False)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def on(url: URL, work: Callable[[sa.Connection], T]) -> T:
    """The result of work on a connection of its own; every statement is committed."""
    if is_sqlite(url):
        engine = sqlite_engine(url)
        try:
            with engine.connect() as connection:
                return work(connection)
        finally:
            engine.dispose()

    async def run() -> T:
        engine = postgres_engine(url)
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def differences(connection: sa.Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, tables.metadata))


def schema(connection: sa.Connection) -> dict[str, set[Any]]:
    """All that the database knows of the tables, but for the one that keeps the revision."""
    if connection.dialect.name == "sqlite":
        return _sqlite_schema(connection)
    found = {
        name: {tuple(row) for row in connection.execute(sa.text(query))} for name, query in POSTGRES_SCHEMA.items()
    }
    return {name: {row for row in rows if "alembic_version" not in str(row)} for name, rows in found.items()}


def _sqlite_schema(connection: sa.Connection) -> dict[str, set[Any]]:
    """Its own text of every statement, regardless of white space, of quotes and of the order of its parts."""
    query = "SELECT name, replace(sql, '\"', '') FROM sqlite_master WHERE name NOT LIKE '%alembic%' AND type <> 'view'"
    return {
        name: {*re.split(r",\s+|\s*\n\s*", (sql or "").strip())} for name, sql in connection.execute(sa.text(query))
    }

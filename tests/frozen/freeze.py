"""Freezes what this release writes, so that every later one can be shown to read it: ``python -m tests.frozen.freeze``.

Into a folder named after the version go the requests with their answers, what the ledger then keeps and tells, and the
database itself: a SQLite file, and for PostgreSQL the statements that make it. A frozen folder never changes again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

import allocation
from allocation.adapters.database import parse_url
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.entrypoints.answers import answer
from allocation.entrypoints.http.posts import POSTS
from allocation.service_layer.messages import EVENTS, decode, new_message
from tests.e2e.program import run
from tests.frozen.play import PLAY, Damage, Request
from tests.integration.test_verify import damage
from tests.servers import PostgresServer
from tests.services import Server, running

HERE = Path(__file__).parent
BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)  # of the history; each message is a second after the one before
DATABASE = "database.frozen"  # a SQLite file, under a name that no tool takes for one in use
STATEMENTS = "postgresql.sql"
LEDGER = "SELECT * FROM ledger ORDER BY position"
# What a dump says of the session that reads it, and differs between versions of the program that wrote it.
SESSION = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)?\n", re.MULTILINE)


def main() -> None:
    folder = HERE / allocation.__version__
    if folder.exists():
        sys.exit(f"{folder} is frozen already: a released shape never changes. Raise the version first.")
    with tempfile.TemporaryDirectory() as working:
        made = Path(working, "made")
        made.mkdir()
        freeze(made)
        shutil.copytree(made, folder)
    print(f"Frozen in {folder}. Add it to the commit of the release.")  # noqa: T201 - the answer to the command


def freeze(folder: Path) -> None:
    """Write all that is frozen of this release into the folder."""
    url = f"sqlite:///{folder / DATABASE}"
    requests = play_into(url)
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.execute("VACUUM")
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute(LEDGER)]
    check_complete(rows)
    _write(folder / "requests.json", requests)
    _write(folder / "ledger.json", rows)
    _write(folder / "events.json", told_events(url))
    _write(folder / "past.json", told_past(url, rows))
    with PostgresServer() as server:
        (folder / STATEMENTS).write_text(dump_of_postgres(server, requests))


def play_into(url: str) -> Sequence[Mapping[str, Any]]:
    """Play all requests into an empty database; return each with the answer it got."""
    answered: list[Mapping[str, Any]] = []
    moments = (BEGINNING + timedelta(seconds=number) for number in itertools.count())

    async def send(service: Service, request: Request) -> None:
        event = decode(POSTS[request.path], json.dumps(request.body))
        key = f"key-{len(answered) + 1:02}"
        outcome = await service.writer.handle(new_message(event, "http", key))
        answered.append({"key": key, **request._asdict(), "answer": msgspec.to_builtins(answer(outcome))})

    async def play_all() -> None:
        async with bootstrap(Settings(database_url=url)) as service:
            service.writer._clock = lambda: next(moments)
            for step in PLAY:
                if isinstance(step, Damage):
                    await asyncio.to_thread(damage, url, step.statement)
                else:
                    await send(service, step)

    asyncio.run(play_all())
    return answered


def check_complete(rows: Iterable[Mapping[str, Any]]) -> None:
    """A kind of message that is not frozen could not be promised to stay readable."""
    missing = EVENTS.keys() - {row["type"] for row in rows}
    if missing:
        sys.exit(f"Nothing of {', '.join(sorted(missing))} would be frozen: add requests for it to PLAY.")


def told_events(url: str) -> Sequence[Any]:
    """What ``/events`` tells of the whole ledger."""
    with _served_copy(url) as server:
        return [event for page in server.pages("/events", "after", limit=1_000) for event in page["events"]]


def told_past(url: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What ``at TIME show`` tells of every product, some while ago and at the end."""
    skus = sorted({row["sku"] for row in rows})
    moments = sorted({row["recorded_at"] for row in rows})
    asked = [(moment, sku) for moment in (moments[len(moments) // 2], moments[-1]) for sku in skus]
    told = []
    for moment, sku in asked:
        done = run("at", moment, "show", sku, "--json", database=url)
        told.append({"moment": moment, "name": sku, "shown": json.loads(done.output) if done.code == 0 else None})
    return told


def dump_of_postgres(server: PostgresServer, requests: Sequence[Mapping[str, Any]]) -> str:
    """The statements that make the same database on any PostgreSQL."""
    url = server.create_database("frozen")
    if play_into(url) != requests:
        sys.exit("PostgreSQL and SQLite answered differently: there is nothing to freeze.")
    command = [str(server.binaries / "pg_dump"), "--inserts", "--no-owner", "--no-privileges", server.dsn("frozen")]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    return SESSION.sub("", dumped.stdout)


@contextmanager
def _served_copy(url: str) -> Iterator[Server]:
    """A server on a copy: it works on what is pending there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(parse_url(url).database or "", Path(folder, "copy.db"))
        with running(Path(folder, "server.log"), ALLOCATION_DATABASE_URL=f"sqlite:///{copy}") as server:
            yield server


def _write(path: Path, entries: Iterable[Any]) -> None:
    """A list, one entry a line."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

"""A command that only reads opens a reader, and loads nothing of the rest of the service."""

from __future__ import annotations

import subprocess
import sys

import pytest

from allocation.domain.events import AllocationRequired, BatchCreated
from tests.e2e.program import given

LOADED = """
import sys
from allocation.entrypoints.cli.app import app
app(sys.argv[1:], standalone_mode=False)
print("loaded:", *sys.modules, file=sys.stderr)
"""
# The parts that write, deliver, serve or migrate, and the libraries they need.
SERVICE = {
    "alembic",
    "allocation.adapters.migrate",
    "allocation.adapters.sqlite",
    "allocation.bootstrap",
    "allocation.service_layer.flow",
    "allocation.service_layer.writing.writer",
    "highspy",
    "httpcore",
    "jinja2",
    "starlette",
    "uvicorn",
    "uvloop",
}
# On SQLite nothing of these is needed either.
HEAVY = {"asyncpg", "greenlet", "sqlalchemy.ext.asyncio", "sqlalchemy.orm", "structlog"}


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        ("show SETTEE", SERVICE | HEAVY),
        ("show SETTEE --json", SERVICE | HEAVY),
        ("explain o1 SETTEE", SERVICE | HEAVY),
        ("at 2035-01-01T00:00Z show SETTEE", SERVICE | HEAVY),
        ("availability SETTEE --qty 2", SERVICE | HEAVY),
        ("export batches", SERVICE | HEAVY),
        ("dead-letters list", SERVICE | HEAVY),
        ("webhooks list", SERVICE),
    ],
)
def test_a_read_does_not_load_the_service(command: str, unwanted: set[str], sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("b1", "SETTEE", 7), AllocationRequired("o1", "SETTEE", 2))
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command.split(), f"--database={sqlite_url}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout
    loaded = set(done.stderr.removeprefix("loaded:").split())
    assert "allocation.adapters.reader" in loaded
    assert not loaded & unwanted

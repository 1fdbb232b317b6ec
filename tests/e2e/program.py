"""Runs the program as people and scripts do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import NamedTuple

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.events import Event
from allocation.service_layer.messages import new_message

PROGRAM = [sys.executable, "-m", "allocation.entrypoints.cli"]
TIMEOUT_S = 120.0


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    output: str
    errors: str


def run(*arguments: str, database: str | None = None, given: bytes = b"", **environment: str) -> Done:
    """Run a command; ``given`` is its standard input."""
    options = [] if database is None else [f"--database={database}"]
    done = subprocess.run(
        [*PROGRAM, *arguments, *options],
        input=given,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def given(database: str, *events: Event) -> None:
    """What happened before. Done here, not by a process for each, because that is not what is tested."""

    async def handle_all() -> None:
        async with bootstrap(Settings(database_url=database)) as service:
            for event in events:
                await service.writer.handle(new_message(event, "given"))

    asyncio.run(handle_all())

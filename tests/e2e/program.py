"""Runs commands of the program, in this process or as a process of its own, as people and scripts do."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import structlog

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.events import Event
from allocation.entrypoints.cli import main
from allocation.service_layer.messages import new_message

PROGRAM = [sys.executable, "-m", "allocation.entrypoints.cli"]
TIMEOUT_S = 120.0


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    output: str
    errors: str


def run(*arguments: str, database: str | None = None, given: bytes = b"", **environment: str) -> Done:
    """Run a command within this process; ``given`` is its standard input.

    A process takes a second to start, a command in here a few hundredths. It has the same arguments, environment,
    streams and exit code. Use `run_program` where signals, file descriptors or several processes matter.
    """
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, _state_kept():
        patch.setattr(sys, "argv", ["allocation", *_with_database(arguments, database)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), "utf-8"))
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", errors)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, _text(output), _text(errors))


def run_program(*arguments: str, database: str | None = None, given: bytes = b"", **environment: str) -> Done:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [*PROGRAM, *_with_database(arguments, database)],
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


def _with_database(arguments: tuple[str, ...], database: str | None) -> list[str]:
    return [*arguments, *([] if database is None else [f"--database={database}"])]


@contextmanager
def _state_kept() -> Iterator[None]:
    """A command configures its process, which here is everybody's."""
    logs, thresholds = structlog.get_config(), gc.get_threshold()
    try:
        yield
    finally:
        structlog.configure(**logs)
        gc.set_threshold(*thresholds)


def _text(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()

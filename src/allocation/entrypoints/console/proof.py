"""Verifications of the books, run beside the service in a separate process, one at a time.

Comparing millions of rows keeps Python busy: in this process it would delay the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import structlog
from sqlalchemy.engine import URL

from allocation.config import PREFIX
from allocation.entrypoints.refusals import ProofUnderWay

CHILD = "allocation.entrypoints.console.prove"
MOST_SHOWN = 200
MOST_LINE_BYTES = 4 * 1024 * 1024

log = structlog.get_logger(__name__)


class Difference(msgspec.Struct):
    """One difference; ``message`` is the id of the last message about it, if known."""

    kind: str
    sku: str
    name: str
    stored: str
    expected: str
    message: str | None


class Verdict(msgspec.Struct):
    """The result of a verification: numbers of compared rows, number of differences of each kind, first differences."""

    products: int
    batches: int
    lines: int
    messages: int
    found: dict[str, int]
    differences: list[Difference]


class Progress(msgspec.Struct):
    """The number of compared lines, and their total; 0 while the database sorts."""

    seen: int
    total: int


class Report(msgspec.Struct):
    """One line of the other process's output; the last line has the verdict."""

    progress: Progress | None = None
    verdict: Verdict | None = None


@dataclass(slots=True)
class Proof:
    """One run. ``ended_at`` is None until it ends; ``failure`` is the reason if it failed."""

    began_at: datetime
    progress: Progress
    ended_at: datetime | None = None
    verdict: Verdict | None = None
    failure: str = ""

    @property
    def seconds(self) -> float:
        return ((self.ended_at or datetime.now(UTC)) - self.began_at).total_seconds()


class Prover:
    """Verifies one database, and keeps the last result until this process ends."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._task: asyncio.Task[None] | None = None
        self.last: Proof | None = None

    def start(self) -> None:
        """Start a verification; raises `ProofUnderWay`."""
        if self._task is not None and not self._task.done():
            raise ProofUnderWay("The books are being verified already")
        self.last = Proof(datetime.now(UTC), Progress(0, 0))
        self._task = asyncio.create_task(self._run(self.last), name="proof")

    async def close(self) -> None:
        """Stop a running verification."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self, proof: Proof) -> None:
        try:
            await self._prove(proof)
        except Exception as error:
            log.exception("proof failed")
            proof.failure = str(error) or type(error).__name__
        finally:
            proof.ended_at = datetime.now(UTC)

    async def _prove(self, proof: Proof) -> None:
        url = self._url.render_as_string(hide_password=False)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", CHILD),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                f"{PREFIX}DATABASE_URL": url,
            },  # not on the command line, where every user could read the password
            limit=MOST_LINE_BYTES,
        )
        try:
            assert child.stdout is not None  # noqa: S101 - it was asked for
            async for line in child.stdout:
                report = msgspec.json.decode(line, type=Report)
                proof.progress = report.progress or proof.progress
                proof.verdict = report.verdict or proof.verdict
            _, errors = await child.communicate()
            if proof.verdict is None:
                proof.failure = _last_line(errors) or f"The verification ended with exit code {child.returncode}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def _last_line(errors: bytes) -> str:
    lines: Sequence[str] = errors.decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")

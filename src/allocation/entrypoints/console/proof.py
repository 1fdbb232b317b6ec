"""Proofs of the books, run beside the service in a process of their own, one at a time.

Comparing millions of rows keeps Python busy: in this process the writer would have to wait for it.
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
    """Something that is not as it should be; ``message`` is the id of the last message about it, if it is known."""

    kind: str
    sku: str
    name: str
    stored: str
    expected: str
    message: str | None


class Verdict(msgspec.Struct):
    """What a proof found: how much was compared, how many differences of which kind, and the first of them."""

    products: int
    batches: int
    lines: int
    messages: int
    found: dict[str, int]
    differences: list[Difference]


class Progress(msgspec.Struct):
    """How many lines of how many were compared; 0 while the database sorts."""

    seen: int
    total: int


class Report(msgspec.Struct):
    """A line of what the other process says: the last one has the verdict."""

    progress: Progress | None = None
    verdict: Verdict | None = None


@dataclass(slots=True)
class Proof:
    """One run. While it is under way ``ended_at`` is None; if it failed, ``failure`` says why."""

    began_at: datetime
    progress: Progress
    ended_at: datetime | None = None
    verdict: Verdict | None = None
    failure: str = ""

    @property
    def seconds(self) -> float:
        return ((self.ended_at or datetime.now(UTC)) - self.began_at).total_seconds()


class Prover:
    """Runs proofs of one database, and remembers the last one for as long as this process lives."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._task: asyncio.Task[None] | None = None
        self.last: Proof | None = None

    def start(self) -> None:
        """Begin a proof; raises `ProofUnderWay`."""
        if self._task is not None and not self._task.done():
            raise ProofUnderWay("The books are being proved already")
        self.last = Proof(datetime.now(UTC), Progress(0, 0))
        self._task = asyncio.create_task(self._run(self.last), name="proof")

    async def close(self) -> None:
        """End a proof that is under way."""
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
            env={**os.environ, f"{PREFIX}DATABASE_URL": url},  # on its command line everybody could read the password
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
                proof.failure = _last_line(errors) or f"The proof ended with {child.returncode}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def _last_line(errors: bytes) -> str:
    lines: Sequence[str] = errors.decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")

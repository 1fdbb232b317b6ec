"""Work in the background: an error is logged, and the next round is done all the same."""

from __future__ import annotations

import asyncio
import contextlib

from structlog.testing import capture_logs

from allocation.service_layer.regularly import Regularly
from allocation.service_layer.writing.store import StoreUnavailable


def test_errors_are_logged_and_do_not_end_the_work() -> None:
    outcomes: list[Exception | None] = [StoreUnavailable("gone"), RuntimeError("a bug"), None]

    async def play() -> None:
        is_done = asyncio.Event()

        async def one_round() -> float:
            outcome = outcomes.pop(0)
            if outcome is not None:
                raise outcome
            is_done.set()
            return 1_000

        work = Regularly("counting", one_round, retry_after_s=0)
        work.start()
        await asyncio.wait_for(is_done.wait(), timeout=10)
        await work.close()

    with capture_logs() as logs:
        asyncio.run(play())
    assert [(log["work"], log["log_level"]) for log in logs] == [("counting", "info"), ("counting", "error")]
    assert outcomes == []


def test_the_work_ends_though_a_library_loses_the_request_to_stop() -> None:
    """As `asyncio.wait_for` of Python 3.11 does when its work is done in the same moment."""
    rounds = 0

    async def play() -> None:
        has_begun = asyncio.Event()

        async def one_round() -> float:
            nonlocal rounds
            rounds += 1
            has_begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1_000)
            return 0

        work = Regularly("counting", one_round, retry_after_s=0)
        work.start()
        await has_begun.wait()
        await asyncio.wait_for(work.close(), timeout=10)

    asyncio.run(play())
    assert rounds == 1

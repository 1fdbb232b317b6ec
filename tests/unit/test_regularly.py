"""Work in the background: an error is logged, and the next round is done all the same."""

from __future__ import annotations

import asyncio

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

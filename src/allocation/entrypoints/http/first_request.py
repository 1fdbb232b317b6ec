"""An application that is loaded and built at its first request, so that the service starts without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class OnFirstRequest:
    """An application that its first request builds in a thread, so that only its own requests wait.

    An error fails that request, and the next one tries again.
    """

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        self._build = build
        self._app: ASGIApp | None = None
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._one_at_a_time:
            if self._app is None:
                self._app = await asyncio.to_thread(self._build)
            app = self._app
        await app(scope, receive, send)

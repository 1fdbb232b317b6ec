"""Live pages: a page is rendered again when it may have changed, and its changed fragments are sent.

While there is a listener, the hub looks at the ledger twice a second, once for all listeners. It renders the watched
pages that the new messages are about, each page once for all its viewers, and sends the fragments that differ from the
last ones sent. This may use at most `SHARE` of the event loop's time; with more to do, the hub looks less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from allocation.adapters.reader import Reader
from allocation.console_views import ledger
from allocation.domain.errors import Refusal
from allocation.entrypoints.console.pacing import timed
from allocation.entrypoints.refusals import TooManyStreams
from allocation.service_layer.writing.store import StoreUnavailable

LOOK_EVERY_S = 0.5
SHARE = 0.015  # of the event loop's time; reading costs about the same again elsewhere
MAX_STREAMS = 500
HEARTBEAT_S = 15.0
RETRY_MS = 2_000
SEND_TIMEOUT_S = 30.0
SLOWEST_WRITE_S = 0.001  # a longer time was spent on waiting for the visitor
# Another process may commit after rows with higher positions: the hub looks for such rows for this time.
OVERLAP_S = 2.0
HASH_LENGTH = 16

log = structlog.get_logger(__name__)


class Topics(NamedTuple):
    """The subjects of a page: it is rendered again for messages about these products and orders.

    ``ledger``: for every message; ``always``: at every look.
    """

    skus: frozenset[str] = frozenset()
    orderids: frozenset[str] = frozenset()
    ledger: bool = False
    always: bool = False

    def is_met(self, skus: AbstractSet[str], orderids: AbstractSet[str], *, moved: bool) -> bool:
        """Whether the page may be another now that there are messages of these products and orders, or of any."""
        met = not self.skus.isdisjoint(skus) or not self.orderids.isdisjoint(orderids)
        return self.always or (moved and self.ledger) or met


class Rendered(NamedTuple):
    """The live fragments of a page by name, and the subjects of the page."""

    fragments: Mapping[str, str]
    topics: Topics


Render = Callable[[], Awaitable[Rendered]]


def mark(fragment: str) -> str:
    """Tells one state of a fragment from another."""
    return hashlib.blake2b(fragment.encode(), digest_size=HASH_LENGTH // 2).hexdigest()


@dataclass(eq=False, slots=True)
class _Watch:
    """A page that somebody watches."""

    render: Render
    listeners: set[Stream] = field(default_factory=set)
    topics: Topics = field(default_factory=Topics)
    current: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by fragment: its mark, and how it is sent


class Hub:
    """All live pages of a process. Every stream ends when ``stopping`` is set."""

    def __init__(self, reader: Reader, stopping: asyncio.Event, *, max_streams: int = MAX_STREAMS) -> None:
        self._reader = reader
        self._stopping = stopping
        self._max_streams = max_streams
        self._watches: dict[str, _Watch] = {}
        self._seen: deque[tuple[float, int]] = deque()  # when the ledger ended where
        self._streams = 0
        self._looking: asyncio.Task[None] | None = None
        self._spent_s = 0.0  # since the last pause

    async def open(self, key: str, render: Render, seen: str) -> Stream:
        """The stream of a page, shared by all with the same key. Raises `TooManyStreams`, or errors of rendering.

        ``seen`` is the id of the visitor's last event, see `event_id`.
        """
        if self._streams >= self._max_streams:
            raise TooManyStreams(self._max_streams)
        self._streams += 1
        try:
            watch = self._watches.get(key)
            if watch is None:
                watch = _Watch(render)
                await self._render(watch)
                watch = self._watches.setdefault(key, watch)
        except BaseException:
            self._streams -= 1
            raise
        stream = Stream(self, key, watch.current, _marks(seen))
        watch.listeners.add(stream)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name="console")
        return stream

    def leave(self, stream: Stream) -> None:
        """A visitor left."""
        self._streams -= 1
        watch = self._watches[stream.key]
        watch.listeners.discard(stream)
        if not watch.listeners:
            del self._watches[stream.key]

    def spend(self, seconds: float) -> None:
        """The event loop was busy with live pages for so long."""
        self._spent_s += seconds

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look_on(self) -> None:
        """Look for as long as anybody listens."""
        while self._watches and not self._stopping.is_set():
            try:
                await timed(self._look(), self.spend)
            except StoreUnavailable as error:
                log.info("live pages are not updated", reason=str(error))
            except Exception:
                log.exception("looking for news failed")
            spent, self._spent_s = self._spent_s, 0.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(LOOK_EVERY_S, spent / SHARE))
        self._looking = None
        self._seen.clear()
        for stream in [stream for watch in self._watches.values() for stream in watch.listeners]:
            stream.due.set()

    async def _look(self) -> None:
        for watch in await self._due():
            if not watch.listeners:
                continue
            try:
                changed = await self._render(watch)
            except Refusal:  # the subject of the page no longer exists: the page stays as it is
                continue
            for stream in watch.listeners if changed else ():
                stream.due.set()

    async def _due(self) -> Iterable[_Watch]:
        """The pages that there may be news for."""
        now = time.monotonic()
        position = await self._reader.run(ledger.last_position)
        self._seen.append((now, position))
        while len(self._seen) > 1 and self._seen[1][0] <= now - OVERLAP_S:
            self._seen.popleft()
        since = self._seen[0][1]
        watches = list(self._watches.values())
        moved = position > since
        skus, orderids = set[str](), set[str]()
        if moved:
            about = [watch.topics for watch in watches if not watch.topics.ledger and not watch.topics.always]
            asked = set().union(*(each.skus for each in about)), set().union(*(each.orderids for each in about))
            skus, orderids = map(set, await self._reader.run(ledger.changed, since, *asked))
        return [watch for watch in watches if watch.topics.is_met(skus, orderids, moved=moved)]

    async def _render(self, watch: _Watch) -> bool:
        """Whether anything differs from the fragments before."""
        rendered = await watch.render()
        watch.topics = rendered.topics
        changed = False
        for name, fragment in rendered.fragments.items():
            state = mark(fragment)
            if watch.current.get(name, ("",))[0] != state:
                watch.current[name] = state, _event(name, fragment)
                changed = True
        return changed


class Stream(Response):
    """One visitor's stream. It never queues: a slow visitor gets the latest state of each fragment when ready."""

    def __init__(self, hub: Hub, key: str, current: Mapping[str, tuple[str, bytes]], seen: dict[str, str]) -> None:
        super().__init__(status_code=200, media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self.key = key
        self.due = asyncio.Event()
        self._hub = hub
        self._current = current
        self._seen = seen
        self._gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(self._wait_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._write(send, b"retry: %d\n\n" % RETRY_MS)
            while not self._gone and not self._hub.is_stopping:
                self.due.clear()
                await self._write(send, self._news())
                try:
                    await asyncio.wait_for(self.due.wait(), HEARTBEAT_S)
                except TimeoutError:
                    await self._write(send, b": nothing new\n\n")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.info("visitor took no news", timeout_s=SEND_TIMEOUT_S)
        finally:
            leaving.cancel()
            self._hub.leave(self)

    async def _write(self, send: Send, body: bytes) -> None:
        if not body:
            return
        began = time.perf_counter()
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        self._hub.spend(min(time.perf_counter() - began, SLOWEST_WRITE_S))

    def _news(self) -> bytes:
        """The fragments that this visitor does not have as they are now."""
        news = [sent for name, (state, sent) in self._current.items() if self._seen.get(name) != state]
        if not news:
            return b""
        self._seen = {name: state for name, (state, _) in self._current.items()}
        return b"".join([*news[:-1], b"id: ", event_id(self._seen).encode(), b"\n", news[-1]])

    async def _wait_until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self.due.set()


def event_id(marks: Mapping[str, str]) -> str:
    """Says which state of each fragment a visitor has."""
    return ",".join(f"{name}:{state}" for name, state in marks.items())


def _marks(event_id: str) -> dict[str, str]:
    return dict(each.split(":", 1) for each in event_id.split(",") if ":" in each)


def _event(name: str, fragment: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in fragment.splitlines())
    return f"event: {name}\n{lines}\n".encode()

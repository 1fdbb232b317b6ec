"""The short way from socket to writer, for the hot routes: no task, no ASGI scope, no copies.

It is uvicorn's protocol with one fork. A plain POST of known length to a hot route is passed to the writer as soon as
its last byte has arrived, and the writer's reply is written to the socket. Every other request takes uvicorn's way to
the ASGI application, where `posts` answers the same routes by the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from allocation.domain.events import Event
from allocation.entrypoints.answers import answer
from allocation.entrypoints.bodies import MAX_BODY_BYTES, check_content_type
from allocation.entrypoints.http.posts import CREATED, POSTS
from allocation.entrypoints.http.requests import actor, idempotency_key
from allocation.entrypoints.http.responses import Answer, json_answer, problem_answer
from allocation.service_layer.messages import Outcome, checked_message, decode
from allocation.service_layer.writing.writer import Writer

HOT: Final[Mapping[bytes, type[Event]]] = {path.encode(): kind for path, kind in POSTS.items()}


def short_way_protocol(writer: Writer) -> type[HttpToolsProtocol]:
    """The protocol class that uvicorn makes one of per connection, bound to the writer."""

    class BoundProtocol(ShortWayProtocol):
        def __init__(self, **uvicorns: Any) -> None:
            super().__init__(writer, **uvicorns)

    return BoundProtocol


class ShortWayProtocol(HttpToolsProtocol):
    """One connection. As everywhere in HTTP/1.1, its answers go out in the order of its requests."""

    def __init__(self, writer: Writer, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._writer = writer
        self._exchange = _Exchange()
        self.cycle = self._exchange  # type: ignore[assignment]
        self._kind: type[Event] | None = None  # of the request being read; None: it takes the long way
        self._idle_since: float | None = None  # None: there is something to do

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def _unset_keepalive_if_required(self) -> None:
        """One timer runs all the time: to set one for every answer costs more than to look again when it ends."""
        self._idle_since = None

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        self._kind = HOT.get(self.url)
        if self._kind is not None and self._is_plain():
            self.cycle = self._exchange  # type: ignore[assignment]
            self._exchange.begin(keep_alive=self.parser.should_keep_alive())
        else:
            self._kind = None
            self._take_the_long_way()

    def on_body(self, body: bytes) -> None:
        if self._kind is None:
            super().on_body(body)
        else:
            self._exchange.body += body

    def on_message_complete(self) -> None:
        if self._kind is None:
            super().on_message_complete()
            return
        try:
            headers = dict(self.headers)
            check_content_type(headers)
            event = decode(self._kind, self._exchange.body)
            self._writer.submit(checked_message(event, actor(headers), idempotency_key(headers)), self._reply)
        except Exception as error:  # noqa: BLE001 - every error has its answer
            self._reply(error)

    def _is_plain(self) -> bool:
        """Whether nothing is under way on this connection, and the length of the request is known."""
        for name, value in self.headers:
            if name == b"content-length":
                return (
                    self.cycle.response_complete
                    and self.parser.get_method() == b"POST"
                    and not self.expect_100_continue
                    and not self.parser.should_upgrade()
                    and value.isdigit()
                    and int(value) <= MAX_BODY_BYTES
                )
        return False

    def _take_the_long_way(self) -> None:
        """Do uvicorn's work for the start of a request, which was postponed until the route was known."""
        url, headers, expected = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expected
        super().on_headers_complete()

    def _reply(self, outcome: Outcome | Exception) -> None:
        if isinstance(outcome, Exception):
            self._respond(problem_answer(outcome))
        else:
            self._respond(json_answer(CREATED, answer(outcome)))

    def _respond(self, response: Answer) -> None:
        exchange = self._exchange
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        lines = [STATUS_LINE[response.status]]
        for name, value in (*self.server_state.default_headers, *response.headers):
            lines += (name, b": ", value, b"\r\n")
        if not exchange.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"\r\n", response.body)
        self.transport.write(b"".join(lines))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()


class _Exchange:
    """The request that takes the short way, in the place where uvicorn keeps its own."""

    __slots__ = ("body", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.response_complete = True
        self.disconnected = False
        self.message_event = _Nobody()
        self.begin(keep_alive=True)
        self.response_complete = True

    def begin(self, *, keep_alive: bool) -> None:
        self.body = b""
        self.keep_alive = keep_alive
        self.response_complete = False


class _Nobody:
    """Wakes the reader of a request that is read as a whole."""

    def set(self) -> None:
        """Nobody to wake."""

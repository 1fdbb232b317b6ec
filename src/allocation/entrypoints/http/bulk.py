"""``POST /bulk``: events as JSON lines in, one JSON result a line out, in order, while the input still streams.

Memory is bounded in both directions: the service reads only as much as it has room for, and nothing while the client
does not read its results. So a client must read while it sends if its input is larger than the buffers; a client that
reads nothing for `SEND_TIMEOUT_S` is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from allocation.domain.errors import InvalidMessage, Refusal
from allocation.entrypoints.answers import answer
from allocation.entrypoints.bodies import Disconnected, check_content_type
from allocation.entrypoints.http.posts import CREATED
from allocation.entrypoints.http.requests import actor, check_method
from allocation.entrypoints.http.responses import encode, send_problem
from allocation.entrypoints.refusals import FAILURE, TooLarge, tell
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.writing.stream import handle_stream, parse_line
from allocation.service_layer.writing.writer import Unavailable, Writer

PATH = "/bulk"
JSON_LINES = "application/x-ndjson"
JSON_LINES_TYPES = (JSON_LINES.encode(), b"application/jsonl", b"application/ndjson")
MAX_LINE_BYTES = 1024 * 1024
SEND_TIMEOUT_S = 60.0

JSON_LINES_HEADER = (b"content-type", JSON_LINES.encode())

Batch = Iterable[tuple[int, Message | Exception]]

log = structlog.get_logger(__name__)


def bulk_route(writer: Writer, stopping: asyncio.Event) -> ASGIApp:
    """``stopping``: once it is set, no more lines are read, and all lines read are answered."""

    async def bulk(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            who = _checked(scope)
        except Refusal as refusal:
            await send_problem(send, refusal)
            return
        output = _Output(send)
        lines = _read_lines(receive, stopping, who)
        try:
            async with aclosing(lines), aclosing(handle_stream(writer, lines)) as stream:
                async for results in stream:
                    await output.write(b"".join(_line(number, result) for number, result in results))
            await output.end()
        except Disconnected:
            return
        except TimeoutError:
            log.warning("client took no results", timeout_s=SEND_TIMEOUT_S)

    return bulk


def _checked(scope: Scope) -> str:
    """The actor of all lines."""
    check_method(scope, "POST")
    headers = dict(scope["headers"])
    check_content_type(headers, JSON_LINES_TYPES)
    if b"idempotency-key" in headers:
        raise InvalidMessage("One Idempotency-Key cannot serve many events", "Give each line an id of its own.")
    return actor(headers)


class _Output:
    """The response. It starts with the first results; a client that waits for ``100 Continue`` gets it before."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def write(self, body: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            if not self._begun:
                self._begun = True
                await self._send({"type": "http.response.start", "status": 200, "headers": [JSON_LINES_HEADER]})
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def end(self) -> None:
        await self.write(b"", more=False)


async def _read_lines(receive: Receive, stopping: asyncio.Event, who: str) -> AsyncGenerator[Batch]:
    cutter = LineCutter()
    try:
        async with aclosing(_chunks(receive, stopping)) as chunks:
            async for chunk in chunks:
                yield _parsed(cutter.cut(chunk), who)
    except Unavailable as unavailable:
        yield [(cutter.number + 1, unavailable)]
    else:
        yield _parsed(cutter.cut(b"\n"), who)


async def _chunks(receive: Receive, stopping: asyncio.Event) -> AsyncGenerator[bytes]:
    """The body as it arrives. Raises `Disconnected`, or `Unavailable` when the service stops before its end."""
    stopped = asyncio.ensure_future(stopping.wait())
    receiving: asyncio.Future[AsgiMessage] | None = None
    try:
        more = True
        while more:
            receiving = asyncio.ensure_future(_received(receive))
            await asyncio.wait({receiving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                raise Unavailable("The service is shutting down: send the lines from this one on again")
            message = receiving.result()
            if message["type"] == "http.disconnect":
                raise Disconnected
            more = message.get("more_body", False)
            yield message.get("body", b"")
    finally:
        stopped.cancel()
        if receiving is not None:
            receiving.cancel()


async def _received(receive: Receive) -> AsgiMessage:
    return await receive()


class LineCutter:
    """Cuts chunks into numbered lines. Of a line that is too long it keeps no more than shows that it is."""

    def __init__(self) -> None:
        self.number = 0  # of lines cut
        self._rest = bytearray()

    def cut(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """The lines that are complete now, without blank ones."""
        first, *others = chunk.split(b"\n")
        self._keep(first)
        if not others:
            return []
        lines = [bytes(self._rest), *others[:-1]]
        self._rest.clear()
        self._keep(others[-1])
        begin, self.number = self.number + 1, self.number + len(lines)
        return [(number, line) for number, line in enumerate(lines, begin) if line and not line.isspace()]

    def _keep(self, part: bytes) -> None:
        self._rest += part[: MAX_LINE_BYTES + 1 - len(self._rest)]


def _parsed(lines: Iterable[tuple[int, bytes]], who: str) -> Iterator[tuple[int, Message | Exception]]:
    for number, line in lines:
        try:
            yield number, _message(line, who)
        except Refusal as refusal:
            yield number, refusal


def _message(line: bytes, who: str) -> Message:
    if len(line) > MAX_LINE_BYTES:
        raise TooLarge(f"The line has more than {MAX_LINE_BYTES} bytes", "Send one event a line.")
    return parse_line(line, who)


def _line(number: int, result: Outcome | Exception) -> bytes:
    if isinstance(result, Outcome):
        return encode({"line": number, "status": CREATED, **answer(result)}) + b"\n"
    kind, message, detail = tell(result)
    if kind is FAILURE:
        log.error("line failed", line=number, exc_info=result)
    return encode({"line": number, "status": kind.status, "message": message, "detail": detail}) + b"\n"

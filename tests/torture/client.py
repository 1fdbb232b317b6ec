"""Sends messages over HTTP on one connection, gives up after a while, and leaves repeating to its caller."""

from __future__ import annotations

import asyncio
import json

from tests.torture.history import Answer, Json

ATTEMPT_TIMEOUT_S = 4.0


class NoAnswer(Exception):
    """What became of the request is not known."""


class Client:
    """Plain HTTP/1.1 on a stream: cheap, so that the load comes down on the service, and blunt when it is cut off."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None  # None: not connected

    async def post(self, path: str, body: Json, key: str) -> Answer:
        """The answer; raises `NoAnswer` when there is none in time."""
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                reader, writer = await self._connected()
                writer.write(_request(path, body, key))
                return await _answer(reader)
        except (OSError, EOFError, ValueError) as error:
            self.hang_up()
            raise NoAnswer(repr(error)) from error

    async def post_and_hang_up(self, path: str, body: Json, key: str) -> None:
        """Send the request, and be gone before it is answered."""
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                _, writer = await self._connected()
                writer.write(_request(path, body, key))
                await writer.drain()
        except OSError:
            pass
        self.hang_up()

    def hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        return self._streams


def _request(path: str, body: Json, key: str) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: allocation\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *headers = head.decode("latin-1").split("\r\n")
    named = dict(header.lower().split(": ", 1) for header in headers if header)
    content = await reader.readexactly(int(named["content-length"]))
    return Answer(int(status_line.split()[1]), json.loads(content))

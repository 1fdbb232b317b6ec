"""The network between the service and PostgreSQL, as it is on a bad day: connections are cut, held up, half closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Self

CHUNK_BYTES = 65_536

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Listens on a port of its own and passes everything on to another one of this machine, until told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()  # while it is not set nothing passes; it is not lost either
        self._open.set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1")
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self._open.set()
        self.cut()
        await asyncio.gather(*self._serving)

    def cut(self) -> int:
        """Break every connection, as a firewall or a failing switch does; return how many there were."""
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    def say_goodbye_to_the_server(self) -> int:
        """Half close: the server reads the end of the client's words, and may still answer."""
        return sum(link.end(link.to_server) for link in list(self._links))

    def say_goodbye_to_the_client(self) -> int:
        """Half close: the client reads the end of the server's words, and may still speak."""
        return sum(link.end(link.to_client) for link in list(self._links))

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Nothing passes meanwhile; afterwards everything does, in its order."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @contextlib.contextmanager
    def answers_lost(self) -> Iterator[None]:
        """What clients say arrives and what servers answer does not; afterwards those connections are cut."""
        links = list(self._links)
        for link in links:
            link.answers_arrive = False
        try:
            yield
        finally:
            for link in links:
                link.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # it is down
            writer.transport.abort()
            return
        link = _Link((reader, writer), server, self._open)
        self._links.add(link)
        await link.run()
        self._links.discard(link)


class _Link:
    """One connection, which is two: from the client to the proxy, and from the proxy to the server."""

    def __init__(self, client: Streams, server: Streams, passable: asyncio.Event) -> None:
        self._from_client, self.to_client = client
        self._from_server, self.to_server = server
        self._passable = passable
        self.answers_arrive = True

    async def run(self) -> None:
        """Pass on both ways until both have ended."""
        ways = self._pass_on(self._from_client, self.to_server), self._pass_on(self._from_server, self.to_client)
        await asyncio.gather(*ways)
        self.cut()

    def cut(self) -> None:
        self.to_client.transport.abort()
        self.to_server.transport.abort()

    def end(self, way: asyncio.StreamWriter) -> bool:
        """Tell the reader at the end of that way that no more will come; False if it cannot be told any more."""
        try:
            way.write_eof()
        except (OSError, RuntimeError):
            return False
        return True

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # cut, or half closed
            while chunk := await reader.read(CHUNK_BYTES):
                await self._passable.wait()
                if writer is self.to_server or self.answers_arrive:
                    writer.write(chunk)
                    await writer.drain()
        self.end(writer)

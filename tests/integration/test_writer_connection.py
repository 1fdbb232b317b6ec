"""The database goes away under the writer, again and again: every message is applied exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Self

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from allocation.adapters.migrate import migrate
from allocation.adapters.postgresql import PostgresStore
from allocation.domain.events import Allocated, AllocationRequired, BatchCreated
from allocation.service_layer.messages import Outcome, new_message
from allocation.service_layer.writing.writer import Writer
from tests.builders import contents, dsn
from tests.servers import PostgresNotFound, PostgresServer

SKU = "HOT-PRODUCT"
CALLERS = 32
KILLS = 12
PATIENCE_S = 60.0

Disaster = Callable[[URL], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of our own: it is killed."""
    try:
        server = PostgresServer()
    except PostgresNotFound as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> Iterator[URL]:
    url = make_url(server.create_database("hot"))
    migrate(url)
    yield url
    server.drop_database("hot")


def test_connections_cut_again_and_again(url: URL) -> None:
    async def cut(url: URL) -> None:
        chance = random.Random(7)
        connection = await asyncpg.connect(dsn(url))
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'allocation'"
        )
        killed = 0
        while killed < KILLS:
            await asyncio.sleep(chance.uniform(0.01, 0.2))
            killed += len(await connection.fetch(kill))
        await connection.close()

    asyncio.run(asyncio.wait_for(survive(url, cut), PATIENCE_S))


def test_the_server_killed_and_started_again(server: PostgresServer, url: URL) -> None:
    async def kill(url: URL) -> None:
        for _ in range(2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.start)

    asyncio.run(asyncio.wait_for(survive(url, kill), PATIENCE_S))


def test_a_commit_whose_answer_was_lost_is_not_done_again(url: URL) -> None:
    async def scenario() -> None:
        async with LossyProxy(url) as proxy:
            store = PostgresStore(url.set(port=proxy.port))
            writer = Writer(store)
            writer.start()
            await writer.handle(new_message(BatchCreated("b1", SKU, 10), "test"))
            for number in range(3):
                proxy.swallow_next_commit = True
                outcome = await writer.handle(new_message(AllocationRequired(f"o{number}", SKU, 2), "test"))
                assert outcome.raised == [Allocated(f"o{number}", SKU, 2, "b1")]
                assert proxy.swallow_next_commit is False
            await writer.close()
            await store.close()
        kept = await contents(url)
        assert [row[3] for row in kept.ledger] == ["BatchCreated"] + 3 * ["AllocationRequired", "Allocated"]
        assert kept.batches[0][4] == 6

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


class LossyProxy:
    """Stands between a client and the server; when told, it hangs up after a commit without passing the answer on."""

    def __init__(self, url: URL) -> None:
        assert url.host is not None
        self._server = (url.host, url.port)
        self.swallow_next_commit = False

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1")
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._listener.wait_closed()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(*self._server)
        swallow = asyncio.Event()
        await asyncio.gather(
            self._pass_on(client, to_server, swallow), self._pass_back(server, to_client, to_server, swallow)
        )

    async def _pass_on(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        while sent := await client.read(65_536):
            if self.swallow_next_commit and b"AllocationRequired" in sent:  # one statement, which commits by itself
                swallow.set()
            to_server.write(sent)
        to_server.close()

    async def _pass_back(
        self,
        server: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
        swallow: asyncio.Event,
    ) -> None:
        while answer := await server.read(65_536):
            if swallow.is_set():
                self.swallow_next_commit = False
                to_server.close()
                break
            to_client.write(answer)
        to_client.close()


async def survive(url: URL, disaster: Disaster) -> None:
    """Callers order without a pause while the disaster goes on; then the books are checked."""
    store = PostgresStore(url)
    writer = Writer(store, reconnect_timeout_s=PATIENCE_S)
    writer.start()
    await writer.handle(new_message(BatchCreated("b1", SKU, 1_000_000), "test"))
    sent: list[str] = []
    over = asyncio.Event()

    async def call(caller: int) -> None:
        while not over.is_set():
            message = new_message(AllocationRequired(f"{caller}-{len(sent)}", SKU, 1), "test")
            sent.append(message.id)
            outcome: Outcome = await writer.handle(message)
            assert outcome.result == "b1"

    callers = [asyncio.create_task(call(number)) for number in range(CALLERS)]
    await disaster(url)
    over.set()
    await asyncio.gather(*callers)
    await writer.close()
    await store.close()
    kept = await contents(url)
    received = Counter(row[0] for row in kept.ledger if row[3] == "AllocationRequired")
    assert received == Counter(sent)
    assert len(sent) > 10 * CALLERS, "too little went on while the disaster did"
    assert len(kept.lines) == len(sent) == kept.batches[0][4]

"""What is attacked, and the attacks: real server processes, a real PostgreSQL, and the network between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.servers import PostgresServer, free_port
from tests.services import SERVE
from tests.torture.proxy import Proxy
from tests.waiting import until

START_TIMEOUT_S = 30.0
LONG_OUTAGE_S = 12.0  # longer than a sender waits for an answer, and than the service goes on trying
LONG_OUTAGES = 0.1  # of all outages
PAUSE_S = (0.1, 0.8)  # between two attacks
SPIN_UP_S = 0.9  # about as long as a server takes to start: it may be killed in the middle of that


class ServerProcess:
    """One ``allocation serve``, on the same port over every kill and start."""

    def __init__(self, database_url: str, log: Path) -> None:
        self.port = free_port()
        self._log = log
        self._settings = {"ALLOCATION_DATABASE_URL": database_url, "ALLOCATION_PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None  # None: not running

    def launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(SERVE, stderr=log, env={**os.environ, **self._settings})

    async def start(self) -> None:
        """Return when it listens; one that ends instead, since its database is away, is started again."""

        async def listens() -> bool:
            if self._process is None or self._process.poll() is not None:
                self.launch()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return True
            return False

        await until(listens, START_TIMEOUT_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class Tidier:
    """Who removes closed lines; it never ends by itself."""

    def __init__(self, database_url: str, log: Path) -> None:
        self.moment = datetime.now(UTC)  # lines closed before it go
        self._command = [sys.executable, "-m", "tests.torture.tidier", database_url, self.moment.isoformat()]
        self._log = log
        self.launch()

    def launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log)

    def kill(self) -> None:
        assert self._process.poll() is None, f"The tidier ended, see {self._log}"
        self._process.kill()
        self._process.wait()


@dataclass(slots=True)
class Arena:
    """Everything that can be attacked; ``counts`` says how often each thing was done."""

    database_url: str
    behind: str  # the same as the servers reach it
    servers: Sequence[ServerProcess]
    chance: random.Random
    postgres: PostgresServer | None = None
    proxy: Proxy | None = None
    tidier: Tidier | None = None  # while closed lines are removed
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def ports(self) -> Sequence[int]:
        return [server.port for server in self.servers]


@asynccontextmanager
async def on_sqlite(folder: Path, seed: int) -> AsyncIterator[Arena]:
    """One server on a file."""
    url = f"sqlite:///{folder / 'allocation.db'}"
    async with _serving(url, url, 1, folder, seed) as arena:
        yield arena


@asynccontextmanager
async def on_postgres(folder: Path, seed: int, **settings: str) -> AsyncIterator[Arena]:
    """Two servers on one database, with settings of its own, which they reach through a network that can be cut."""
    with PostgresServer(settings) as postgres:
        url = postgres.create_database("torture")
        async with Proxy(postgres.port) as proxy:
            behind = url.replace(f":{postgres.port}/", f":{proxy.port}/")
            async with _serving(url, behind, 2, folder, seed) as arena:
                arena.postgres, arena.proxy = postgres, proxy
                yield arena


@asynccontextmanager
async def _serving(url: str, behind: str, servers: int, folder: Path, seed: int) -> AsyncIterator[Arena]:
    arena = Arena(
        url, behind, [ServerProcess(behind, folder / f"server-{n}.log") for n in range(servers)], random.Random(seed)
    )
    try:
        await asyncio.gather(*[server.start() for server in arena.servers])
        yield arena
    finally:
        for server in arena.servers:
            server.kill()


Attack = Callable[[Arena], Awaitable[None]]
MakeArena = Callable[[Path, int], AbstractAsyncContextManager[Arena]]


async def kill_server(arena: Arena) -> None:
    """``kill -9``, now and then once more while it starts again."""
    server = arena.chance.choice(arena.servers)
    server.kill()
    arena.counts["servers killed"] += 1
    await asyncio.sleep(arena.chance.uniform(0, 0.3))
    while arena.chance.random() < 0.3:
        server.launch()
        await asyncio.sleep(arena.chance.uniform(0, SPIN_UP_S))
        server.kill()
        arena.counts["servers killed"] += 1
    await server.start()


async def pause_server(arena: Arena) -> None:
    """Stopped as by a debugger or a swapping machine: its transaction, and its locks, stay open meanwhile."""
    server = arena.chance.choice(arena.servers)
    server.signal(signal.SIGSTOP)
    arena.counts["servers paused"] += 1
    await asyncio.sleep(arena.chance.uniform(0.2, 2.0))
    server.signal(signal.SIGCONT)


async def kill_tidier(arena: Arena) -> None:
    """``kill -9``, often in the middle of a removal."""
    assert arena.tidier is not None
    arena.tidier.kill()
    arena.counts["tidiers killed"] += 1
    arena.tidier.launch()


async def kill_postgres(arena: Arena) -> None:
    """``kill -9`` of the postmaster and all its children."""
    assert arena.postgres is not None
    await asyncio.to_thread(arena.postgres.kill)
    arena.counts["databases killed"] += 1
    is_long = arena.chance.random() < LONG_OUTAGES
    await asyncio.sleep(LONG_OUTAGE_S if is_long else arena.chance.uniform(0, 0.5))
    await asyncio.to_thread(arena.postgres.start)


async def cut_network(arena: Arena) -> None:
    assert arena.proxy is not None
    arena.counts["connections cut"] += arena.proxy.cut()


async def half_close_network(arena: Arena) -> None:
    assert arena.proxy is not None
    goodbye = arena.chance.choice([arena.proxy.say_goodbye_to_the_server, arena.proxy.say_goodbye_to_the_client])
    arena.counts["connections cut"] += goodbye()


async def hold_network_up(arena: Arena) -> None:
    assert arena.proxy is not None
    with arena.proxy.held_up():
        await asyncio.sleep(arena.chance.uniform(0.05, 1.0))
    arena.counts["delays"] += 1


async def lose_answers(arena: Arena) -> None:
    """The worst moment: the commit arrives, and nobody hears that it did."""
    assert arena.proxy is not None
    with arena.proxy.answers_lost():
        await asyncio.sleep(arena.chance.uniform(0.005, 0.2))
    arena.counts["connections cut"] += 1


NETWORK: Sequence[Attack] = (cut_network, half_close_network, hold_network_up, lose_answers)

# Each attack by name, with the arena it is made in.
ATTACKS: Mapping[str, tuple[MakeArena, Sequence[Attack]]] = {
    "server killed, SQLite": (on_sqlite, (kill_server,)),
    "servers killed and paused, PostgreSQL": (on_postgres, (kill_server, pause_server)),
    "PostgreSQL killed": (on_postgres, (kill_postgres,)),
    "network cut, late, half closed": (on_postgres, NETWORK),
    "all of it": (on_postgres, (kill_server, pause_server, kill_postgres, *NETWORK)),
}


def by_chance(attacks: Sequence[Attack], seconds: float) -> Attack:
    """One after the other for so long, with time in between for something to be going on."""

    async def attack(arena: Arena) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await _let_work(arena)
            await arena.chance.choice(attacks)(arena)

    return attack


def in_turn(attacks: Sequence[Attack]) -> Attack:
    """Each once."""

    async def attack(arena: Arena) -> None:
        for each in attacks:
            await _let_work(arena)
            await each(arena)
        await _let_work(arena)

    return attack


async def _let_work(arena: Arena) -> None:
    await asyncio.sleep(arena.chance.uniform(*PAUSE_S))

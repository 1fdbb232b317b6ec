"""Our own load generator, a process of its own: the fallback for wrk, and the one for fixed rates.

`python -m bench.load_generator PORT RUN --connections N --seconds S [--rate R] [--ask] --skus SKU…`
prints the same line of JSON as `wrk_allocate.lua`.
"""

import argparse
import asyncio
import itertools
import json
import random
import time
import typing
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import uvloop

from bench.processes import HOST

DRAIN_TIMEOUT_S = 30
TICK_S = 0.001
FIRST_STATUS_DIGIT = 9  # in "HTTP/1.1 201 Created"


class Tally:
    """Latencies of the answers, and how many of them were refusals."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.refused = 0
        self.broken = 0

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[int(share * (len(ordered) - 1))] * 1e3 if ordered else 0.0

    def as_json(self, seconds: float) -> str:
        return json.dumps(
            {
                "requests": len(self.latencies_s),
                "refused": self.refused,
                "seconds": seconds,
                "p50_ms": self.percentile_ms(0.50),
                "p99_ms": self.percentile_ms(0.99),
                "broken": self.broken,
            }
        )


class Connection(asyncio.Protocol):
    """One request at a time; `ready` is called when the next one may be sent."""

    def __init__(self, tally: Tally, ready: "Callable[[Connection], None]") -> None:
        self._tally = tally
        self._ready = ready
        self._received = b""
        self._due = 0.0
        self._transport: asyncio.Transport  # once connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = typing.cast("asyncio.Transport", transport)
        self._ready(self)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not _is_complete(self._received):
            return
        self._tally.latencies_s.append(time.perf_counter() - self._due)
        self._tally.refused += self._received[FIRST_STATUS_DIGIT] != ord("2")
        self._received = b""
        self._ready(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.broken += exc is not None


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.load_generator")
    parser.add_argument("port", type=int)
    parser.add_argument("run")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="orders per second; 0: no limit")
    parser.add_argument("--ask", action="store_true", help="ask what can be promised, instead of ordering")
    parser.add_argument("--skus", nargs="+", required=True)
    uvloop.run(_generate(parser.parse_args()))


async def _generate(options: argparse.Namespace) -> None:
    tally = Tally()
    idle: deque[Connection] = deque()
    requests = _questions(options.skus) if options.ask else _requests(options.run, options.skus)
    started = time.perf_counter()
    if options.rate:
        await _connect(options, tally, idle.append)
        started = time.perf_counter()
        await _send_when_due(idle, requests, options.rate, options.seconds)
    else:
        end = started + options.seconds
        await _connect(options, tally, partial(_send_at_once, requests, end, idle))
        await asyncio.sleep(options.seconds)
    await _drain(idle, options.connections)
    print(tally.as_json(time.perf_counter() - started))


async def _connect(options: argparse.Namespace, tally: Tally, ready: Callable[[Connection], None]) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        await loop.create_connection(lambda: Connection(tally, ready), HOST, options.port)


def _send_at_once(requests: Iterator[bytes], end: float, idle: deque[Connection], connection: Connection) -> None:
    now = time.perf_counter()
    if now < end:
        connection.send(next(requests), now)
    else:
        idle.append(connection)


async def _send_when_due(idle: deque[Connection], requests: Iterator[bytes], rate: float, seconds: float) -> None:
    """An order that finds no idle connection waits, and its waiting counts."""
    started = time.perf_counter()
    sent = 0
    while (elapsed := time.perf_counter() - started) < seconds:
        while idle and sent < elapsed * rate:
            idle.popleft().send(next(requests), started + sent / rate)
            sent += 1
        await asyncio.sleep(TICK_S)


async def _drain(idle: deque[Connection], connections: int) -> None:
    deadline = time.perf_counter() + DRAIN_TIMEOUT_S
    while len(idle) < connections and time.perf_counter() < deadline:  # noqa: ASYNC110 - the hot path sets no event
        await asyncio.sleep(TICK_S)


def _requests(run: str, skus: list[str]) -> Iterator[bytes]:
    choose = random.Random(len(skus)).choice
    for number in itertools.count():
        body = f'{{"orderid":"{run}-{number}","sku":"{choose(skus)}","qty":1}}'
        yield (
            "POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


def _questions(skus: list[str]) -> Iterator[bytes]:
    choose = random.Random(len(skus)).choice
    while True:
        yield f"GET /availability/{choose(skus)}?qty=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _is_complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    _, _, after = head.lower().partition(b"content-length:")
    length = after.partition(b"\r\n")[0].strip() or b"0"
    return len(body) >= int(length)


if __name__ == "__main__":
    main()

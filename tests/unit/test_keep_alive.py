"""When a connection that nobody uses is closed, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from allocation.adapters.memory import MemoryStore
from allocation.entrypoints.http.protocol import ShortWayProtocol, short_way_protocol
from allocation.service_layer.writing.writer import Writer

TIMEOUT_S = 75
REQUEST = b"POST /allocate HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"  # refused at once, without a writer


class Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """As much of an event loop as a connection needs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + seconds, call))
        return self.timers[-1]

    def turn_to(self, now: float) -> None:
        self.now = now
        for timer in [timer for timer in self.timers if timer.due <= now]:
            self.timers.remove(timer)
            if not timer.cancelled:
                timer.call()


class Transport:
    """The far end of it."""

    def __init__(self) -> None:
        self.answers = 0
        self.closed = False

    def write(self, _: bytes) -> None:
        self.answers += 1

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, _: str) -> None:
        return None


def connected() -> tuple[Clock, Transport, ShortWayProtocol]:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("nothing takes the long way")

    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=TIMEOUT_S)
    config.load()
    clock, transport = Clock(), Transport()
    bound: Any = short_way_protocol(Writer(MemoryStore()))
    protocol = bound(config=config, server_state=ServerState(), app_state={}, _loop=clock)
    protocol.connection_made(transport)
    return clock, transport, protocol


def test_an_idle_connection_is_closed_so_long_after_its_last_answer() -> None:
    clock, transport, protocol = connected()
    for moment in (0, 50, 100):
        clock.turn_to(moment)
        protocol.data_received(REQUEST)
    assert transport.answers == 3
    assert len(clock.timers) == 1, "one timer is enough"
    clock.turn_to(174)
    assert not transport.closed
    clock.turn_to(175)
    assert transport.closed


def test_a_connection_with_a_request_under_way_is_not_closed() -> None:
    clock, transport, protocol = connected()
    protocol.data_received(REQUEST)
    clock.turn_to(74)
    protocol.data_received(REQUEST[:-1])
    clock.turn_to(1_000)
    assert not transport.closed
    protocol.data_received(REQUEST[-1:])
    clock.turn_to(1_074)
    assert not transport.closed
    clock.turn_to(1_075)
    assert (transport.answers, transport.closed) == (2, True)


def test_a_lost_connection_leaves_no_timer() -> None:
    clock, _, protocol = connected()
    protocol.data_received(REQUEST)
    protocol.connection_lost(ConnectionResetError())
    assert all(timer.cancelled for timer in clock.timers)

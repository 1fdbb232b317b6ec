"""The server process: one event loop, one writer. Several of them may share a PostgreSQL database."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from dataclasses import replace

import structlog
import uvicorn
from structlog.typing import Processor

from allocation.bootstrap import bootstrap
from allocation.config import PREFIX, Settings
from allocation.entrypoints.http.app import create_app
from allocation.entrypoints.http.protocol import short_way_protocol

BACKLOG = 4_096
KEEP_ALIVE_TIMEOUT_S = 75
SHUTDOWN_TIMEOUT_S = 30
GC_THRESHOLD = 50_000  # new objects that are still in use
SWITCH_INTERVAL_S = 0.00005  # time for which the event loop delays SQLite's thread between two of its statements

log = structlog.get_logger(__name__)


class CannotListen(Exception):
    """The address to serve at cannot be used."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Then accept no more connections, and answer every accepted request.

    Raises `CannotListen`, or the error of an unusable database, before anything is served.
    """
    _log_to_stderr()
    listener = _listen(settings.host, settings.port)
    with listener:
        service = bootstrap(replace(settings, port=listener.getsockname()[1]))
        if not settings.stock_team:
            log.info("no mail is sent", reason=f"{PREFIX}STOCK_TEAM is empty: it takes addresses, separated by commas")
        stopping = asyncio.Event()
        config = uvicorn.Config(
            create_app(service, stopping),
            loop="uvloop",
            http=short_way_protocol(service.writer),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            headers=[("server", "allocation")],
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_TIMEOUT_S,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has shut down
            signal.signal(number, lambda *_: None)
        _spare_garbage_collection()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        _Server(config, stopping).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's, which says where it listens, and tells the streams when it has to end."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("serving", url=_url(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("stopping", connections=len(self.server_state.connections))
        self._stopping.set()
        await super().shutdown(sockets)
        log.info("stopped")


def _listen(host: str, port: int) -> socket.socket:
    """A socket of its own, so that port 0 takes any free one and the one taken is known."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(f"Cannot listen on {host} port {port}: {error.strerror or error}") from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _spare_garbage_collection() -> None:
    """Objects made at start stay; objects of a request are freed with it, mostly without cycles.

    With Python's default thresholds a busy server spent a fifth of its time on examining all its objects repeatedly.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _log_to_stderr() -> None:
    """Lines for people on a terminal, JSON for machines otherwise; standard output belongs to results."""
    stamped: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(processors=[*stamped, *rendered], logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    libraries = logging.StreamHandler()
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
            foreign_pre_chain=stamped,
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries], force=True)

"""Processes under test: started, waited for, weighed, stopped."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import psutil

HOST = "127.0.0.1"
READY_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20
POLL_INTERVAL_S = 0.005
WATCH_INTERVAL_S = 0.05
LOG_TAIL_BYTES = 2_000
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Command:
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    process: psutil.Process

    def memory_mb(self) -> float:
        """Resident memory of the process and its workers."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(float(member.memory_info().rss) for member in family) / 1e6


@contextmanager
def serving(command: Command, port: int) -> Iterator[Server]:
    """Runs the command until the block ends; the block starts when `/readyz` says 200."""
    with TemporaryFile() as log:
        child = subprocess.Popen(
            command.argv,
            env={**os.environ, **command.env},
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(child, command, port, log)
            yield Server(port, psutil.Process(child.pid))
        finally:
            _stop(child)


def finished(command: Command, watch: Callable[[psutil.Process], None]) -> None:
    """Runs the command to its end, watching it at intervals; raises if it fails."""
    with TemporaryFile() as log:
        child = subprocess.Popen(command.argv, env={**os.environ, **command.env}, cwd=ROOT, stdout=log, stderr=log)
        try:
            _watch_until_end(child, watch)
        finally:
            _stop(child)
        if child.returncode:
            raise RuntimeError(f"{' '.join(command.argv)} failed:\n{_tail(log)}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def post(port: int, path: str, body: bytes, timeout_s: float = 60) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _wait_until_ready(child: subprocess.Popen[bytes], command: Command, port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _is_ready(port):
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Not ready: {' '.join(command.argv)}\n{_tail(log)}")
        time.sleep(POLL_INTERVAL_S)


def _watch_until_end(child: subprocess.Popen[bytes], watch: Callable[[psutil.Process], None]) -> None:
    process = psutil.Process(child.pid)
    while True:
        with suppress(psutil.NoSuchProcess):
            watch(process)
        with suppress(subprocess.TimeoutExpired):
            child.wait(WATCH_INTERVAL_S)
            return


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-LOG_TAIL_BYTES:].decode(errors="replace")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

"""JSON Lines through `POST /bulk`: sent and answered at the same time, with bounded memory."""

import itertools
import json
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

from bench.processes import HOST

LINES_PER_CHUNK = 500
TIMEOUT_S = 120
HEAD = (
    b"POST /bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)


class BulkRefused(Exception):
    """The stream, or a line of it, was not accepted."""


def post_lines(port: int, lines: Iterable[bytes]) -> int:
    """Returns how many lines were answered; raises at the first refusal."""
    with (
        socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        sending = pool.submit(_send, connection, iter(lines))
        answered = _count_answers(connection)
        sent = sending.result()
    if answered != sent:
        raise BulkRefused(f"{sent} lines were sent, {answered} answered")
    return answered


def _send(connection: socket.socket, lines: Iterator[bytes]) -> int:
    connection.sendall(HEAD)
    sent = 0
    while some := list(itertools.islice(lines, LINES_PER_CHUNK)):
        chunk = b"".join(some)
        connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        sent += len(some)
    connection.sendall(b"0\r\n\r\n")
    return sent


def _count_answers(connection: socket.socket) -> int:
    response = HTTPResponse(connection)
    response.begin()
    if response.status >= 300:
        raise BulkRefused(f"{response.status}: {response.read()[:500]!r}")
    answered = 0
    for line in response:
        if json.loads(line).get("status", 200) >= 300:
            raise BulkRefused(line.decode())
        answered += 1
    return answered

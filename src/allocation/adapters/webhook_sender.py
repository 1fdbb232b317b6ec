"""Posts messages to webhooks over HTTP, and only to allowed addresses.

A name is looked up once for each connection, each address found is checked, and the connection uses one of the allowed
addresses without another look-up. Redirects are not followed, and proxies of the environment are not used. The time and
memory that a target can use are limited; only the look-up of a name has the system's own limit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult

import httpcore

import allocation
from allocation.domain.errors import InvalidWebhook
from allocation.service_layer.delivering.effects import Hopeless, Unreachable
from allocation.service_layer.delivering.webhooks import (
    PRIVATE_CURE,
    Answer,
    Webhook,
    WebhookMessage,
    check_url,
    is_public,
    payload,
    signed_headers,
)

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 15.0  # from the connection to the answer's headers
BODY_TIMEOUT_S = 1.0  # for the rest of an answer, which decides nothing
MAX_BODY_BYTES = 16 * 1024  # read of an answer; its connection is closed if there is more
MAX_SHOWN = 300  # characters of an answer
MAX_CONNECTIONS = 100
MAX_ASIDE = 4  # posts at once for the event loop; others wait
KEEP_ALIVE_S = 2.0  # less than most servers keep an idle connection
PIECE_BYTES = 16 * 1024

# The addresses of a host, as `socket.getaddrinfo` finds them; raises OSError.
Resolve = Callable[[str, int], Sequence[str]]


def system_resolve(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class HttpSender:
    """Keeps connections to busy targets open for a moment. May be used by several threads at once."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = system_resolve,
        timeout_s: float = TOTAL_TIMEOUT_S,
    ) -> None:
        """``tls`` decides which servers are trusted; the default is the system's trust store."""
        self._allow_private = allow_private
        self._tls = tls
        self._backend = _CheckedBackend(resolve, allow_private=allow_private)
        self._timeout_s = timeout_s
        self._pool: httpcore.ConnectionPool | None = None
        self._pool_lock = threading.Lock()
        self._threads = ThreadPoolExecutor(MAX_ASIDE, thread_name_prefix="webhooks")

    def post(self, webhook: Webhook, message: WebhookMessage) -> Answer:
        body = payload(message)
        headers = signed_headers(webhook, message, body, datetime.now(UTC))
        headers |= {"content-type": "application/json", "user-agent": f"allocation/{allocation.__version__}"}
        try:
            parts = check_url(webhook.url, allow_private=self._allow_private)
            return self._posted(parts, headers, body)
        except InvalidWebhook as refusal:
            raise Hopeless(f"{refusal}. {refusal.cure}") from None
        except (httpcore.TimeoutException, TimeoutError):
            raise Unreachable(f"{webhook.url} did not answer in time") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Unreachable(f"{webhook.url}: {str(error) or type(error).__name__}") from error

    async def post_aside(self, webhook: Webhook, message: WebhookMessage) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.post, webhook, message)

    def close(self) -> None:
        """Close every connection there is."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._pool_lock:
            if self._pool is not None:
                self._pool.close()

    def _shared_pool(self) -> httpcore.ConnectionPool:
        """The pool of all threads, made on the first post: loading the system's certificates is slow.

        The lock is needed: from Python 3.12 on, a `functools.cached_property` is computed by several threads at once.
        """
        with self._pool_lock:
            if self._pool is None:
                self._pool = httpcore.ConnectionPool(
                    ssl_context=self._tls or ssl.create_default_context(),
                    max_connections=MAX_CONNECTIONS,
                    keepalive_expiry=KEEP_ALIVE_S,
                    network_backend=self._backend,
                )
            return self._pool

    def _posted(self, parts: SplitResult, headers: dict[str, str], body: bytes) -> Answer:
        pool = self._shared_pool()  # before the clock starts: making it is our own delay, not the target's
        deadline = time.monotonic() + self._timeout_s
        limits = {"connect": deadline, "write": deadline, "read": deadline, "pool": self._timeout_s}
        with pool.stream(
            "POST",
            _url(parts),
            headers=[("host", parts.netloc), *headers.items()],
            content=body,
            extensions={"timeout": limits},
        ) as response:
            limits["read"] = min(deadline, time.monotonic() + BODY_TIMEOUT_S)
            return Answer(response.status, _shown(_beginning(response.iter_stream())))


def _url(parts: SplitResult) -> httpcore.URL:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore.URL(
        scheme=parts.scheme.encode(), host=(parts.hostname or "").encode(), port=parts.port, target=target.encode()
    )


def _beginning(chunks: Iterable[bytes]) -> bytes:
    """The answer's body within the limits. The status is known already, so errors here do not matter."""
    read = bytearray()
    try:
        for chunk in chunks:
            read += chunk
            if len(read) > MAX_BODY_BYTES:
                break
    except (httpcore.TimeoutException, TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        pass  # the time may be over while bytes are awaited, or before they are asked for
    return bytes(read[:MAX_BODY_BYTES])


def _shown(body: bytes) -> str:
    text = body[: 4 * MAX_SHOWN].decode(errors="replace")
    return "".join(each if each.isprintable() else " " for each in text)[:MAX_SHOWN].strip()


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that may be reached only. Timeouts are moments of `time.monotonic` here, not durations."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = Unreachable(f"{host} has no address")
        addresses = self._addresses(host, port)
        until = min(timeout or 0.0, time.monotonic() + CONNECT_TIMEOUT_S)
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(address, port, _left(until), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream)
        raise failure

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{host} cannot be looked up: {error}") from error
        if self._allow_private:
            return found
        public = [each for each in found if is_public(ipaddress.ip_address(each))]
        if found and not public:
            raise Hopeless(f"{host} leads to {', '.join(found)}, which is not a public address. {PRIVATE_CURE}")
        return public


class _Stream(httpcore.NetworkStream):
    """A connection on which every step ends by the moment given as its timeout, however slowly bytes come."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), PIECE_BYTES):
            self._stream.write(buffer[start : start + PIECE_BYTES], _left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _left(deadline: float | None) -> float:
    """The seconds until then. Raises `TimeoutError` when they are over."""
    left = (deadline or 0.0) - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

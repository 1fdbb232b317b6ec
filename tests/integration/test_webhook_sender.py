"""Messages are posted to real servers, over TLS too, and to none that must not be reached."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from allocation.adapters import webhook_sender
from allocation.adapters.webhook_sender import MAX_BODY_BYTES, MAX_SHOWN, HttpSender
from allocation.service_layer.delivering.effects import Hopeless, Unreachable
from allocation.service_layer.delivering.webhooks import Answer, Webhook, WebhookMessage, new_webhook, payload, rotated
from tests.receiver import Receiver, answer, certificate

NOW = datetime.now(UTC)
MESSAGE = WebhookMessage("m1~2", "Allocated", NOW, '{"orderid":"o1","sku":"SOFA","qty":2,"batchref":"b1"}')
NAME = "hooks.example"
GIGABYTE = 1_000_000_000
TIMEOUT_S = 0.5
LIMIT_S = 5.0  # within which a busy machine, too, is done with what takes half a second


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def sender() -> Iterator[HttpSender]:
    made = HttpSender(allow_private=True, timeout_s=TIMEOUT_S)
    yield made
    made.close()


def webhook(url: str) -> Webhook:
    return new_webhook(url, allow_private=True, now=NOW)


class FakeResolver:
    """Knows one name, whose addresses are another answer each time it is asked; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def test_posts_what_an_independent_implementation_verifies(receiver: Receiver, sender: HttpSender) -> None:
    hook = webhook(receiver.url)
    assert sender.post(hook, MESSAGE) == Answer(204, "")
    (got,) = receiver.received
    assert got.path == "/hooks?of=shop"
    assert got.body == payload(MESSAGE)
    assert got.verified_by(hook.secrets[0].text)
    assert got.headers["webhook-id"] == MESSAGE.id
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["user-agent"].startswith("allocation/")


def test_a_repeat_has_the_same_id_and_body(receiver: Receiver, sender: HttpSender) -> None:
    for _ in range(2):
        sender.post(webhook(receiver.url), MESSAGE)
    first, second = receiver.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_during_a_rotation_both_secrets_verify(receiver: Receiver, sender: HttpSender) -> None:
    hook = rotated(webhook(receiver.url), timedelta(hours=1), NOW)
    sender.post(hook, MESSAGE)
    assert all(receiver.received[0].verified_by(secret.text) for secret in hook.secrets)


def test_posts_one_after_the_other_share_a_connection(receiver: Receiver, sender: HttpSender) -> None:
    receiver.reply = lambda handler: answer(handler, 200, b'{"ok": true}')
    for _ in range(5):
        assert sender.post(webhook(receiver.url), MESSAGE) == Answer(200, '{"ok": true}')
    assert receiver.connections == 1


def test_follows_no_redirect(receiver: Receiver, sender: HttpSender) -> None:
    with Receiver() as elsewhere:
        receiver.reply = lambda handler: answer(handler, 307, b"over there", location=elsewhere.url)
        assert sender.post(webhook(receiver.url), MESSAGE) == Answer(307, "over there")
        assert elsewhere.received == []


def test_uses_no_proxy_of_the_environment(
    receiver: Receiver, sender: HttpSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        sender.post(webhook(receiver.url), MESSAGE)
        assert (len(receiver.received), len(proxy.received)) == (1, 0)


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
def test_tells_what_the_target_answers(receiver: Receiver, sender: HttpSender, status: int) -> None:
    said = b"no: \x1b[31mred\x07\r\nnext \xff" + b"x" * 10_000
    receiver.reply = lambda handler: answer(handler, status, said)
    told = sender.post(webhook(receiver.url), MESSAGE)
    assert told.status == status
    assert told.text.startswith("no:  [31mred   next ")
    assert told.text.isprintable()
    assert len(told.text) == MAX_SHOWN


def test_reads_the_beginning_only_of_an_answer_without_end(receiver: Receiver, sender: HttpSender) -> None:
    sent = 0

    def gigabyte(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("content-length", str(GIGABYTE))
        handler.end_headers()
        while sent < GIGABYTE:
            sent += handler.wfile.write(b"x" * 65_536)

    receiver.reply = gigabyte
    assert sender.post(webhook(receiver.url), MESSAGE) == Answer(200, "x" * MAX_SHOWN)
    assert sent < GIGABYTE / 10  # what was on its way when the connection was closed
    assert MAX_BODY_BYTES < GIGABYTE / 10


def test_gives_up_on_headers_without_end(receiver: Receiver, sender: HttpSender) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers = lambda: None  # type: ignore[method-assign]  # never
        handler.flush_headers()
        while True:
            handler.wfile.write(b"more: " + b"x" * 10_000 + b"\r\n")

    receiver.reply = endless
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        sender.post(webhook(receiver.url), MESSAGE)


def hang(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    receiver.closing.wait()


def drip_headers(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
    while not receiver.closing.wait(TIMEOUT_S / 10):
        handler.wfile.write(b"x")


@pytest.mark.parametrize("slow", [hang, drip_headers])
def test_waits_no_longer_than_it_may(receiver: Receiver, sender: HttpSender, slow: object) -> None:
    assert callable(slow)
    receiver.reply = lambda handler: slow(receiver, handler)
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:\d+/hooks\?of=shop did not answer in time"):
        sender.post(webhook(receiver.url), MESSAGE)
    assert TIMEOUT_S * 0.9 < time.monotonic() - started < LIMIT_S


@pytest.mark.parametrize("body_timeout_s", [0.1, 0.0], ids=["ends while it is read", "is over before it is read"])
def test_a_body_that_never_ends_does_not_undo_a_success(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, body_timeout_s: float
) -> None:
    monkeypatch.setattr(webhook_sender, "BODY_TIMEOUT_S", body_timeout_s)

    def drip_body(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        while not receiver.closing.wait(0.01):
            handler.wfile.write(b"x")

    receiver.reply = drip_body
    sender = HttpSender(allow_private=True, timeout_s=LIMIT_S)
    started = time.monotonic()
    assert sender.post(webhook(receiver.url), MESSAGE).status == 200
    assert time.monotonic() - started < LIMIT_S / 2  # and so the body's own limit it was
    sender.close()


def test_a_server_that_never_accepts_is_given_up(sender: HttpSender) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="did not answer in time"):
            sender.post(webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/"), MESSAGE)
        assert time.monotonic() - started < LIMIT_S


def test_a_refused_connection_is_unreachable(sender: HttpSender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port}.*[Rr]efused"):
        sender.post(webhook(f"http://127.0.0.1:{port}/"), MESSAGE)


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 100])
def test_what_is_no_http_is_unreachable(sender: HttpSender, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100_000)
                connection.sendall(said)

        talking = threading.Thread(target=talk)
        talking.start()
        with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1"):
            sender.post(webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/"), MESSAGE)
        talking.join()


@pytest.mark.parametrize("name", ["nobody.invalid", f"{'x' * 64}.example", "a..example"])
def test_a_name_that_nobody_knows_is_unreachable(sender: HttpSender, name: str) -> None:
    with pytest.raises(Unreachable, match=f"{name} cannot be looked up"):
        sender.post(webhook(f"http://{name}/"), MESSAGE)


def test_a_name_without_an_address_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=f"{NAME} has no address"):
        HttpSender(resolve=FakeResolver([])).post(webhook(f"https://{NAME}/"), MESSAGE)


@pytest.mark.parametrize(
    "addresses",
    [
        *(["127.0.0.1"], ["10.0.0.1", "192.168.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["fe80::1%lo"], ["0.0.0.0"]),  # noqa: S104
        *(["169.254.169.254"], ["224.0.0.1"], ["64:ff9b::7f00:1"]),
    ],
    ids=str,
)
def test_a_name_that_leads_into_our_network_is_refused(receiver: Receiver, addresses: list[str]) -> None:
    sender = HttpSender(resolve=FakeResolver(addresses))
    with pytest.raises(Hopeless, match=rf"{NAME} leads to .*not a public address.*ALLOW_PRIVATE"):
        sender.post(webhook(f"https://{NAME}:{receiver.port}/"), MESSAGE)
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "shop.localhost"])
def test_our_own_address_spelled_otherwise_is_refused(receiver: Receiver, host: str) -> None:
    with pytest.raises(Hopeless, match=r"leads to .*not a public address.*ALLOW_PRIVATE"):
        HttpSender().post(webhook(f"https://{host}:{receiver.port}/"), MESSAGE)
    assert receiver.connections == 0


def test_a_webhook_kept_from_when_private_targets_were_allowed_is_refused(receiver: Receiver) -> None:
    for url in (receiver.url, receiver.url.replace("http:", "https:")):
        with pytest.raises(Hopeless, match=r"not encrypted|not a public address"):
            HttpSender().post(webhook(url), MESSAGE)
    assert receiver.connections == 0


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The addresses that were to be connected to, each of which refuses: tests need no Internet."""
    asked: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(connected: list[tuple[str, int]]) -> None:
    """The attack: public when it is judged, our own when it is connected to."""
    resolver = FakeResolver(["8.8.8.8"], ["127.0.0.1"])
    with pytest.raises(Unreachable):
        HttpSender(resolve=resolver).post(webhook(f"https://{NAME}:8443/"), MESSAGE)
    assert resolver.asked == [NAME]
    assert connected == [("8.8.8.8", 8443)]


def test_the_private_ones_among_many_addresses_are_passed_over(connected: list[tuple[str, int]]) -> None:
    addresses = ["127.0.0.1", "8.8.8.8", "::1", "2606:4700::1111"]
    with pytest.raises(Unreachable):
        HttpSender(resolve=FakeResolver(addresses)).post(webhook(f"https://{NAME}/"), MESSAGE)
    assert connected == [("8.8.8.8", 443), ("2606:4700::1111", 443)]


def test_the_next_address_is_tried_when_one_does_not_answer(receiver: Receiver) -> None:
    sender = HttpSender(allow_private=True, resolve=FakeResolver(["127.0.0.2", "127.0.0.1"]))
    assert sender.post(webhook(f"http://{NAME}:{receiver.port}/"), MESSAGE).status == 204
    assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"
    sender.close()


def test_speaks_tls_to_the_name_though_it_connects_to_the_address(tmp_path: Path) -> None:
    server, trusting = certificate(tmp_path, NAME)
    asked: list[object] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    with Receiver(tls=server) as receiver:
        sender = HttpSender(allow_private=True, tls=trusting, resolve=FakeResolver(["127.0.0.1"]))
        hook = webhook(f"https://{NAME}:{receiver.port}/hooks")
        assert [sender.post(hook, MESSAGE).status for _ in range(3)] == [204] * 3
        sender.close()
    assert asked == [NAME]
    assert receiver.connections == 1
    assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"
    assert receiver.received[0].verified_by(hook.secrets[0].text)


@pytest.mark.parametrize("trusts", ["another name", "nobody"])
def test_says_nothing_to_a_server_that_cannot_prove_its_name(tmp_path: Path, trusts: str) -> None:
    server, trusting = certificate(tmp_path, NAME)
    with Receiver(tls=server) as receiver:
        name, tls = ("shop.example", trusting) if trusts == "another name" else (NAME, ssl.create_default_context())
        sender = HttpSender(allow_private=True, tls=tls, resolve=FakeResolver(["127.0.0.1"]))
        with pytest.raises(Unreachable, match="certificate verify failed"):
            sender.post(webhook(f"https://{name}:{receiver.port}/"), MESSAGE)
    assert receiver.received == []


def test_many_threads_may_post_at_once(receiver: Receiver, sender: HttpSender) -> None:
    statuses: list[int] = []

    def post() -> None:
        statuses.extend(sender.post(webhook(receiver.url), MESSAGE).status for _ in range(20))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [204] * 160


def test_threads_that_start_together_load_the_certificates_once_and_not_on_the_target_s_time(
    receiver: Receiver, sender: HttpSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[ssl.SSLContext] = []
    load = ssl.create_default_context

    def load_slowly() -> ssl.SSLContext:
        time.sleep(1.2 * TIMEOUT_S)
        loaded.append(load())
        return loaded[-1]

    monkeypatch.setattr("allocation.adapters.webhook_sender.ssl.create_default_context", load_slowly)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: sender.post(webhook(receiver.url), MESSAGE), range(8)))
    assert [answer.status for answer in answers] == [204] * 8
    assert len(loaded) == 1

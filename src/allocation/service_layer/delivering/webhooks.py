"""Webhooks: URLs to which events are posted, as in the Standard Webhooks specification 1.0.0.

A message is JSON ``{"type": …, "timestamp": …, "data": {…}}``. Its id is the same in each attempt. It has a
signature for each valid secret: base64 of HMAC-SHA256 of ``id.timestamp.body``, with the timestamp of the attempt.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import ipaddress
import re
import secrets
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import msgspec
import structlog
import uuid_utils

from allocation.domain.errors import InvalidWebhook
from allocation.service_layer.delivering.effects import Deliver, Delivery, Hopeless, Unreachable
from allocation.service_layer.handlers import BY_THE_CLOCK, HANDLERS
from allocation.service_layer.writing.store import StoreUnavailable

MAX_URL_LENGTH = 1_000
MAX_DESCRIPTION_LENGTH = 255
MAX_WEBHOOKS = 100
MAX_SECRETS = 5  # signatures of a message; with more, the oldest secrets end early
MAX_REASON_LENGTH = 500
SECRET_BYTES = 32
DEFAULT_OVERLAP_H = 24
MAX_OVERLAP_H = 720

ID_PREFIX = "wh_"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret
TEST_TYPE = "webhook.test"
EFFECT = "post_webhook"  # followed by the webhook's id in deliveries, so that each webhook has its own lanes

GONE = 410
BUSY = frozenset({408, 425, 429})  # in addition to everything from 500 on

EVENT_TYPES: Final[Sequence[str]] = tuple(sorted(kind.__name__ for kind in HANDLERS))
FACT_TYPES: Final = frozenset(
    kind.__name__ for kind, handlers in HANDLERS.items() if not handlers or kind in BY_THE_CLOCK
)

LOCAL_NAME = "localhost"  # and all names below it: RFC 6761, section 6.3
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_URL_CURE = "Give a URL such as https://example.com/hooks, without name, password or #fragment."

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

log = structlog.get_logger(__name__)


class Secret(NamedTuple):
    """A secret that signs messages until ``ends_at``; None: it does not end."""

    text: str
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to post events. ``event_types`` empty: all facts. ``secrets``: the current one first."""

    id: str
    url: str
    description: str
    event_types: tuple[str, ...]
    secrets: tuple[Secret, ...] = field(repr=False)
    created_at: datetime
    disabled_at: datetime | None = None
    disabled_reason: str = ""

    def wants(self, event_type: str) -> bool:
        """Whether messages of this type are to be posted."""
        return self.disabled_at is None and event_type in (self.event_types or FACT_TYPES)

    def secrets_at(self, moment: datetime) -> Sequence[Secret]:
        """The valid secrets."""
        return [each for each in self.secrets if each.ends_at is None or each.ends_at > moment]


class WebhookMessage(NamedTuple):
    """A message to post. ``id`` is its id in the ledger, ``body`` the event's fields as JSON."""

    id: str
    type: str
    recorded_at: datetime
    body: str


class Answer(NamedTuple):
    """The target's answer; ``text`` is its beginning, safe for a log or a terminal."""

    status: int
    text: str

    def __str__(self) -> str:
        return f"{self.status} {self.text}".rstrip()


class Declined(Exception):
    """The target rejects this message; it may accept others."""


class Gone(Exception):
    """The target wants no more messages."""


class Webhooks(Protocol):
    """The store of webhooks. Every method raises `StoreUnavailable`."""

    async def all(self) -> Sequence[Webhook]:
        """All webhooks, oldest first."""

    async def find(self, id_: str) -> Webhook | None:
        """The webhook, or None if there is none with this id."""

    async def add(self, webhook: Webhook) -> None:
        """Store a new webhook. Raises `WebhookConflict` or `TooManyWebhooks`."""

    async def change(self, id_: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        """Replace the webhook by the result of ``change``, in one transaction. Raises `UnknownWebhook`."""

    async def remove(self, id_: str) -> None:
        """Delete the webhook. Raises `UnknownWebhook`."""


class Sender(Protocol):
    """Posts messages."""

    def post(self, webhook: Webhook, message: WebhookMessage) -> Answer:
        """Post the message and return the target's answer with any status.

        Raises `Unreachable` if there is no answer, `Hopeless` if the URL leads to an address that is not allowed.

        Blocks for a limited time, so call it in a thread.
        """

    async def post_aside(self, webhook: Webhook, message: WebhookMessage) -> Answer:
        """The same for the event loop, in one of a few threads of its own."""


def new_webhook(
    url: str, event_types: Sequence[str] = (), description: str = "", *, allow_private: bool, now: datetime
) -> Webhook:
    """A webhook with an id and a secret of its own. Raises `InvalidWebhook`."""
    check_url(url, allow_private=allow_private)
    for each in event_types:
        if each not in EVENT_TYPES:
            raise InvalidWebhook(f"Unknown event type {ascii(each)[:60]}", f"Use some of {', '.join(EVENT_TYPES)}.")
    if len(description) > MAX_DESCRIPTION_LENGTH or not description.isprintable():
        raise InvalidWebhook(
            f"The description is {ascii(description)[:60]}",
            f"It takes up to {MAX_DESCRIPTION_LENGTH} printable characters.",
        )
    types = tuple(sorted(set(event_types)))
    return Webhook(f"{ID_PREFIX}{uuid_utils.uuid7().hex}", url, description, types, (_new_secret(),), now)


def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """The URL's parts. Raises `InvalidWebhook` if the URL alone shows that posting there is not allowed."""
    parts = _split(url)
    if parts.scheme == "http" and not allow_private:
        raise InvalidWebhook(
            f"{url} is not encrypted",
            "Use https. Plain http is for targets in a network of your own: ALLOCATION_WEBHOOKS_ALLOW_PRIVATE=true.",
        )
    if allow_private:
        return parts
    host = (parts.hostname or "").rstrip(".")
    if host == LOCAL_NAME or host.endswith(f".{LOCAL_NAME}"):
        raise InvalidWebhook(f"{url} leads to {host}, which is not a public address", PRIVATE_CURE)
    address = _literal(host)  # other names are looked up for each post
    if address is not None and not is_public(address):
        raise InvalidWebhook(f"{url} leads to {address}, which is not a public address", PRIVATE_CURE)
    return parts


def _literal(host: str) -> Address | None:
    """The address written in place of a host name, old forms such as ``127.1`` included; None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


PRIVATE_CURE = "Use a public address, or set ALLOCATION_WEBHOOKS_ALLOW_PRIVATE=true to allow targets in your network."


def _split(url: str) -> SplitResult:
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL_LENGTH:
        raise InvalidWebhook(
            f"{ascii(url)[:60]} is not a usable URL",
            f"Give at most {MAX_URL_LENGTH} characters of ASCII without spaces; encode others (%20, xn--).",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidWebhook(f"{url[:60]} is not a URL: {error}", _URL_CURE) from None
    names_a_host = _HOST_NAME.fullmatch(parts.hostname or "") or parts.netloc.startswith("[")
    if parts.scheme not in {"https", "http"} or not names_a_host or port == 0 or "@" in parts.netloc or "#" in url:
        raise InvalidWebhook(f"{url[:60]} is not a URL to post to", _URL_CURE)
    return parts


def is_public(address: Address) -> bool:
    """Whether this is the address of one host on the Internet: not of our own network, and not in disguise."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(address.packed[-4:]))
        if address.ipv4_mapped or address.sixtofour or address.teredo or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def rotated(webhook: Webhook, overlap: timedelta, now: datetime) -> Webhook:
    """The webhook with a new secret; older ones stay valid for at most ``overlap``."""
    end = now + overlap
    older = [Secret(each.text, min(each.ends_at or end, end)) for each in webhook.secrets_at(now)] if overlap else []
    return replace(webhook, secrets=(_new_secret(), *older[: MAX_SECRETS - 1]))


def disabled(webhook: Webhook, reason: str, now: datetime) -> Webhook:
    """The webhook, disabled. The first reason is kept."""
    if webhook.disabled_at is not None:
        return webhook
    return replace(webhook, disabled_at=now, disabled_reason=reason[:MAX_REASON_LENGTH])


def enabled(webhook: Webhook) -> Webhook:
    """The webhook, enabled for events from now on."""
    return replace(webhook, disabled_at=None, disabled_reason="")


def _new_secret() -> Secret:
    return Secret(SECRET_PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def payload(message: WebhookMessage) -> bytes:
    """The body, the same each time the message is posted."""
    data = msgspec.Raw(message.body.encode())
    return msgspec.json.encode({"type": message.type, "timestamp": message.recorded_at, "data": data})


def signed_headers(webhook: Webhook, message: WebhookMessage, body: bytes, now: datetime) -> dict[str, str]:
    """The headers with the id, the time and the signatures of the message."""
    # Ids chosen by senders may have any character; a full stop would be ambiguous in the signed text.
    id_ = quote(message.id, safe="~").replace(".", "%2E")
    timestamp = str(int(now.timestamp()))
    signed = f"{id_}.{timestamp}.".encode() + body
    signatures = [f"v1,{_signature(each.text, signed)}" for each in webhook.secrets_at(now)]
    return {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def _signature(secret: str, signed: bytes) -> str:
    return b64encode(hmac.digest(b64decode(secret.removeprefix(SECRET_PREFIX)), signed, "sha256")).decode()


def check(answer: Answer) -> None:
    """Return if the target accepted the message. Raises `Gone`, `Declined`, or `Unreachable` if a retry may succeed."""
    if answer.status // 100 == 2:  # noqa: PLR2004 - the class of success
        return
    if answer.status == GONE:
        raise Gone(f"answered {answer}")
    if answer.status // 100 == 3:  # noqa: PLR2004 - the class of redirections
        raise Declined(f"answered {answer}: redirects are not followed, give the webhook the URL it leads to")
    if answer.status // 100 != 4 or answer.status in BUSY:  # noqa: PLR2004 - the class of client errors
        raise Unreachable(f"answered {answer}")
    raise Declined(f"answered {answer}")


def effect_name(webhook_id: str) -> str:
    """The name of the effect in a webhook's deliveries."""
    return f"{EFFECT}/{webhook_id}"


class PostWebhook:
    """The effect. It is started in the event loop, and called in threads while the loop runs."""

    def __init__(self, webhooks: Webhooks, sender: Sender) -> None:
        self._webhooks = webhooks
        self._sender = sender

    def start(self) -> None:
        """Use the running event loop to read the webhooks from now on."""
        self._loop = asyncio.get_running_loop()

    def find(self, name: str) -> Deliver | None:
        """The effect of one webhook, by the name that `effect_name` gives it."""
        effect, _, webhook_id = name.partition("/")
        return functools.partial(self._deliver, webhook_id) if effect == EFFECT else None

    def _deliver(self, webhook_id: str, delivery: Delivery) -> None:
        if delivery.recorded_at is None:
            raise Hopeless(f"the ledger does not have message {delivery.id}")
        self(WebhookMessage(delivery.id, delivery.type, delivery.recorded_at, delivery.body), webhook_id)

    def __call__(self, message: WebhookMessage, webhook_id: str) -> None:
        """Post the message. If the webhook was removed or disabled, do nothing. Raises the same errors as `check`.

        If the target is gone, disable the webhook.
        """
        webhook = self._wait(self._webhooks.find(webhook_id))
        if webhook is None or webhook.disabled_at is not None:
            return
        try:
            check(self._sender.post(webhook, message))
        except Gone as gone:
            reason = str(gone)
            now = datetime.now(UTC)
            self._wait(self._webhooks.change(webhook_id, lambda found: disabled(found, reason, now)))
            log.warning("webhook disabled", webhook=webhook_id, url=webhook.url, reason=reason)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine in the event loop, which has its own time limits."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except StoreUnavailable as error:
            raise Unreachable(f"the webhook cannot be read: {error}") from error


class Tried(NamedTuple):
    """The result of a test message; ``answer`` is None if there was none."""

    delivered: bool
    answer: Answer | None
    said: str


async def try_webhook(webhook: Webhook, sender: Sender) -> Tried:
    """Post a test message, even to a disabled webhook. The answer changes nothing."""
    body = msgspec.json.encode({"webhook": webhook.id}).decode()
    message = WebhookMessage(f"test_{uuid_utils.uuid7()}", TEST_TYPE, datetime.now(UTC), body)
    try:
        answer = await sender.post_aside(webhook, message)
    except (Unreachable, Hopeless) as error:
        return Tried(delivered=False, answer=None, said=str(error))
    try:
        check(answer)
    except (Unreachable, Gone, Declined) as error:
        return Tried(delivered=False, answer=answer, said=str(error))
    return Tried(delivered=True, answer=answer, said=f"answered {answer}")

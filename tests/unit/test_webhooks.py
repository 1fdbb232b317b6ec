"""What a webhook may be, what it wants, how its messages are signed, and what answers mean."""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from allocation.domain.errors import InvalidWebhook
from allocation.service_layer.delivering.effects import Unreachable
from allocation.service_layer.delivering.webhooks import (
    EVENT_TYPES,
    FACT_TYPES,
    MAX_SECRETS,
    MAX_URL_LENGTH,
    Answer,
    Declined,
    Gone,
    Secret,
    Webhook,
    WebhookMessage,
    check,
    disabled,
    is_public,
    new_webhook,
    payload,
    rotated,
    signed_headers,
)
from allocation.service_layer.handlers import BY_THE_CLOCK
from allocation.service_layer.messages import incoming_types

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
URL = "https://shop.example/hooks"
MESSAGE = WebhookMessage("m1~2", "Allocated", NOW, '{"orderid":"o1","sku":"SOFA","qty":2,"batchref":"b1"}')
HOUR = timedelta(hours=1)
HOWTO = Path(__file__).parents[2] / "docs/howto/webhooks.md"


def webhook(*event_types: str, url: str = URL) -> Webhook:
    return new_webhook(url, event_types, allow_private=False, now=NOW)


def test_wants_every_fact_unless_it_names_some() -> None:
    assert set(filter(webhook().wants, EVENT_TYPES)) == FACT_TYPES
    assert FACT_TYPES & set(incoming_types()) == {kind.__name__ for kind in BY_THE_CLOCK}
    chosen = webhook("Allocated", "Backordered", "Allocated")
    assert chosen.event_types == ("Allocated", "Backordered")
    assert [type_ for type_ in EVENT_TYPES if chosen.wants(type_)] == ["Allocated", "Backordered"]


def test_wants_what_comes_from_outside_where_it_is_named() -> None:
    assert webhook(*EVENT_TYPES).event_types == EVENT_TYPES
    chosen = webhook("RulesChanged", "BatchCreated")
    assert [type_ for type_ in EVENT_TYPES if chosen.wants(type_)] == ["BatchCreated", "RulesChanged"]


def test_wants_nothing_once_it_is_disabled() -> None:
    closed = disabled(webhook(), "answered 410", NOW)
    assert not any(map(closed.wants, EVENT_TYPES))
    assert disabled(closed, "again", NOW + HOUR) == closed


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example:8443/hooks?a=b&c=%20",
        "HTTPS://SHOP.example/hooks",
        "https://8.8.8.8/",
        "https://localhost.example/",
        "https://notlocalhost/",
        "https://[2606:4700::1111]/hooks",
        "https://xn--mbel-5qa.example/",
        f"https://shop.example/{'x' * (MAX_URL_LENGTH - 21)}",
    ],
)
def test_takes_a_url(url: str) -> None:
    assert webhook(url=url).url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "not a URL to post to"),
        ("shop.example/hooks", "not a URL to post to"),
        ("ftp://shop.example/hooks", "not a URL to post to"),
        ("file:///etc/passwd", "not a URL to post to"),
        ("https://", "not a URL to post to"),
        ("https:///hooks", "not a URL to post to"),
        ("https://anna:secret@shop.example/hooks", "not a URL to post to"),
        ("https://@shop.example/hooks", "not a URL to post to"),
        ("https://shop.example/hooks#top", "not a URL to post to"),
        ("https://shop.example/hooks#", "not a URL to post to"),
        ("https://shop.example:0/", "not a URL to post to"),
        ("https://shop$example/", "not a URL to post to"),
        ("https://shop.example:99999/", "Port out of range"),
        ("https://shop.example:http/", "Port could not be cast"),
        ("https://[::1", "Invalid IPv6 URL"),
        ("https://[shop]/", "not a URL"),
        ("https://shop.example/a b", "not a usable URL"),
        ("https://shop.example/\r\nx: y", "not a usable URL"),
        ("https://möbel.example/", "not a usable URL"),
        (f"https://shop.example/{'x' * MAX_URL_LENGTH}", "not a usable URL"),
        ("http://shop.example/hooks", "not encrypted"),
        ("https://127.0.0.1/hooks", "leads to 127.0.0.1, which is not a public address"),
        ("https://127.0.0.1./hooks", "leads to 127.0.0.1, which is not a public address"),
        ("https://127.1/hooks", "leads to 127.0.0.1, which is not a public address"),
        ("https://2130706433/hooks", "leads to 127.0.0.1, which is not a public address"),
        ("https://0x7f.1/hooks", "leads to 127.0.0.1, which is not a public address"),
        ("https://localhost/hooks", "leads to localhost, which is not a public address"),
        ("https://LOCALHOST.:8443/", "leads to localhost, which is not a public address"),
        ("https://shop.localhost/hooks", "leads to shop.localhost, which is not a public address"),
        ("https://169.254.169.254/latest/meta-data", "not a public address"),
        ("https://[::1]/hooks", "leads to ::1, which is not a public address"),
        ("https://[::ffff:8.8.8.8]/hooks", "not a public address"),
    ],
)
def test_refuses_a_url_with_the_cure(url: str, reason: str) -> None:
    with pytest.raises(InvalidWebhook, match=reason) as refusal:
        webhook(url=url)
    assert refusal.value.cure


def test_allows_plain_and_private_targets_where_they_are_allowed() -> None:
    for url in ("http://shop.example/", "http://127.0.0.1:8080/hooks", "https://[::1]/", "https://localhost/"):
        assert new_webhook(url, allow_private=True, now=NOW).url == url


@pytest.mark.parametrize("event_type", ["Nope", "", "allocated", "Event", "webhook.test"])
def test_refuses_what_is_no_event(event_type: str) -> None:
    with pytest.raises(InvalidWebhook, match=r"Unknown event type") as refusal:
        webhook(event_type)
    assert "Allocated, Backordered" not in str(refusal.value)
    assert "Allocated, " in refusal.value.cure
    assert "BatchCreated, " in refusal.value.cure


@pytest.mark.parametrize("description", ["x" * 256, "a\nb", "\x00"])
def test_refuses_a_description(description: str) -> None:
    with pytest.raises(InvalidWebhook, match="The description is"):
        new_webhook(URL, (), description, allow_private=False, now=NOW)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1"),  # noqa: S104
        *("192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *(
            "::",
            "::1",
            "::7f00:1",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "2002:7f00:1::", "2001:0:1::", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    ],
)
def test_knows_what_is_no_public_address(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "172.15.0.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_knows_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_message_is_what_the_specification_says() -> None:
    assert json.loads(payload(MESSAGE)) == {
        "type": "Allocated",
        "timestamp": "2026-01-31T12:00:00Z",
        "data": {"orderid": "o1", "sku": "SOFA", "qty": 2, "batchref": "b1"},
    }


def test_is_signed_as_an_independent_implementation_signs() -> None:
    hook, body = webhook(), payload(MESSAGE)
    headers = signed_headers(hook, MESSAGE, body, NOW)
    assert headers["webhook-id"] == "m1~2"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert headers["webhook-signature"] == Verifier(hook.secrets[0].text).sign("m1~2", NOW, body.decode())


def test_the_receiver_in_the_documentation_takes_what_is_ours_and_nothing_else() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", HOWTO.read_text(), re.MULTILINE | re.DOTALL)
    assert len(block.split("\n\n")[-1].splitlines()) < 8
    documented: dict[str, Any] = {}
    exec(block, documented)  # noqa: S102 - it is what receivers are told to do
    is_ours = documented["is_ours"]
    now = datetime.now(UTC)
    hook, body = rotated(webhook(), HOUR, now), payload(MESSAGE)
    headers = signed_headers(hook, MESSAGE, body, now)
    assert all(is_ours(secret.text, headers, body) for secret in hook.secrets)
    assert not is_ours(webhook().secrets[0].text, headers, body)
    assert not is_ours(hook.secrets[0].text, headers, body.replace(b"2", b"3"))
    assert not is_ours(hook.secrets[0].text, headers | {"webhook-id": "m1~3"}, body)
    assert not is_ours(hook.secrets[0].text, signed_headers(hook, MESSAGE, body, now - HOUR / 10), body)


@pytest.mark.parametrize(
    ("id_", "sent"),
    [
        ("018f3c-9~12", "018f3c-9~12"),
        ("a.b", "a%2Eb"),
        ("ü 鍵", "%C3%BC%20%E9%8D%B5"),
        ("a\u2028b%", "a%E2%80%A8b%25"),
        (" x ", "%20x%20"),
    ],
)
def test_any_id_fits_into_a_header_and_stays_unlike_others(id_: str, sent: str) -> None:
    headers = signed_headers(webhook(), MESSAGE._replace(id=id_), b"{}", NOW)
    assert headers["webhook-id"] == sent


def test_every_secret_in_force_signs() -> None:
    now = datetime.now(UTC)
    hook, body = rotated(webhook(), HOUR, now), payload(MESSAGE)
    headers = signed_headers(hook, MESSAGE, body, now)
    assert len(headers["webhook-signature"].split(" ")) == len(hook.secrets) == 2
    for secret in hook.secrets:
        Verifier(secret.text).verify(body, headers)


def test_an_older_secret_never_lasts_longer_by_another_rotation() -> None:
    twice = rotated(rotated(webhook(), HOUR, NOW), 2 * HOUR, NOW + HOUR / 2)
    assert [each.ends_at for each in twice.secrets] == [None, NOW + 2.5 * HOUR, NOW + HOUR]


def test_an_old_secret_signs_no_more_when_its_time_is_over() -> None:
    now = datetime.now(UTC)
    old = webhook()
    body = payload(MESSAGE)
    for new, moment in ((rotated(old, HOUR, now - HOUR), now), (rotated(old, timedelta(0), now), now)):
        headers = signed_headers(new, MESSAGE, body, moment)
        Verifier(new.secrets[0].text).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Verifier(old.secrets[0].text).verify(body, headers)


def test_keeps_a_few_secrets_only() -> None:
    hook = webhook()
    for _ in range(MAX_SECRETS + 2):
        hook = rotated(hook, HOUR, NOW)
    assert len(hook.secrets) == len({each.text for each in hook.secrets}) == MAX_SECRETS


def test_secrets_are_random_and_never_shown_with_the_webhook() -> None:
    first, second = webhook(), webhook()
    assert first.secrets[0] != second.secrets[0]
    assert isinstance(first.secrets[0], Secret)
    assert first.secrets[0].text.startswith("whsec_")
    assert first.secrets[0].text not in repr(first)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_success(status: int) -> None:
    check(Answer(status, ""))


@pytest.mark.parametrize("status", [101, 408, 425, 429, 500, 502, 503, 504, 599, 700])
def test_a_target_that_is_busy_or_down_says_nothing_about_the_message(status: int) -> None:
    with pytest.raises(Unreachable, match=f"answered {status} oh no"):
        check(Answer(status, "oh no"))


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 409, 413, 422, 451])
def test_other_refusals_are_about_the_message(status: int) -> None:
    with pytest.raises(Declined, match=f"answered {status} no such order"):
        check(Answer(status, "no such order"))


def test_gone_is_gone() -> None:
    with pytest.raises(Gone, match="answered 410 moved out"):
        check(Answer(410, "moved out"))

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from allocation.config import CHOICES, InvalidSetting, Settings
from allocation.domain.fields import STRATEGIES
from allocation.domain.rules import PREFERRED_LOCATION, USUAL

ZONES = "use a name such as Europe/Berlin, or UTC"


def test_without_environment_the_service_is_embedded_and_private() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert (settings.database_url, settings.host, settings.port) == ("sqlite:///allocation.db", "127.0.0.1", 8000)


def test_every_setting_is_read_from_its_own_variable() -> None:
    given: dict[type, tuple[str, Any]] = {str: ("text", "text"), int: ("37", 37), bool: ("true", True)}
    others: dict[str, tuple[str, Any]] = {
        "keep_closed_days": ("37", 37),
        "mail_digest_hour": ("7", 7),
        "public_url": ("https://stock.example.com/", "https://stock.example.com"),
        "time_zone": ("Asia/Seoul", "Asia/Seoul"),
        "stock_team": ("ann@example.com", ("ann@example.com",)),
        **{name: (choices[-1], choices[-1]) for name, choices in CHOICES.items()},
    }
    for each in dataclasses.fields(Settings):
        text, value = others.get(each.name) or given[type(getattr(Settings(), each.name))]
        settings = Settings.from_environment({f"ALLOCATION_{each.name.upper()}": text, each.name: "ignored"})
        changed: dict[str, Any] = {each.name: value}
        assert settings == dataclasses.replace(Settings(), **changed)


def test_the_strategies_are_those_of_the_rules() -> None:
    assert set(CHOICES["strategy"]) == {*STRATEGIES} - {PREFERRED_LOCATION}, "which needs a location"
    assert Settings().strategy == USUAL.strategy


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1", True),
        ("TRUE", True),
        ("yes", True),
        ("on", True),
        ("0", False),
        ("No", False),
        ("off", False),
        ("", False),
    ],
)
def test_a_switch_takes_the_usual_words(text: str, meant: bool) -> None:
    assert Settings.from_environment({"ALLOCATION_SMTP_TLS": text}).smtp_tls is meant


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "ALLOCATION_SMTP_TLS",
            "maybe",
            "ALLOCATION_SMTP_TLS is 'maybe': use false, starttls (or true) or implicit",
        ),
        (
            "ALLOCATION_WEBHOOKS_ALLOW_PRIVATE",
            "maybe",
            "ALLOCATION_WEBHOOKS_ALLOW_PRIVATE is 'maybe': use true or false",
        ),
        ("ALLOCATION_MAIL_DIGEST_HOUR", "24", "ALLOCATION_MAIL_DIGEST_HOUR is '24': use 23 or less"),
        ("ALLOCATION_MAIL_DIGEST_HOUR", "-1", "ALLOCATION_MAIL_DIGEST_HOUR is '-1': use a whole number"),
        ("ALLOCATION_PORT", "http", "ALLOCATION_PORT is 'http': use a whole number"),
        ("ALLOCATION_PORT", "-1", "ALLOCATION_PORT is '-1': use a whole number"),
        ("ALLOCATION_PORT", "80.5", "ALLOCATION_PORT is '80.5': use a whole number"),
        ("ALLOCATION_PORT", "", "ALLOCATION_PORT is '': use a whole number"),
        ("ALLOCATION_PORT", "٨٠", "ALLOCATION_PORT is '٨٠': use a whole number"),
        (
            "ALLOCATION_STRATEGY",
            "cheapest",
            "ALLOCATION_STRATEGY is 'cheapest': use warehouse-first, first-expired, just-in-time",
        ),
        ("ALLOCATION_MAX_PREVIEWS", "0", "ALLOCATION_MAX_PREVIEWS is '0': use 1 or more"),
        ("ALLOCATION_KEEP_CLOSED_DAYS", "29", "ALLOCATION_KEEP_CLOSED_DAYS is '29': use 30 or more"),
        ("ALLOCATION_KEEP_CLOSED_DAYS", "ever", "ALLOCATION_KEEP_CLOSED_DAYS is 'ever': use a whole number"),
        ("ALLOCATION_MAX_QUEUED", "many", "ALLOCATION_MAX_QUEUED is 'many': use a whole number"),
        ("ALLOCATION_OVERDUE_DAYS", "-1", "ALLOCATION_OVERDUE_DAYS is '-1': use a whole number"),
        ("ALLOCATION_OVERDUE_DAYS", "366", "ALLOCATION_OVERDUE_DAYS is '366': use 365 or less"),
        *(
            (
                "ALLOCATION_TIME_ZONE",
                name,
                f"ALLOCATION_TIME_ZONE is {name!r}: use a name such as Europe/Berlin, or UTC",
            )
            for name in ("Mars/Olympus", "Europe", "", "../Berlin", "/etc/passwd", "Europe/Berlin\0", "+01:00", "é")
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_the_cure(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidSetting) as refusal:
        Settings.from_environment({name: text})
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("text", "meant"), [("starttls", True), ("STARTTLS", True), ("implicit", "implicit"), ("Implicit", "implicit")]
)
def test_tls_is_named_or_switched(text: str, meant: bool | str) -> None:
    assert Settings.from_environment({"ALLOCATION_SMTP_TLS": text}).smtp_tls == meant


def test_the_stock_team_has_several_addresses_or_none() -> None:
    def team(text: str) -> tuple[str, ...]:
        return Settings.from_environment({"ALLOCATION_STOCK_TEAM": text}).stock_team

    assert (team(""), team(" , ")) == ((), ())
    assert team("ann@example.com") == ("ann@example.com",)
    assert team(" ann@example.com,ben+stock@example.com , ann@example.com,") == (
        "ann@example.com",
        "ben+stock@example.com",
    )
    assert len(team(",".join(f"p{number}@example.com" for number in range(20)))) == 20


@pytest.mark.parametrize(
    "address",
    [
        "ann",
        "@example.com",
        "ann@",
        "ann@@b.com",
        "a n@b.com",
        "Ann <a@b.com>",
        "ä@b.com",
        "a@b.com;c@d.com",
        "a\n@b.com",
    ],
)
def test_an_address_that_is_none_is_named_with_the_cure(address: str) -> None:
    with pytest.raises(InvalidSetting) as refusal:
        Settings.from_environment({"ALLOCATION_STOCK_TEAM": f"ann@example.com,{address}"})
    assert str(refusal.value) == (
        f"ALLOCATION_STOCK_TEAM has {address!r}: use addresses such as ann@example.com, separated by commas"
    )


def test_the_stock_team_is_limited() -> None:
    many = ",".join(f"p{number}@example.com" for number in range(21))
    with pytest.raises(InvalidSetting, match="ALLOCATION_STOCK_TEAM has 21 addresses: use 20 or fewer"):
        Settings.from_environment({"ALLOCATION_STOCK_TEAM": many})
    with pytest.raises(InvalidSetting, match="use addresses such as"):
        Settings.from_environment({"ALLOCATION_STOCK_TEAM": f"{'a' * 254}@b.com"})


def test_links_lead_to_the_public_url_or_to_host_and_port() -> None:
    assert Settings().base_url == "http://127.0.0.1:8000"
    assert Settings(host="::1", port=80).base_url == "http://[::1]:80"
    given = Settings.from_environment({"ALLOCATION_PUBLIC_URL": "https://stock.example.com:8443/shop/"})
    assert given.base_url == "https://stock.example.com:8443/shop"
    assert Settings.from_environment({"ALLOCATION_PUBLIC_URL": ""}) == Settings()


@pytest.mark.parametrize(
    "url",
    [
        "stock.example.com",
        "ftp://stock.example.com",
        "http://",
        "http:///x",
        "http://a b",
        "http://x:port",
        "http://[x",
        "http://x?y",
        "http://x#y",
        "http://u:p@x",
        "http://ä",
        "http://x\ny",
        "http://" + "x" * 200,
    ],
)
def test_a_public_url_that_is_none_is_named_with_the_cure(url: str) -> None:
    with pytest.raises(InvalidSetting) as refusal:
        Settings.from_environment({"ALLOCATION_PUBLIC_URL": url})
    cure = "use http:// or https:// and a host, in 200 ASCII characters or fewer"
    assert str(refusal.value) == f"ALLOCATION_PUBLIC_URL is {url!r}: {cure}"


def test_closed_lines_are_kept_for_ever_unless_days_are_named() -> None:
    assert Settings.from_environment({"ALLOCATION_KEEP_CLOSED_DAYS": ""}).keep_closed is None
    assert Settings.from_environment({"ALLOCATION_KEEP_CLOSED_DAYS": "400"}).keep_closed == timedelta(days=400)


def test_zones_are_there_also_where_the_system_has_none() -> None:
    asked = "from allocation.config import Settings; print(Settings(time_zone='Asia/Seoul').zone)"
    environment = {**os.environ, "PYTHONTZPATH": ""}
    found = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "Asia/Seoul\n"


def test_the_business_has_the_days_of_its_time_zone() -> None:
    zone = Settings.from_environment({"ALLOCATION_TIME_ZONE": "Asia/Seoul"}).zone
    assert datetime(2026, 1, 1, 23, tzinfo=UTC).astimezone(zone).isoformat() == "2026-01-02T08:00:00+09:00"
    assert Settings().zone is UTC


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(Settings(smtp_password="secret"))

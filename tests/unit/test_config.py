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
    given = {str: "text", int: "37", bool: "true"}
    for each in dataclasses.fields(Settings):
        kind = int if each.name == "keep_closed_days" else type(getattr(Settings(), each.name))
        text = CHOICES[each.name][-1] if each.name in CHOICES else given[kind]
        text = "Asia/Seoul" if each.name == "time_zone" else text
        settings = Settings.from_environment({f"ALLOCATION_{each.name.upper()}": text, each.name: "ignored"})
        changed: dict[str, Any] = {each.name: kind(text)}
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
        ("ALLOCATION_SMTP_TLS", "maybe", "ALLOCATION_SMTP_TLS is 'maybe': use true or false"),
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

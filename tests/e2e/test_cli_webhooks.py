"""``allocation webhooks``: on both kinds of database."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from allocation.adapters.database import parse_url
from allocation.adapters.webhooks import SqlWebhooks
from allocation.entrypoints.cli.exits import UNDELIVERED
from allocation.service_layer.delivering.webhooks import DEFAULT_OVERLAP_H, MAX_OVERLAP_H, disabled
from tests.e2e.program import Done, run
from tests.receiver import Receiver, answer

URL = "https://shop.example/hooks"
NOBODY = "wh_" + "0" * 32


def webhooks(database: str, *arguments: str) -> Done:
    return run("webhooks", *arguments, database=database, ALLOCATION_WEBHOOKS_ALLOW_PRIVATE="true")


def told(database: str, *arguments: str) -> Any:
    done = webhooks(database, *arguments, "--json")
    assert done.code == 0, done.errors
    return json.loads(done.output)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def test_adds_lists_tests_rotates_and_removes(database_url: str, receiver: Receiver) -> None:
    added = told(database_url, "add", receiver.url, "--event", "OutOfStock", "--event", "Allocated")
    assert added["event_types"] == ["Allocated", "OutOfStock"]
    rotated = told(database_url, "rotate", added["id"])
    assert told(database_url, "test", added["id"]) == {"delivered": True, "status": 204, "said": "answered 204"}
    assert receiver.received[0].verified_by(added["secret"])
    assert receiver.received[0].verified_by(rotated["secret"])
    (listed,) = told(database_url, "list")["webhooks"]
    assert listed == {name: value for name, value in rotated.items() if name != "secret"}
    assert told(database_url, "remove", added["id"]) == {"removed": added["id"]}
    assert told(database_url, "list") == {"webhooks": []}


def test_prints_the_secret_once(sqlite_url: str) -> None:
    added = webhooks(sqlite_url, "add", URL, "--description", "of the shop")
    found = re.fullmatch(
        r"webhook: (wh_\w{32})\nsecret: (whsec_\S{44})\nThe secret is not shown again.*\n", added.output
    )
    assert found, added.output
    id_, secret = found.groups()
    listed = webhooks(sqlite_url, "list")
    for part in (id_, URL, "all", "of the shop", "active"):
        assert part in listed.output
    assert secret not in listed.output + webhooks(sqlite_url, "list", "--json").output
    rotated = webhooks(sqlite_url, "rotate", id_, "--overlap-hours", "0")
    assert (secret in rotated.output, rotated.output.startswith(f"webhook: {id_}\nsecret: whsec_")) == (False, True)
    assert len(told(sqlite_url, "list")["webhooks"][0]["secrets"]) == 1


def test_enables_what_was_disabled(database_url: str) -> None:
    id_ = told(database_url, "add", URL)["id"]
    asyncio.run(disable(database_url, id_))
    assert told(database_url, "list")["webhooks"][0]["disabled_reason"] == "answered 410"
    assert webhooks(database_url, "enable", id_) == Done(0, f"enabled: {id_}\n", "")
    enabled = told(database_url, "enable", id_)
    assert (enabled["disabled_at"], enabled["disabled_reason"]) == (None, "")
    assert told(database_url, "list")["webhooks"] == [enabled]


async def disable(database_url: str, id_: str) -> None:
    """As a target does that answers 410."""
    stored = SqlWebhooks(parse_url(database_url))
    await stored.change(id_, lambda found: disabled(found, "answered 410", datetime.now(UTC)))
    await stored.close()


def test_tells_what_the_target_said(sqlite_url: str, receiver: Receiver) -> None:
    id_ = told(sqlite_url, "add", receiver.url)["id"]
    assert webhooks(sqlite_url, "test", id_) == Done(0, "delivered: answered 204\n", "")
    receiver.reply = lambda handler: answer(handler, 404, b"no such hook")
    failed = webhooks(sqlite_url, "test", id_)
    assert failed == Done(UNDELIVERED, "", "error: not delivered: answered 404 no such hook\n")
    failed = webhooks(sqlite_url, "test", id_, "--json")
    assert failed.code == UNDELIVERED
    assert json.loads(failed.output) == {"delivered": False, "status": 404, "said": "answered 404 no such hook"}


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("add", "shop.example"), 2, "shop.example is not a URL to post to"),
        (("add", URL, "--event", "Nope"), 2, "Unknown event type 'Nope'"),
        (("add",), 2, "Missing argument"),
        (("rotate", NOBODY, "--overlap-hours", "721"), 2, "0<=x<=720"),
        (("rotate", NOBODY), 3, f"Unknown webhook {NOBODY}"),
        (("enable", NOBODY), 3, f"Unknown webhook {NOBODY}"),
        (("remove", NOBODY), 3, f"Unknown webhook {NOBODY}"),
        (("test", "nope"), 3, "Unknown webhook nope"),
        (("test", "a\x01b"), 3, "Unknown webhook"),
    ],
)
def test_refuses_with_the_cure(sqlite_url: str, arguments: tuple[str, ...], code: int, error: str) -> None:
    done = webhooks(sqlite_url, *arguments)
    assert (done.code, done.output) == (code, "")
    assert error in done.errors
    assert len(done.errors.splitlines()) == 2
    assert told(sqlite_url, "list") == {"webhooks": []}


def test_refuses_the_same_again(sqlite_url: str) -> None:
    id_ = told(sqlite_url, "add", URL)["id"]
    again = webhooks(sqlite_url, "add", URL)
    assert again.code == 4
    assert f"Webhook {id_} already posts the same events to {URL}" in again.errors


def test_refuses_what_is_not_encrypted_by_default(sqlite_url: str) -> None:
    done = run("webhooks", "add", "http://shop.example/", database=sqlite_url)
    assert done.code == 2
    assert "http://shop.example/ is not encrypted" in done.errors


def test_lists_no_database_that_is_not_there(new_sqlite_url: str) -> None:
    done = webhooks(new_sqlite_url, "list")
    assert (done.code, "there is no such database" in done.errors) == (2, True)


def test_explains_itself() -> None:
    for arguments in (("webhooks",), ("webhooks", "--help")):
        done = run(*arguments)
        assert done.code == 0
        for command in ("add", "list", "test", "remove", "enable", "rotate"):
            assert f" {command} " in done.output
    limits = run("webhooks", "rotate", "--help", COLUMNS="200").output
    assert f"[0<=x<={MAX_OVERLAP_H}]" in limits
    assert f"[default: {DEFAULT_OVERLAP_H}]" in limits

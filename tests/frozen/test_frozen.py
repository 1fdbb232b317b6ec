"""What released versions wrote stays readable: every message, and whole databases, which are migrated and go on."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import make_url

import allocation
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.cli.past import parse_moment
from allocation.entrypoints.http.posts import POSTS
from allocation.service_layer.messages import decode, decode_typed, recall
from allocation.views.named import Found
from allocation.views.past import find_past
from tests.builders import select
from tests.e2e.program import run
from tests.frozen.freeze import DATABASE, HERE, STATEMENTS
from tests.mailserver import MailServer
from tests.servers import PostgresServer
from tests.services import Server, running
from tests.waiting import wait_until

RELEASES = sorted(path.name for path in HERE.iterdir() if (path / DATABASE).exists())


def frozen(release: str, name: str) -> Sequence[Any]:
    entries: Sequence[Any] = json.loads((HERE / release / name).read_text())
    return entries


def still_tells(now: Any, once: Any) -> bool:
    """Whether all that was told once is told now; members may have been added since, at any depth."""
    if isinstance(now, Mapping) and isinstance(once, Mapping):
        return all(name in now and still_tells(now[name], value) for name, value in once.items())
    if isinstance(now, list) and isinstance(once, list):
        return len(now) == len(once) and all(map(still_tells, now, once))
    return bool(now == once)


def test_this_version_is_frozen() -> None:
    assert allocation.__version__ in RELEASES, "run: python -m tests.frozen.freeze"


@pytest.mark.parametrize("release", RELEASES)
def test_every_request_is_still_understood(release: str) -> None:
    for request in frozen(release, "requests.json"):
        kind, body = POSTS[request["path"]], request["body"]
        for event in (decode(kind, json.dumps(body)), decode_typed(json.dumps({"type": kind.__name__, **body}))):
            assert type(event) is kind
            assert still_tells(msgspec.to_builtins(event), body)


@pytest.mark.parametrize("release", RELEASES)
def test_every_ledger_row_is_still_understood(release: str) -> None:
    for row in frozen(release, "ledger.json"):
        told = recall(row["type"], row["body"])
        assert type(told).__name__ == row["type"]
        assert still_tells(msgspec.to_builtins(told), json.loads(row["body"]))


class Released(NamedTuple):
    """A database that a release wrote, brought up to date."""

    release: str
    url: str
    deliveries: int  # that were pending when it was frozen


@pytest.fixture(scope="module", params=[(release, kind) for release in RELEASES for kind in ("sqlite", "postgres")])
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    release, kind = request.param
    folder = HERE / release
    if kind == "sqlite":
        url = f"sqlite:///{shutil.copy(folder / DATABASE, tmp_path_factory.mktemp(release) / 'allocation.db')}"
        yield migrated(release, url)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"frozen-{release}"
    url = server.create_database(name)
    server.query((folder / STATEMENTS).read_text(), name)
    yield migrated(release, url)
    server.drop_database(name)


def migrated(release: str, url: str) -> Released:
    ((deliveries,),) = asyncio.run(select(make_url(url), "SELECT count(*) FROM deliveries"))
    done = run("migrate", database=url)
    assert done.code == 0, done.errors
    return Released(release, url, deliveries)


@pytest.fixture(scope="module")
def mails() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def server(released: Released, mails: MailServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves that database. What the tests append to its ledger comes after all that they compare."""
    settings = {"ALLOCATION_SMTP_HOST": "127.0.0.1", "ALLOCATION_SMTP_PORT": str(mails.port)}
    settings["ALLOCATION_STOCK_TEAM"] = "stock@example.com"
    mails.mails.clear()
    log: Path = tmp_path_factory.mktemp("server") / "server.log"
    with running(log, ALLOCATION_DATABASE_URL=released.url, **settings) as server:
        yield server
        assert server.errors() == []


def assert_books_are_right(released: Released) -> None:
    done = run("verify", "--json", database=released.url)
    assert (done.code, json.loads(done.output)["found"]) == (0, {}), done.errors


def test_the_books_of_a_migrated_database_are_right(released: Released) -> None:
    assert_books_are_right(released)


def test_its_history_reads_as_it_did(released: Released, server: Server) -> None:
    told = [event for page in server.pages("/events", "after", limit=20) for event in page["events"]]
    once = frozen(released.release, "events.json")
    assert still_tells(told[: len(once)], once)


def test_its_past_is_shown_as_it_was(released: Released) -> None:
    """What ``allocation at`` prints, without a process for each."""

    async def look_back() -> None:
        async with bootstrap(Settings(database_url=released.url)) as service:
            for asked in frozen(released.release, "past.json"):
                moment = parse_moment(asked["moment"])
                found = await service.reader.run(find_past, asked["name"], moment)
                assert still_tells(msgspec.to_builtins(found), asked["shown"] or {})
                assert (found == Found()) == (asked["shown"] is None)

    asyncio.run(look_back())


def test_a_message_repeated_after_the_migration_gets_its_first_answer(released: Released, server: Server) -> None:
    for key, path, body, answer in (request.values() for request in frozen(released.release, "requests.json")):
        repeated = server.post(path, body, Idempotency_Key=key)
        assert repeated.status_code == 201, repeated.text
        assert still_tells(repeated.json(), answer), key
    reused = server.post("/repair_counters", {"sku": "SOMETHING-ELSE"}, Idempotency_Key="key-01")
    assert reused.status_code == 422


def test_effects_that_were_pending_are_done(released: Released, server: Server, mails: MailServer) -> None:
    assert released.deliveries > 0
    wait_until(lambda: len(mails.mails) >= released.deliveries)
    rows = frozen(released.release, "ledger.json")
    assert sorted(subject.partition(":")[0] for subject in mails.subjects) == sorted(
        f"Out of stock for {row['sku']}" for row in rows if row["type"] == "OutOfStock"
    )


def test_it_takes_new_messages(released: Released, server: Server) -> None:
    server.add_batch("new-1", "SETTEE", 100)
    assert server.allocate("new", "SETTEE", 50) == "new-1"
    changed = server.post("/change_batch_quantity", {"ref": "new-1", "qty": 10})
    assert [move["orderid"] for move in changed.json()["moved"]] == ["new"]
    assert_books_are_right(released)


STOCK_PLAY: Sequence[tuple[str, dict[str, Any]]] = (
    ("/receive_batch", {"ref": "settee-4", "qty": 3}),
    ("/receive_batch", {"ref": "settee-4", "qty": 2, "quarantine": "wet"}),
    ("/count_batch", {"ref": "settee-4", "on_hand": 6, "reason": "found", "counted_at": "2026-02-01T12:00:00Z"}),
    ("/adjust_batch", {"ref": "settee-4", "by": -1, "reason": "lost"}),
    ("/correct_batch", {"ref": "settee-4", "delivery": "po-1", "location": "OSLO", "expires_on": "2030-01-31"}),
    ("/transfer_stock", {"ref": "settee-4", "to_location": "LYON", "qty": 1}),
    ("/change_delivery_eta", {"delivery": "po-1", "eta": "2029-01-15"}),
    ("/undo_receipt", {"ref": "settee-4", "qty": 1}),
    ("/undo_receipt", {"ref": "settee-4"}),
    ("/receive_delivery", {"delivery": "po-1"}),
    ("/release_batch", {"ref": "settee-4"}),
    ("/add_batch", {"ref": "new-2", "sku": "SETTEE", "qty": 9, "eta_unknown": True, "delivery": "po-1"}),
    ("/receive_batch", {"ref": "new-2", "qty": 9, "quarantine": "wet"}),
    ("/ship_line", {"orderid": "o1", "sku": "SETTEE"}),
    ("/return_line", {"orderid": "o1", "sku": "SETTEE", "disposition": "inspect"}),
    ("/retire_product", {"sku": "SETTEE"}),
    ("/reinstate_product", {"sku": "SETTEE"}),
)


def test_it_takes_every_message_about_stock(released: Released, server: Server) -> None:
    for path, body in STOCK_PLAY:
        answer = server.post(path, body)
        assert answer.status_code == 201, (path, answer.text)
    assert server.get("/batches/settee-4")["eta"] is None
    assert_books_are_right(released)

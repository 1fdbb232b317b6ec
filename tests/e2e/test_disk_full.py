"""The disk is full under SQLite: senders are told, readers are served, and with room again everything goes on."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from tests import disks
from tests.builders import select
from tests.disks import Disk
from tests.e2e.program import run
from tests.mailserver import MailServer
from tests.services import Server, StartServer
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a disk can be filled for one process on Linux only")

REQUESTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "k1": ("/allocate", {"orderid": "o5", "sku": "LAMP", "qty": 2}),
    "k2": ("/change_batch_quantity", {"ref": "lamp-1", "qty": 3}),
    "k3": ("/add_batch", {"ref": "lamp-2", "sku": "LAMP", "qty": 50}),
    "k4": ("/add_batch", {"ref": "fork-1", "sku": "FORK", "qty": 50}),
}
POLL_S = 0.05
DISKS = disks.kinds()


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with DISKS[request.param](folder) as disk:
        yield disk


@pytest.fixture
def mails() -> Iterator[MailServer]:
    """Down until it is started."""
    server = MailServer()
    yield server
    server.stop()


@pytest.fixture
def start(disk: Disk, mails: MailServer, start_server: StartServer) -> Callable[[], Server]:
    smtp = {"ALLOCATION_SMTP_HOST": "127.0.0.1", "ALLOCATION_SMTP_PORT": str(mails.port)}
    smtp["ALLOCATION_STOCK_TEAM"] = "stock@example.com"
    return lambda: start_server(ALLOCATION_DATABASE_URL=url(disk), **smtp)


def url(disk: Disk) -> str:
    return f"sqlite:///{disk.folder / 'allocation.db'}"


def fill_with_history(server: Server) -> None:
    """Four lines on a batch, and one that waits: its mail is pending, since the mail server is down."""
    server.add_batch("lamp-1", "LAMP", 8)
    for number in range(4):
        assert server.allocate(f"o{number}", "LAMP", 2) == "lamp-1"
    assert server.allocate("o4", "LAMP", 2) is None


def send_all(server: Server) -> list[httpx.Response]:
    """All requests at once, each under its key."""
    with ThreadPoolExecutor(len(REQUESTS)) as threads:
        sent = [threads.submit(server.post, *request, Idempotency_Key=key) for key, request in REQUESTS.items()]
        return [each.result() for each in sent]


def assert_each_is_done_once(server: Server, disk: Disk) -> None:
    for key in REQUESTS:
        events = server.get("/events", correlation_id=key)["events"]
        assert [event["id"] for event in events if event["causation_id"] is None] == [key]
    verified = run("verify", "--json", database=url(disk))
    assert (verified.code, json.loads(verified.output)["found"]) == (0, {})


def assert_not_ready(server: Server, disk: Disk) -> None:
    told = server.client.get("/readyz")
    assert (told.status_code, told.json()["message"]) == (503, f"The database is unavailable: {disk.complaint}")


def test_senders_are_told_why_and_everything_goes_on_with_room_again(
    disk: Disk, start: Callable[[], Server], mails: MailServer
) -> None:
    server = start()
    fill_with_history(server)
    before = server.get("/events"), server.get("/products/LAMP")
    disk.fill(server.process.pid)
    mails.start()
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(send_all, server)
        while not sending.done():
            assert (server.get("/events"), server.get("/products/LAMP")) == before
            time.sleep(POLL_S)
    for response in [*sending.result(), *send_all(server)]:
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["message"] == f"The database is unavailable: {disk.complaint}"
    assert_not_ready(server, disk)
    assert mails.subjects == [], "it could not be marked as done, and would be repeated"
    disk.make_room(server.process.pid)
    assert [response.status_code for response in send_all(server)] == [201] * len(REQUESTS)
    assert server.get("/readyz") == {"status": "ready"}
    assert_each_is_done_once(server, disk)
    wait_until(lambda: asyncio.run(select(make_url(url(disk)), "SELECT count(*) FROM deliveries")) == [(0,)])
    events = server.get("/events", sku="LAMP", limit=1_000)["events"]
    cascades = {event["correlation_id"] for event in events if event["type"] == "OutOfStock"}
    assert [subject.partition(":")[0] for subject in mails.subjects] == ["Out of stock for LAMP"] * len(cascades)
    assert server.errors() == []


def test_a_server_killed_on_a_full_disk_leaves_nothing_half_done(disk: Disk, start: Callable[[], Server]) -> None:
    server = start()
    fill_with_history(server)
    before = server.get("/events"), server.get("/products/LAMP")
    disk.fill(server.process.pid)
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(send_all, server)
        time.sleep(1)  # so that it has tried, and failed, several times
        server.process.kill()
        server.process.wait()
        assert isinstance(sending.exception(), httpx.TransportError)
        disk.make_room(server.process.pid)
    server = start()
    assert (server.get("/events"), server.get("/products/LAMP")) == before
    assert [response.status_code for response in send_all(server)] == [201] * len(REQUESTS)
    assert_each_is_done_once(server, disk)

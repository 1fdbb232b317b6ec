"""Mail of the running service: its link opens the product's page, and the log says if there is no mail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import make_url

from tests.builders import change, select
from tests.mailserver import MailServer
from tests.services import StartServer
from tests.waiting import wait_until

SKU = "RED CHAIR/2 – ä"


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def test_the_link_of_a_mail_opens_the_page_of_its_product(
    start_server: StartServer, sqlite_url: str, mails: MailServer
) -> None:
    smtp = {"ALLOCATION_SMTP_HOST": "127.0.0.1", "ALLOCATION_SMTP_PORT": str(mails.port)}
    server = start_server(ALLOCATION_DATABASE_URL=sqlite_url, ALLOCATION_STOCK_TEAM="ann@example.com", **smtp)
    server.add_batch("b1", SKU, 1)
    server.allocate("o1", SKU, 2)
    wait_until(lambda: bool(mails.mails))
    link = mails.mails[0].get_content().split()[-1]
    page = httpx.get(link)
    assert page.status_code == 200
    assert SKU in page.text
    assert "no mail is sent" not in [line["event"] for line in server.logged()]


def test_without_a_stock_team_the_log_says_once_that_no_mail_is_sent(
    start_server: StartServer, sqlite_url: str, mails: MailServer
) -> None:
    smtp = {"ALLOCATION_SMTP_HOST": "127.0.0.1", "ALLOCATION_SMTP_PORT": str(mails.port)}
    server = start_server(ALLOCATION_DATABASE_URL=sqlite_url, **smtp)
    for sku in ("CHAIR", "SOFA"):
        server.add_batch(f"b-{sku}", sku, 1)
        server.allocate("o1", sku, 2)
    wait_until(lambda: asyncio.run(select(make_url(sqlite_url), "SELECT count(*) FROM deliveries")) == [(0,)])
    told = [line for line in server.logged() if line["event"] == "no mail is sent"]
    assert [line["reason"] for line in told] == [
        "ALLOCATION_STOCK_TEAM is empty: it takes addresses, separated by commas"
    ]
    assert mails.mails == []


def test_a_digest_that_came_due_while_nothing_ran_is_sent_at_the_start(
    start_server: StartServer, sqlite_url: str, mails: MailServer
) -> None:
    smtp = {"ALLOCATION_SMTP_HOST": "127.0.0.1", "ALLOCATION_SMTP_PORT": str(mails.port)}
    team = {"ALLOCATION_STOCK_TEAM": "ann@example.com", "ALLOCATION_MAIL_DIGEST_HOUR": "7"}
    server = start_server(ALLOCATION_DATABASE_URL=sqlite_url, **smtp, **team)
    server.add_batch("b1", SKU, 1)
    server.allocate("o1", SKU, 2)
    noted = "SELECT count(*) FROM digest"
    wait_until(lambda: asyncio.run(select(make_url(sqlite_url), noted)) == [(1,)])
    server.stop()
    asyncio.run(change(make_url(sqlite_url), "UPDATE digest SET due_at = '2026-01-01T07:00:00+00:00'"))
    assert mails.mails == []
    start_server(ALLOCATION_DATABASE_URL=sqlite_url, **smtp, **team)
    wait_until(lambda: mails.subjects == ["Out of stock: 1 product, 1 order line waits"])


def test_a_digest_that_was_given_up_is_shown_without_a_product(start_server: StartServer, sqlite_url: str) -> None:
    server = start_server(ALLOCATION_DATABASE_URL=sqlite_url)
    values = "'digest-1', 0, 'send_out_of_stock_digest', '', 'Digest', '{\"products\":[[\"CHAIR\",\"m1\"]]}'"
    asyncio.run(
        change(
            make_url(sqlite_url),
            "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body, state, error, stack, settled_at)"
            f" VALUES ({values}, 'dead', '550 full', '', '2026-01-01T07:00:00+00:00')",
        )
    )
    [letter] = server.get("/dead-letters")["dead_letters"]
    assert (letter["id"], letter["sku"]) == ("digest-1", "")
    listed = server.client.get("/console/deliveries")
    shown = server.client.get(f"/console/deliveries/{letter['number']}")
    for page in (listed, shown):
        assert page.status_code == 200
        assert "send_out_of_stock_digest" in page.text
        assert 'href="/console/products/"' not in page.text
        assert "/console/events/digest-1" not in page.text
    assert server.get(f"/dead-letters/{letter['number']}")["body"] == {"products": [["CHAIR", "m1"]]}

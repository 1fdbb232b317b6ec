"""One mail for each product and cascade: which order lines wait when it is sent."""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import date
from email.message import EmailMessage
from typing import Any

import pytest

from allocation.adapters.database import parse_url
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    Event,
)
from allocation.service_layer.delivering import stock_mail
from allocation.service_layer.delivering.relay import Results
from allocation.service_layer.messages import new_message
from allocation.service_layer.writing.store import as_moment
from allocation.views import shortage
from tests.builders import select
from tests.mailserver import TAKEN, MailServer
from tests.waiting import until

SINCE = r"since \d{4}-\d\d-\d\d \d\d:\d\d UTC"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def settings(database_url: str, server: MailServer) -> Settings:
    return Settings(
        database_url=database_url,
        smtp_host="127.0.0.1",
        smtp_port=server.port,
        stock_team=("ann@example.com", "ben@example.com"),
        public_url="https://stock.example.com",
        lease_s=60,  # a busy machine must not lose it
    )


def run(settings: Settings, scenario: Callable[[Service], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await asyncio.to_thread(bootstrap, settings) as service:
            await scenario(service)

    asyncio.run(main())


async def handle(service: Service, *events: Event) -> None:
    for event in events:
        await service.writer.handle(new_message(event, "test"))


async def deliveries(settings: Settings) -> list[tuple[Any, ...]]:
    return list(await select(parse_url(settings.database_url), "SELECT sku, effect, state FROM deliveries"))


def lines(mail: EmailMessage) -> list[str]:
    """The lines of the text, without the moments."""
    return re.sub(SINCE, "since THEN", mail.get_content()).splitlines()


STOCK = (
    BatchCreated("b1", "CHAIR", 10),
    AllocationRequired("o1", "CHAIR", 4),
    AllocationRequired("o2", "CHAIR", 3),
    AllocationRequired("o3", "CHAIR", 3),
)


def test_all_lines_that_lose_their_stock_at_once_are_one_mail(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *STOCK, BatchQuantityChanged("b1", 0))
        await service.effects.run_pending()
        assert await deliveries(settings) == []

    run(settings, scenario)
    [mail] = server.mails
    assert server.recipients == [["ann@example.com", "ben@example.com"]]
    assert mail["Subject"] == "Out of stock for CHAIR: 3 order lines wait"
    assert lines(mail) == [
        "3 order lines wait for CHAIR.",
        "",
        "New:",
        "  4 for order o1, since THEN",
        "  3 for order o2, since THEN",
        "  3 for order o3, since THEN",
        "",
        "They are allocated as soon as there is stock: add a batch, or correct the count of one.",
        "",
        "https://stock.example.com/console/products/CHAIR",
    ]


def test_lines_of_the_cascade_are_first_and_each_has_its_days(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *STOCK, AllocationRequired("o4", "CHAIR", 9, need_by=date(2035, 1, 2)))
        await service.effects.run_pending()
        await handle(service, BatchQuantityChanged("b1", 5))
        await service.effects.run_pending()

    run(settings, scenario)
    first, second = server.mails
    assert lines(first)[2:4] == ["New:", "  9 for order o4, since THEN, needed by 2035-01-02"]
    assert lines(second)[2:7] == [
        "New:",
        "  3 for order o2, since THEN",
        "  3 for order o3, since THEN",
        "Waiting before:",
        "  9 for order o4, since THEN, needed by 2035-01-02",
    ]


def test_each_cascade_and_each_product_has_its_mail(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, BatchCreated("b1", "CHAIR", 1), BatchCreated("b2", "SOFA", 1))
        await handle(service, *(AllocationRequired(f"o{each}", sku, 5) for each in (1, 2) for sku in ("CHAIR", "SOFA")))
        await service.effects.run_pending()

    run(settings, scenario)
    assert server.subjects == [
        "Out of stock for CHAIR: 2 order lines wait",
        "Out of stock for SOFA: 2 order lines wait",
        "Out of stock for CHAIR: 2 order lines wait",
        "Out of stock for SOFA: 2 order lines wait",
    ]
    assert [lines(mail)[3] for mail in server.mails] == [
        "  5 for order o1, since THEN",
        "  5 for order o1, since THEN",
        "  5 for order o2, since THEN",
        "  5 for order o2, since THEN",
    ]


def test_a_part_of_a_line_is_named_as_its_order(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, BatchCreated("b1", "CHAIR", 3), AllocationRequired("o1", "CHAIR", 5, split=True))
        await service.effects.run_pending()

    run(settings, scenario)
    [mail] = server.mails
    assert lines(mail)[2:4] == ["New:", "  2 for order o1, part 2, since THEN"]


def test_a_line_that_was_served_meanwhile_is_not_listed(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *STOCK, BatchQuantityChanged("b1", 4))
        await handle(service, AllocationCancelled("o2", "CHAIR"), AllocationRequired("o5", "SOFA-BED", 1))
        await service.effects.run_pending()

    with pytest.raises(Exception, match="Invalid sku SOFA-BED"):
        run(settings, scenario)

    async def go_on(service: Service) -> None:
        await service.effects.run_pending()
        await handle(service, AllocationRequired("o6", "CHAIR", 9))
        await handle(service, AllocationCancelled("o3", "CHAIR"), AllocationCancelled("o6", "CHAIR"))
        await service.effects.run_pending()

    run(settings, go_on)
    first, second = server.mails
    assert lines(first)[2:5] == ["New:", "  3 for order o3, since THEN", ""]
    assert second["Subject"] == "Out of stock for CHAIR: no order line waits any more"


def test_since_is_when_a_line_began_to_wait_last(settings: Settings, server: MailServer) -> None:
    """Not when it was ordered, nor when it waited before."""

    async def scenario(service: Service) -> None:
        await handle(service, BatchCreated("b1", "CHAIR", 1), AllocationRequired("o1", "CHAIR", 5))
        await handle(service, BatchQuantityChanged("b1", 5))
        await asyncio.sleep(0.05)
        await handle(service, BatchQuantityChanged("b1", 4))
        await handle(service, AllocationRequired("o2", "CHAIR", 5))
        [began] = await select(
            parse_url(settings.database_url),
            "SELECT max(recorded_at) FROM messages WHERE type = 'Backordered' AND orderid = 'o1'",
        )
        [message] = await select(
            parse_url(settings.database_url), "SELECT correlation_id FROM ledger WHERE orderid = 'o2' AND step = 0"
        )
        found = await service.reader.run_by_index(shortage, "CHAIR", message[0])
        assert [line.orderid for line in found.new] == ["o2"]
        assert [(line.orderid, line.since) for line in found.earlier] == [("o1", as_moment(began[0]))]

    run(settings, scenario)


def test_a_mail_lists_a_limited_number_of_lines(settings: Settings, server: MailServer) -> None:
    most = stock_mail.MOST_LINES
    orders = [AllocationRequired(f"o{number:03}", "CHAIR", 1) for number in range(most + 20)]

    async def scenario(service: Service) -> None:
        await handle(service, BatchCreated("b1", "CHAIR", most + 10), *orders)
        await service.effects.run_pending()
        server.mails.clear()
        await handle(service, BatchQuantityChanged("b1", most + 5))
        await service.effects.run_pending()
        await handle(service, BatchQuantityChanged("b1", 0))
        await service.effects.run_pending()

    run(settings, scenario)
    few, many = server.mails
    assert few["Subject"] == "Out of stock for CHAIR: 15 order lines wait"
    assert [line.split()[3].rstrip(",") for line in lines(few) if "for order" in line] == [
        *(f"o{number}" for number in range(most + 5, most + 10)),
        *(f"o{number}" for number in range(most + 10, most + 20)),
    ]
    assert many["Subject"] == f"Out of stock for CHAIR: {most + 20} order lines wait"
    assert sum("for order" in line for line in lines(many)) == most
    assert "and 20 more" in lines(many)


def test_without_a_stock_team_no_mail_is_sent_and_nothing_is_left(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *STOCK, BatchQuantityChanged("b1", 0))
        assert await service.effects.run_pending() == 1
        assert await deliveries(settings) == []

    run(replace(settings, stock_team=()), scenario)
    assert server.mails == []


def test_a_mail_that_is_repeated_after_a_crash_is_recognised(
    settings: Settings, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent, and the process ended before that was recorded."""

    async def crash(service: Service) -> None:
        await handle(service, *STOCK, BatchQuantityChanged("b1", 0))
        with monkeypatch.context() as patch:
            outbox = service.effects._outbox
            settle = outbox.settle

            async def record_nothing(epochs: Any, _: Results, *, keep_done: bool) -> int:
                return await settle(epochs, Results(), keep_done=keep_done)

            patch.setattr(outbox, "settle", record_nothing)
            service.effects.start()
            await until(lambda: bool(server.mails))
            await service.effects.close()

    async def go_on(service: Service) -> None:
        server.mails[1:] = []
        assert await service.effects.run_pending() == 1
        assert await service.effects.run_pending() == 0

    run(settings, crash)
    run(settings, go_on)
    first, repeat = server.mails
    assert first["Message-ID"] == repeat["Message-ID"]


def test_an_address_that_the_server_refuses_is_a_dead_letter(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *STOCK, BatchQuantityChanged("b1", 0))
        await service.effects.run_pending()
        assert await deliveries(settings) == [("CHAIR", "send_out_of_stock_notification", "dead")]
        [[error]] = await select(parse_url(settings.database_url), "SELECT error FROM deliveries")
        assert "ben@example.com" in error
        assert "550" in error

    server.unknown = {"ben@example.com"}
    run(settings, scenario)
    assert server.recipients == [["ann@example.com"]]
    server.answer = lambda _: TAKEN


def test_a_mail_that_nobody_gets_is_a_dead_letter(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *STOCK, BatchQuantityChanged("b1", 0))
        await service.effects.run_pending()
        [[error]] = await select(parse_url(settings.database_url), "SELECT error FROM deliveries WHERE state = 'dead'")
        assert error.startswith(smtplib.SMTPRecipientsRefused.__name__)

    server.unknown = {"ann@example.com", "ben@example.com"}
    run(replace(settings, max_attempts=1), scenario)
    assert server.mails == []

"""One mail a day about all products that lines began to wait for, whatever ends, starts or happens twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from allocation.adapters.digests import SqlDigests
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.events import AllocationCancelled, AllocationRequired, BatchCreated, BatchQuantityChanged, Event
from allocation.service_layer.delivering import stock_mail
from allocation.service_layer.delivering.dead_letters import Which
from allocation.service_layer.delivering.digest import GRACE, DigestClock
from allocation.service_layer.delivering.stock_mail import Noted
from allocation.service_layer.messages import new_message
from allocation.views import shortages
from tests.builders import select
from tests.mailserver import TAKEN, MailServer

TOMORROW = timedelta(days=1, minutes=1)


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
        stock_team=("ann@example.com",),
        mail_digest_hour=7,
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


async def look(service: Service, later: timedelta) -> bool:
    """Look for a digest, so much later."""
    clock = DigestClock(SqlDigests(service.url), lambda: None, lambda: datetime.now(UTC) + later)
    try:
        return await clock.look()
    finally:
        await clock.close()


def stock(*skus: str) -> list[Event]:
    return [BatchCreated(f"batch of {sku}", sku, 1) for sku in skus]


def orders(number: str, *skus: str) -> list[Event]:
    return [AllocationRequired(number, sku, 2) for sku in skus]


def sections(mail_text: str) -> list[str]:
    """The first lines of the paragraphs."""
    return [part.splitlines()[0] for part in mail_text.split("\n\n") if part.strip()]


def test_all_products_of_a_day_are_one_mail_at_the_hour(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *stock("SOFA", "CHAIR", "LAMP"), *orders("o1", "SOFA", "CHAIR"), *orders("o2", "SOFA"))
        assert await service.effects.run_pending() == 3
        assert server.mails == []
        assert not await look(service, timedelta())
        assert await look(service, TOMORROW)
        assert not await look(service, TOMORROW)
        assert await service.effects.run_pending() == 1
        assert await select(service.url, "SELECT count(*) FROM deliveries") == [(0,)]

    run(settings, scenario)
    [mail] = server.mails
    assert mail["To"] == "ann@example.com"
    assert mail["Subject"] == "Out of stock: 2 products, 3 order lines wait"
    assert sections(mail.get_content().replace("\r", "")) == [
        "Since the last mail order lines began to wait for 2 products.",
        "CHAIR: 1 order line waits",
        "SOFA: 2 order lines wait",
        "They are allocated as soon as there is stock: add a batch, or correct the count of one.",
    ]


def test_a_digest_has_only_products_with_new_lines_that_still_wait(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *stock("SOFA", "CHAIR", "LAMP"), *orders("o1", "SOFA", "CHAIR", "LAMP"))
        await service.effects.run_pending()
        assert await look(service, TOMORROW)
        await service.effects.run_pending()
        await handle(service, *orders("o2", "SOFA", "CHAIR"), AllocationCancelled("o2", "CHAIR"))
        await service.effects.run_pending()
        assert await look(service, TOMORROW)
        await service.effects.run_pending()

    run(settings, scenario)
    first, second = server.mails
    assert first["Subject"] == "Out of stock: 3 products, 3 order lines wait"
    assert second["Subject"] == "Out of stock: 1 product, 2 order lines wait"
    text = second.get_content().replace("\r", "")
    assert text.index("New:\n  2 for order o2") < text.index("Waiting before:\n  2 for order o1")
    assert first["Message-ID"] != second["Message-ID"]


def test_without_a_new_line_that_waits_there_is_no_mail(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *stock("CHAIR"), *orders("o1", "CHAIR"), BatchQuantityChanged("batch of CHAIR", 2))
        await service.effects.run_pending()
        assert await look(service, TOMORROW)
        assert await service.effects.run_pending() == 1
        assert not await look(service, TOMORROW)

    run(settings, scenario)
    assert server.mails == []


def test_a_digest_survives_restarts(settings: Settings, server: MailServer) -> None:
    """After the note, and after it became a delivery."""

    async def note(service: Service) -> None:
        await handle(service, *stock("CHAIR"), *orders("o1", "CHAIR"))
        await service.effects.run_pending()

    async def take(service: Service) -> None:
        assert await look(service, TOMORROW)

    async def send(service: Service) -> None:
        assert not await look(service, TOMORROW)
        assert await service.effects.run_pending() == 1

    for part in (note, take, send):
        run(settings, part)
    assert server.subjects == ["Out of stock: 1 product, 1 order line waits"]


def test_one_of_several_processes_makes_the_digest(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        for number in range(10):
            await handle(service, *stock(f"CHAIR-{number}"), *orders("o1", f"CHAIR-{number}"))
        await service.effects.run_pending()
        taken = await asyncio.gather(*(look(service, TOMORROW) for _ in range(8)))
        assert sorted(taken) == [False] * 7 + [True]
        assert await service.effects.run_pending() == 1

    run(settings, scenario)
    assert server.subjects == ["Out of stock: 10 products, 10 order lines wait"]


def test_a_digest_waits_a_moment_for_processes_whose_clocks_are_behind(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        due = datetime(2026, 7, 1, 7, tzinfo=UTC)
        digests = SqlDigests(service.url)
        await digests.note(due, "CHAIR", "m1")
        now = [due + GRACE - timedelta(seconds=1)]
        woken: list[bool] = []
        clock = DigestClock(digests, lambda: woken.append(True), lambda: now[0])
        assert not await clock.look()
        now[0] += timedelta(seconds=1)
        assert await clock.look()
        assert woken == [True]
        await clock.close()

    run(settings, scenario)


def test_notes_of_several_digests_are_one_with_the_first_cascade_of_each_product(settings: Settings) -> None:
    """A process was stopped for days, or the hour was changed."""

    async def scenario(service: Service) -> None:
        due = datetime(2026, 7, 1, 7, tzinfo=UTC)
        digests = SqlDigests(service.url)
        await digests.note(due + timedelta(hours=1), "CHAIR", "m2")
        await digests.note(due, "CHAIR", "m1")
        await digests.note(due, "CHAIR", "m3")
        await digests.note(due + timedelta(hours=2), "SOFA 'Ä'", "m4")
        await digests.note(due + timedelta(hours=3), "LAMP", "m5")
        assert await digests.take(due + timedelta(hours=2))
        rows = await select(service.url, "SELECT effect, sku, step, body FROM deliveries")
        body = '{"products":[["CHAIR","m1"],["SOFA \'Ä\'","m4"]]}'
        assert rows == [("send_out_of_stock_digest", "", 0, body)]
        assert await select(service.url, "SELECT sku FROM digest") == [("LAMP",)]
        await digests.close()

    run(settings, scenario)


def test_a_digest_that_is_declined_is_a_dead_letter_and_can_be_retried(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await handle(service, *stock("CHAIR"), *orders("o1", "CHAIR"))
        await service.effects.run_pending()
        await look(service, TOMORROW)
        server.answer = lambda _: "554 Not this one"
        await service.effects.run_pending()
        assert await select(service.url, "SELECT effect, state FROM deliveries") == [
            ("send_out_of_stock_digest", "dead")
        ]
        server.answer = lambda _: TAKEN
        await service.dead_letters.retry(Which(effect="send_out_of_stock_digest"))
        assert await service.effects.run_pending() == 1

    run(replace(settings, max_attempts=1), scenario)
    assert server.subjects == ["Out of stock: 1 product, 1 order line waits"]


def test_without_the_hour_mails_are_sent_at_once_and_earlier_notes_at_their_hour(
    settings: Settings, server: MailServer
) -> None:
    async def note(service: Service) -> None:
        await handle(service, *stock("CHAIR"), *orders("o1", "CHAIR"))
        await service.effects.run_pending()

    async def go_on(service: Service) -> None:
        await handle(service, *orders("o2", "CHAIR"))
        await service.effects.run_pending()
        assert await look(service, TOMORROW)
        await service.effects.run_pending()

    run(settings, note)
    run(replace(settings, mail_digest_hour=None), go_on)
    assert server.subjects == [
        "Out of stock for CHAIR: 2 order lines wait",
        "Out of stock: 1 product, 2 order lines wait",
    ]


def test_a_digest_has_a_limited_number_of_products_and_lines(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        skus = [f"CHAIR-{number}" for number in range(4)]
        many = stock_mail.MOST_LINES_OF_DIGEST + 5
        await handle(service, *stock(*skus), *orders("o1", *skus[1:]))
        await handle(service, *(order for number in range(many) for order in orders(f"p{number}", "CHAIR-1")))
        [(cascade,)] = await select(
            service.url, "SELECT correlation_id FROM ledger WHERE sku = 'CHAIR-1' AND orderid = 'o1'"
        )
        noted = [Noted(sku, cascade) for sku in skus]
        found = await service.reader.run_by_index(shortages, noted, 2)
        assert [product.sku for product in found.products] == ["CHAIR-1", "CHAIR-2"]
        assert found.further == 1
        assert found.products[0].waiting_lines == many + 1
        assert [len(product.new) for product in found.products] == [stock_mail.MOST_LINES_OF_DIGEST, 1]
        whole = await service.reader.run_by_index(shortages, noted)
        assert ([product.sku for product in whole.products], whole.further) == (skus[1:], 0)

    run(settings, scenario)

"""Effects happen after the commit, at least once and in order for each SKU, whatever goes down in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

import pytest
import structlog

from allocation.adapters.database import parse_url
from allocation.adapters.outbox import Outbox
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.events import AllocationRequired, Backordered, BatchCreated, Event, OutOfStock
from allocation.service_layer.delivering import relay as relay_module
from allocation.service_layer.delivering.effects import Delivery, Unreachable, among, bind
from allocation.service_layer.delivering.leases import PARTITIONS
from allocation.service_layer.delivering.relay import Policy, Relay
from allocation.service_layer.handlers import EFFECTS, Notifications
from allocation.service_layer.messages import new_message
from tests import builders
from tests.builders import select
from tests.fakes import FakeStockTeam
from tests.mailserver import TAKEN, MailServer
from tests.servers import PostgresServer
from tests.waiting import PATIENCE_S, until

EFFECT = "send_out_of_stock_notification"
SEED = 20_260_101
STOCK_TEAM = ("stock@example.com",)

# A service that takes order lines of CHAIR until it is killed.
SERVICE = """
import asyncio, sys
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.events import AllocationRequired, BatchCreated
from allocation.service_layer.delivering.leases import PARTITIONS
from allocation.service_layer.messages import new_message

async def main(url, smtp_port, runs_effects):
    smtp = {"smtp_host": "127.0.0.1", "smtp_port": int(smtp_port), "stock_team": ("stock@example.com",)}
    settings = Settings(database_url=url, lease_s=1, **smtp)
    async with await asyncio.to_thread(bootstrap, settings) as service:
        await service.writer.handle(new_message(BatchCreated("b1", "CHAIR", 1), "test"))
        await service.writer.handle(new_message(AllocationRequired("o1", "CHAIR", 2), "test"))
        print("committed", flush=True)
        if runs_effects == "yes":
            service.effects.start()
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def settings(database_url: str, server: MailServer) -> Settings:
    return Settings(
        database_url=database_url, smtp_host="127.0.0.1", smtp_port=server.port, lease_s=1, stock_team=STOCK_TEAM
    )


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(relay_module, "POLL_INTERVAL_S", 0.02)
    monkeypatch.setattr(relay_module, "RETRY_DELAY_S", 0.02)
    monkeypatch.setattr(relay_module, "MAX_RETRY_DELAY_S", 0.1)


class Recorder:
    """An effect that remembers the orders it was told of, and fails where it is told to."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.failures: dict[str, list[Exception]] = {}

    def observe(self, event: Event) -> None:
        assert isinstance(event, Backordered)
        if self.failures.get(event.orderid):
            raise self.failures[event.orderid].pop()
        self.orders.append(event.orderid)


def test_a_line_that_waits_is_told_by_mail(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        service.effects.start()
        await backorder(service, "CHAIR", "o1")
        await until(lambda: server.subjects == ["Out of stock for CHAIR: 1 order line waits"])

    run(settings, scenario)
    assert pending(settings) == []
    assert server.subjects == ["Out of stock for CHAIR: 1 order line waits"]


def test_kill_9_between_commit_and_mail_loses_no_mail(settings: Settings, server: MailServer) -> None:
    with service_process(settings, runs_effects="no") as process:
        os.kill(process.pid, signal.SIGKILL)
    assert server.subjects == []
    run(settings, run_pending)
    assert server.subjects == ["Out of stock for CHAIR: 1 order line waits"]


def test_kill_9_before_the_server_has_answered_repeats_the_mail(settings: Settings, server: MailServer) -> None:
    with service_process(settings, runs_effects="no") as process:
        os.kill(process.pid, signal.SIGKILL)
    killed: list[int] = []

    def kill_the_sender(_: EmailMessage) -> str:
        if not killed:
            time.sleep(0.2)  # the process is waiting for this answer
            os.kill(sender.pid, signal.SIGKILL)
            killed.append(sender.pid)
        return TAKEN

    server.answer = kill_the_sender
    with service_process(settings, runs_effects="yes") as sender:
        assert sender.wait(PATIENCE_S) == -signal.SIGKILL

    async def scenario(service: Service) -> None:
        service.effects.start()
        await until(lambda: bool(server.mails[1:]))  # as soon as the lease has ended

    run(settings, scenario)
    assert set(server.subjects) == {"Out of stock for CHAIR: 1 order line waits"}
    assert len(server.subjects) >= 2  # the second one is the only one known to be taken


@pytest.mark.usefixtures("_impatient")
def test_mails_arrive_when_a_server_that_was_down_is_back(settings: Settings, server: MailServer) -> None:
    skus = [f"CHAIR-{number}" for number in range(20)]
    server.stop()

    async def scenario(service: Service) -> None:
        service.effects.start()
        with structlog.testing.capture_logs() as lines:
            for sku in skus:
                await backorder(service, sku, "o1")
            await until(lambda: len(lines) >= 3)
        assert {(line["log_level"], line["event"]) for line in lines} == {("warning", "target is down")}
        assert "refused" in lines[0]["reason"]
        assert [line["attempt"] for line in lines] == list(range(1, len(lines) + 1))  # one is tried for all of them
        assert await states(settings) == [("pending", 0)] * len(skus)  # and none of them has used up an attempt
        await asyncio.to_thread(server.start)
        await until(lambda: len(server.mails) == len(skus))

    run(settings, scenario)
    assert server.subjects == [f"Out of stock for {sku}: 1 order line waits" for sku in skus]


@pytest.mark.usefixtures("_impatient")
def test_a_mail_that_is_declined_holds_back_its_sku_only(settings: Settings, server: MailServer) -> None:
    declined: list[str] = []

    def decline_chairs_twice(mail: EmailMessage) -> str:
        if "CHAIR" in mail["Subject"] and len(declined) < 2:
            declined.append(mail["Subject"])
            return "451 Try later"
        return TAKEN

    server.answer = decline_chairs_twice

    async def scenario(service: Service) -> None:
        for sku in ("CHAIR", "TABLE", "SOFA"):
            await backorder(service, sku, "o1")
        service.effects.start()
        await until(lambda: len(server.mails) == 3)

    run(settings, scenario)
    assert server.subjects == [f"Out of stock for {sku}: 1 order line waits" for sku in ("TABLE", "SOFA", "CHAIR")]


@pytest.mark.usefixtures("_impatient")
def test_order_within_a_sku_survives_failures(settings: Settings) -> None:
    recorder = Recorder()
    chairs = [f"chair-{number}" for number in range(130)]  # more than a page
    tables = [f"table-{number}" for number in range(130)]
    recorder.failures = {order: [OSError("cut off")] * 2 for order in chairs[::40]}

    async def scenario(service: Service) -> None:
        for chair, table in zip(chairs, tables, strict=True):
            await backorder(service, "CHAIR", chair)
            await backorder(service, "TABLE", table)
        await change(settings, "DELETE FROM deliveries")
        await observe_backorders(settings)
        runner = relay(service, {"observe": recorder.observe})
        runner.start()
        await until(lambda: len(recorder.orders) == 260)
        await runner.close()

    run(settings, scenario)
    assert [order for order in recorder.orders if order in chairs] == chairs
    assert [order for order in recorder.orders if order in tables] == tables
    assert recorder.orders.index(tables[-1]) < recorder.orders.index(chairs[-1])  # nobody waited for the chairs


def test_an_effect_that_nobody_knows_becomes_a_dead_letter(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        await backorder(service, "CHAIR", "o1")
        await observe_backorders(settings)
        with structlog.testing.capture_logs() as lines:
            assert await service.effects.run_pending() == 1
        assert [(line["log_level"], line["effect"]) for line in lines] == [("error", "observe")]

    run(settings, scenario)
    assert pending(settings) == [("observe", "CHAIR")]
    assert asyncio.run(states(settings)) == [("dead", 0)]
    assert asyncio.run(select(parse_url(settings.database_url), "SELECT error FROM deliveries")) == [
        ("Hopeless: unknown effect observe; it may have been removed",)
    ]


def test_effects_may_come_and_go_while_the_relay_runs(settings: Settings) -> None:
    recorder = Recorder()
    known = {"observe": recorder.observe}

    async def scenario(service: Service) -> None:
        for order in ("o1", "o2"):
            await backorder(service, "CHAIR", order)
        await change(settings, "DELETE FROM deliveries")
        runner = Relay(Outbox(service.url), among(known))
        await observe_backorders(settings, "o1")
        assert await runner.run_pending() == 1
        observe = known.pop("observe")
        await observe_backorders(settings, "o2")
        assert await runner.run_pending() == 0
        known["observe"] = observe
        await change(settings, "UPDATE deliveries SET state = 'pending'")
        assert await runner.run_pending() == 1
        await runner.close()

    run(settings, scenario)
    assert recorder.orders == ["o1", "o2"]


def test_a_message_that_cannot_be_read_becomes_a_dead_letter_at_once(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        for sku in ("CHAIR", "TABLE"):
            await backorder(service, sku, "o1")
        await change(settings, "UPDATE deliveries SET type = 'Forgotten' WHERE sku = 'CHAIR'")
        with structlog.testing.capture_logs() as lines:
            assert await service.effects.run_pending() == 1
        reason = "Hopeless: cannot read the message: KeyError: 'Forgotten'"
        assert [(line["sku"], line["reason"]) for line in lines] == [("CHAIR", reason)]

    run(settings, scenario)
    assert server.subjects == ["Out of stock for TABLE: 1 order line waits"]
    assert asyncio.run(states(settings)) == [("dead", 1)]


def test_so_many_failures_at_once_stop_the_effects(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "MAX_WAITING", 5)
    attempts: list[Event] = []

    def fail(event: Event) -> None:
        attempts.append(event)
        raise ValueError(event)

    async def scenario(service: Service) -> None:
        for number in range(300):
            await backorder(service, f"CHAIR-{number}", "o1")
        runner = relay(service, {EFFECT: fail})
        assert await runner.run_pending() == 0
        assert await runner.run_pending() == 0
        await runner.close()

    run(settings, scenario)
    assert len(attempts) <= relay_module.PAGE_SIZE


def test_a_failing_effect_is_tried_later_and_later(settings: Settings) -> None:
    now = [0.0]
    recorder = Recorder()
    recorder.failures = {"o1": [Unreachable("down")] * 9}

    async def scenario(service: Service) -> None:
        await backorder(service, "CHAIR", "o1")
        await change(settings, "DELETE FROM deliveries")
        await observe_backorders(settings)
        runner = relay(service, {"observe": recorder.observe}, rng=random.Random(SEED), clock=lambda: now[0])
        with structlog.testing.capture_logs() as lines:
            while not recorder.orders and now[0] < 1_000:
                await runner.run_pending()
                now[0] += 0.25
        rng = random.Random(SEED)
        longest = [1, 2, 4, 8, 16, 32, 60, 60, 60]
        delays = [round(each * rng.uniform(0.5, 1), 3) for each in longest]
        assert [line["retry_in_s"] for line in lines] == delays
        assert all(each / 2 <= delay <= each for each, delay in zip(longest, delays, strict=True))
        assert len({delay / each for each, delay in zip(longest, delays, strict=True)}) == len(longest)
        assert now[0] == pytest.approx(sum(delays), abs=0.25 * (len(delays) + 1))
        await runner.close()

    run(settings, scenario)


@pytest.mark.usefixtures("_impatient")
def test_what_another_process_committed_is_found_without_a_wake(settings: Settings, server: MailServer) -> None:
    async def scenario(service: Service) -> None:
        service.effects.start()
        await asyncio.sleep(0.1)
        with service_process(settings, runs_effects="no"):
            await until(lambda: server.subjects == ["Out of stock for CHAIR: 1 order line waits"])

    run(settings, scenario)


def test_the_next_one_takes_over_when_a_relay_is_closed(settings: Settings, server: MailServer) -> None:
    async def nothing_is_pending() -> bool:
        return not await read_pending(settings)

    async def scenario(service: Service) -> None:
        await backorder(service, "TABLE", "o1")
        assert await service.effects.run_pending() == 1
        other = relay(service, {EFFECT: lambda _: None})
        await backorder(service, "CHAIR", "o1")
        assert await other.run_pending() == 0
        await service.effects.close()
        other.start()
        await until(nothing_is_pending, relay_module.POLL_INTERVAL_S)
        await other.close()

    run(settings, scenario)


@pytest.mark.usefixtures("_impatient")
def test_effects_go_on_after_the_connection_was_lost(
    postgres_url: str, postgres_server: PostgresServer, server: MailServer
) -> None:
    settings = Settings(database_url=postgres_url, smtp_host="127.0.0.1", smtp_port=server.port, stock_team=STOCK_TEAM)
    disconnect = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"

    async def scenario(service: Service) -> None:
        service.effects.start()
        await backorder(service, "CHAIR", "o1")
        await until(lambda: len(server.mails) == 1)
        with structlog.testing.capture_logs() as lines:
            await asyncio.to_thread(postgres_server.query, disconnect + " AND datname = 'shared'")
            await until(lambda: bool(lines))
            await backorder(service, "TABLE", "o1")
            await until(lambda: len(server.mails) == 2)
        assert {line["event"] for line in lines} == {"deliveries cannot be read"}

    run(settings, scenario)


def many(state: str) -> str:
    return (
        "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body, state)"
        f" SELECT '{state}-' || number, 0, '{EFFECT}', 'CHAIR', 'OutOfStock', '{{}}', '{state}'"
        " FROM generate_series(1, 5000) AS number"
    )


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="nothing"),
        pytest.param(["VACUUM deliveries"], id="counted empty"),
        pytest.param([many("done"), "ANALYZE deliveries"], id="kept"),
        pytest.param([many("pending"), "ANALYZE deliveries", "TRUNCATE deliveries", many("done")], id="kept since"),
        pytest.param([many("pending"), many("done"), "ANALYZE deliveries", "TRUNCATE deliveries"], id="emptied"),
        pytest.param(
            [many("done"), "ANALYZE deliveries", "TRUNCATE deliveries", "VACUUM deliveries"], id="counted again"
        ),
    ],
)
@pytest.mark.parametrize("dead_letters_hold", [True, False])
def test_a_look_reads_a_page_however_much_is_pending_or_kept(
    postgres_url: str, postgres_server: PostgresServer, before: Sequence[str], dead_letters_hold: bool
) -> None:
    """Also when the statement was planned for a table that was empty, or counted when it was another."""
    for statement in before:
        postgres_server.query(statement, "shared")
    rows_read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'deliveries'"
    looks = 7

    async def scenario() -> None:
        outbox = Outbox(parse_url(postgres_url))

        async def look() -> int:
            assert set(await outbox.waiting()) <= {EFFECT}
            every = range(PARTITIONS)
            return len(await outbox.due(EFFECT, every, relay_module.PAGE_SIZE, dead_letters_hold=dead_letters_hold))

        assert [await look() for _ in range(looks)] == [0] * looks
        await asyncio.to_thread(postgres_server.query, many("pending"), "shared")
        assert [await look() for _ in range(looks)] == [relay_module.PAGE_SIZE] * looks
        await outbox.close()  # the statistics are complete when its connection has gone

    read_before = int(postgres_server.query(rows_read, "shared")[0][0])
    asyncio.run(scenario())
    read = int(postgres_server.query(rows_read, "shared")[0][0]) - read_before
    assert read <= looks * (relay_module.PAGE_SIZE + 3)  # the effects' names take a row or two


class CountingOutbox(Outbox):
    looks = 0

    async def waiting(self) -> Mapping[str, int]:
        self.looks += 1
        return await super().waiting()


@pytest.mark.parametrize(("wakes", "least", "most"), [(True, 2, 4), (False, 1, 1)])
def test_many_commits_share_a_look_and_without_one_there_is_none(
    settings: Settings, wakes: bool, least: int, most: int
) -> None:
    async def scenario(service: Service) -> None:
        outbox = CountingOutbox(service.url)
        runner = Relay(outbox, among({}))
        runner.start()
        until_s = time.monotonic() + 0.55
        while time.monotonic() < until_s:
            if wakes:
                runner.wake()
            await asyncio.sleep(0.001)
        await runner.close()
        assert least <= outbox.looks <= most

    run(settings, scenario)
    assert asyncio.run(select(parse_url(settings.database_url), "SELECT * FROM leases")) == []  # nothing was written


def test_closing_finishes_the_effect_under_way_and_leaves_the_others(settings: Settings) -> None:
    started, done = threading.Event(), threading.Event()

    def slow(_: Event) -> None:
        started.set()
        done.wait(PATIENCE_S)

    async def scenario(service: Service) -> None:
        for sku in ("CHAIR", "TABLE"):
            await backorder(service, sku, "o1")
        runner = relay(service, {EFFECT: slow})
        runner.start()
        await asyncio.to_thread(started.wait, PATIENCE_S)
        closing = asyncio.create_task(runner.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        done.set()
        await closing

    run(settings, scenario)
    assert pending(settings) == [(EFFECT, "TABLE")]


class Postcards:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def send_mail(self, to: str, subject: str, text: str = "", id_: str = "") -> None:
        self.sent.append(f"{id_} to {to}: {subject} {text}")


def test_bind_gives_each_effect_the_ports_it_names() -> None:
    postcards = Postcards()
    bound = bind(EFFECTS, notifications=postcards, stock_team=FakeStockTeam(), others="ignored")
    bound[EFFECT](OutOfStock("CHAIR"))
    assert postcards.sent == [" to stock@example.com: Out of stock for CHAIR "]


def test_an_effect_gets_the_id_of_its_message_if_it_asks_for_it() -> None:
    postcards = Postcards()
    find = among(bind(EFFECTS, notifications=postcards, stock_team=FakeStockTeam()))
    deliver = find(EFFECT)
    assert deliver is not None
    deliver(Delivery(1, "m1", 3, EFFECT, "CHAIR", "OutOfStock", '{"sku":"CHAIR"}', 0, None))
    assert postcards.sent == ["m1~3 to stock@example.com: Out of stock for CHAIR "]


def test_bind_refuses_an_effect_whose_port_is_missing() -> None:
    def call_the_buyer(event: OutOfStock, notifications: Notifications, telephone: object) -> None: ...

    with pytest.raises(TypeError, match=r"call_the_buyer asks for telephone: pass it to bind\(\)"):
        bind({OutOfStock: [call_the_buyer]}, notifications=Postcards(), stock_team=FakeStockTeam())


def run(settings: Settings, scenario: Callable[[Service], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await asyncio.to_thread(bootstrap, settings) as service:
            await scenario(service)

    asyncio.run(main())


async def run_pending(service: Service) -> None:
    assert await service.effects.run_pending() == 1


async def backorder(service: Service, sku: str, orderid: str) -> None:
    """Let a line of the SKU wait, which may be new."""
    await service.writer.handle(new_message(BatchCreated(f"batch of {sku}", sku, 1), "test"))
    await service.writer.handle(new_message(AllocationRequired(orderid, sku, 2), "test"))


async def observe_backorders(settings: Settings, orderid: str = "%") -> None:
    """Ask for a delivery that no handler asks for yet: one that tells the orders apart."""
    await change(
        settings,
        "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body)"
        " SELECT correlation_id, step, 'observe', sku, type, body FROM messages"
        f" WHERE type = 'Backordered' AND orderid LIKE '{orderid}' ORDER BY position",
    )


async def states(settings: Settings) -> list[tuple[str, int]]:
    """State and attempts of the deliveries that are left."""
    query = "SELECT state, attempts FROM deliveries ORDER BY number"
    return [(state, attempts) for state, attempts in await select(parse_url(settings.database_url), query)]


def relay(
    service: Service,
    effects: Mapping[str, Callable[[Any], None]],
    policy: Policy | None = None,
    rng: random.Random | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Relay:
    """Another relay on the service's database, with effects of the test's own beside those there are."""
    return Relay(Outbox(service.url), among(effects), policy or Policy(), rng, clock)


async def change(settings: Settings, statement: str) -> None:
    await builders.change(parse_url(settings.database_url), statement)


def pending(settings: Settings) -> list[tuple[str, str]]:
    """Effect and SKU of the deliveries that are left."""
    return asyncio.run(read_pending(settings))


async def read_pending(settings: Settings) -> list[tuple[str, str]]:
    query = "SELECT effect, sku FROM deliveries ORDER BY number"
    return [(effect, sku) for effect, sku in await select(parse_url(settings.database_url), query)]


@contextmanager
def service_process(settings: Settings, runs_effects: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has committed a line which waits."""
    command = [sys.executable, "-c", SERVICE, settings.database_url, str(settings.smtp_port), runs_effects]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "committed\n"
            yield process
        finally:
            process.kill()

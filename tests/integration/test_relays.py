"""Several relays on one database: they share the work, take over from the dead, and are safe from the late."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from allocation.adapters.connection import OwnConnection, Statements
from allocation.adapters.database import parse_url
from allocation.adapters.dead_letters import SqlDeadLetters
from allocation.adapters.outbox import Outbox
from allocation.service_layer.delivering import relay as relay_module
from allocation.service_layer.delivering.dead_letters import Chosen, Which
from allocation.service_layer.delivering.effects import Delivery, Hopeless, Unreachable
from allocation.service_layer.delivering.leases import PARTITIONS, partition_of
from allocation.service_layer.delivering.relay import Failure, Policy, Relay, Results
from allocation.service_layer.writing.store import StoreUnavailable
from tests.builders import change, select
from tests.waiting import PATIENCE_S, until, wait_until

LEASE_S = 1.0
ALL = Which()
FAST = {"LOOK_INTERVAL_S": 0.01, "POLL_INTERVAL_S": 0.05, "RETRY_DELAY_S": 0.01, "MAX_RETRY_DELAY_S": 0.02}

# A process that notes in a file what it delivers, each taking so long.
PROCESS = """
import asyncio, sys, time
from pathlib import Path
from allocation.adapters.outbox import Outbox
from allocation.adapters.database import parse_url
from allocation.service_layer.delivering import relay
from allocation.service_layer.delivering.relay import Policy, Relay

url, notes, name, seconds = sys.argv[1:]
relay.LOOK_INTERVAL_S, relay.POLL_INTERVAL_S = 0.01, 0.05

def note(delivery):
    with Path(notes).open("a") as file:
        file.write(f"{name} {delivery.effect} {delivery.sku} {delivery.number}\\n")
    time.sleep(float(seconds))

async def main():
    runner = Relay(Outbox(parse_url(url), name), lambda _: note, Policy(lease_s=1.0))
    runner.start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FAST.items():
        monkeypatch.setattr(relay_module, name, value)


class Target:
    """What is delivered arrives here, unless ``answer`` raises."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.tried: list[int] = []
        self.answer: Callable[[Delivery], None] = lambda _: None

    def take(self, delivery: Delivery) -> None:
        self.tried.append(delivery.number)
        self.answer(delivery)
        self.numbers.append(delivery.number)


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    path.touch()
    return path


def test_two_relays_share_the_work(database_url: str, notes: Path) -> None:
    owe(database_url, 400, skus=40)
    with relay_process(database_url, notes, "one", 0.01), relay_process(database_url, notes, "two", 0.01):
        wait_until(lambda: nothing_is_pending(database_url))
    by_relay = Counter(line[0] for line in noted(notes))
    assert set(by_relay) == {"one", "two"}
    assert min(by_relay.values()) > 40
    assert_in_order(notes, 400)
    assert len(noted(notes)) == 400  # nobody was killed, so nothing came twice


def test_kill_9_of_a_relay_is_made_good_in_seconds_and_loses_nothing(database_url: str, notes: Path) -> None:
    owe(database_url, 1_000, skus=50)
    with relay_process(database_url, notes, "one", 0.001) as one:
        wait_until(lambda: len(noted(notes)) > 300)
        os.kill(one.pid, signal.SIGKILL)
        one.wait()
        with relay_process(database_url, notes, "two", 0.0):
            wait_until(lambda: nothing_is_pending(database_url))
    assert {line[0] for line in noted(notes)} == {"one", "two"}
    assert_in_order(notes, 1_000)


def test_a_relay_that_wakes_up_late_changes_nothing(database_url: str, notes: Path) -> None:
    """It is stopped in the middle of a delivery, and goes on when another one has failed with the same."""
    sku = next(f"SKU-{number}" for number in range(100) if partition_of(f"SKU-{number}") == 0)  # is released last
    asyncio.run(insert(database_url, 1, sku))
    with relay_process(database_url, notes, "late", 0.2) as late:
        wait_until(lambda: len(noted(notes)) == 1)
        os.kill(late.pid, signal.SIGSTOP)
        failing = Target()
        failing.answer = refuse

        async def scenario() -> None:
            relay = new_relay(database_url, failing, Policy(lease_s=LEASE_S, max_attempts=1_000))
            relay.start()
            await until(lambda: bool(failing.tried))
            tried = len(failing.tried)
            os.kill(late.pid, signal.SIGCONT)
            await until_relays(database_url, 2)  # it is awake, and asks for a share
            await until(lambda: len(failing.tried) > tried + 3)
            assert await rows(database_url, "SELECT state FROM deliveries") == [("pending",)]
            await relay.close()

        asyncio.run(scenario())
    assert len(noted(notes)) == 1


def test_results_of_an_older_epoch_are_refused(database_url: str) -> None:
    owe(database_url, 20, skus=20)

    async def scenario() -> None:
        old, new = Outbox(parse_url(database_url), "old"), Outbox(parse_url(database_url), "new")
        held = await old.lease(set(), 0.05)
        assert held.usable == set(range(PARTITIONS))
        page = await old.due("note", held.usable, 100, dead_letters_hold=False)
        await asyncio.sleep(0.1)
        taken = await new.lease(set(), LEASE_S)
        assert taken.epochs == {partition: epoch + 1 for partition, epoch in held.epochs.items()}
        failures = [Failure(page[-1], 1, "ValueError: no", "", None)]
        late = Results(list(page[:-1]), failures)
        assert await old.settle(held.epochs, late, keep_done=False) == 0
        assert await rows(database_url, "SELECT DISTINCT state FROM deliveries") == [("pending",)]
        assert await new.settle(taken.epochs, late, keep_done=False) == 20
        await old.close()
        await new.close()

    asyncio.run(scenario())


def test_a_holder_that_lost_a_lease_and_got_it_back_cannot_settle_what_it_read_before(database_url: str) -> None:
    owe(database_url, 1, skus=1)

    async def scenario() -> None:
        mine, other = Outbox(parse_url(database_url), "mine"), Outbox(parse_url(database_url), "other")
        before = await mine.lease(set(), 0.05)
        page = await mine.due("note", before.usable, 100, dead_letters_hold=False)
        await asyncio.sleep(0.1)
        await other.lease(set(), LEASE_S)
        await other.release()
        after = await mine.lease(set(), LEASE_S)
        assert await mine.settle(before.epochs, Results(list(page)), keep_done=False) == 0
        assert await mine.settle(after.epochs, Results(list(page)), keep_done=False) == 1
        await mine.close()
        await other.close()

    asyncio.run(scenario())


def test_partitions_are_shared_fairly_as_relays_come_and_go(database_url: str) -> None:
    async def scenario() -> None:
        one, two = Outbox(parse_url(database_url), "one"), Outbox(parse_url(database_url), "two")
        assert len((await one.lease(set(), LEASE_S)).epochs) == PARTITIONS
        assert len((await two.lease(set(), LEASE_S)).epochs) == 0
        assert len((await one.lease(set(), LEASE_S)).epochs) == PARTITIONS // 2
        assert len((await two.lease(set(), LEASE_S)).epochs) == PARTITIONS // 2
        await two.release()
        assert len((await one.lease(set(), LEASE_S)).epochs) == PARTITIONS
        await one.close()
        await two.close()

    asyncio.run(scenario())


def test_a_relay_with_nothing_to_do_has_no_lease(database_url: str, target: Target) -> None:
    async def nobody_has_one() -> bool:
        return not any(holder for _, holder, _ in await leases(database_url))

    async def scenario() -> None:
        relay = new_relay(database_url, target, Policy(lease_s=0.2))
        relay.start()
        await asyncio.sleep(0.1)
        assert await leases(database_url) == []
        await aowe(database_url, 3, skus=3)
        await until(lambda: len(target.numbers) == 3)
        await until(nobody_has_one)
        assert await rows(database_url, "SELECT name FROM relays") == []
        await relay.close()

    asyncio.run(scenario())


def test_a_database_hashes_as_we_do(database_url: str) -> None:
    skus = ["CHAIR", "ÉTAGÈRE", "椅子", "'", *(f"SKU-{number}" for number in range(60))]

    async def scenario() -> None:
        outbox = Outbox(parse_url(database_url))
        for sku in skus:
            await insert(database_url, 1, sku)
        for partition in range(PARTITIONS):
            due = await outbox.due("note", {partition}, 100, dead_letters_hold=False)
            assert [each.sku for each in due] == [sku for sku in skus if partition_of(sku) == partition]
        await outbox.close()

    asyncio.run(scenario())


def test_order_is_kept_in_each_lane_whatever_fails(database_url: str, target: Target) -> None:
    owe(database_url, 300, skus=10)
    target.answer = lambda delivery: (
        refuse(delivery) if target.tried.count(delivery.number) <= delivery.number % 4 else None
    )
    relayed(database_url, target, lambda: len(target.numbers) == 300)
    for number in range(10):
        lane = [each for each in target.numbers if each % 10 == number]
        assert lane == sorted(lane)


def test_a_bad_delivery_becomes_a_dead_letter_and_its_followers_go_on(database_url: str, target: Target) -> None:
    owe(database_url, 6, skus=1)
    target.answer = lambda delivery: refuse(delivery) if delivery.number == 2 else None
    relayed(database_url, target, lambda: len(target.numbers) == 5, Policy(lease_s=LEASE_S, max_attempts=3))
    assert target.numbers == [1, 3, 4, 5, 6]
    assert target.tried.count(2) == 3
    found = asyncio.run(rows(database_url, "SELECT number, state, attempts, error FROM deliveries"))
    assert found == [(2, "dead", 3, "ValueError: not 2")]
    ((stack,),) = asyncio.run(rows(database_url, "SELECT stack FROM deliveries"))
    assert "in refuse" in stack


def test_followers_may_wait_for_a_dead_letter(database_url: str, target: Target) -> None:
    owe(database_url, 6, skus=2)
    target.answer = lambda delivery: refuse(delivery) if delivery.number == 2 else None
    policy = Policy(lease_s=LEASE_S, max_attempts=2, dead_letters_hold=True)

    async def scenario() -> None:
        relay = new_relay(database_url, target, policy)
        relay.start()
        await until(lambda: target.tried.count(2) == 2 and len(target.numbers) == 3)
        await relay.run_pending()
        assert target.numbers == [1, 3, 5]  # the other lane
        target.answer = lambda _: None
        assert (await retry(database_url)).count == 1
        await until(lambda: len(target.numbers) == 6)
        await relay.close()

    asyncio.run(scenario())
    assert target.numbers[3:] == [2, 4, 6]


def test_attempts_are_remembered_by_the_next_process(database_url: str, target: Target) -> None:
    owe(database_url, 1, skus=1)
    target.answer = refuse

    async def scenario() -> None:
        for _ in range(3):
            relay = new_relay(database_url, target, Policy(lease_s=LEASE_S, max_attempts=3))
            await relay.run_pending()
            await relay.close()
            await asyncio.sleep(relay_module.MAX_RETRY_DELAY_S)

    asyncio.run(scenario())
    assert asyncio.run(rows(database_url, "SELECT state, attempts FROM deliveries")) == [("dead", 3)]


def test_a_target_that_is_down_holds_its_effect_only_and_burns_no_attempt(database_url: str, target: Target) -> None:
    owe(database_url, 3, skus=3)
    asyncio.run(insert(database_url, 1, "CHAIR", effect="other"))

    def fail(delivery: Delivery) -> None:
        if delivery.effect == "note" and len(target.tried) < 20:
            raise Unreachable("down")

    target.answer = fail
    relayed(database_url, target, lambda: len(target.numbers) == 4, Policy(lease_s=LEASE_S, max_attempts=2))
    assert target.numbers == [4, 1, 2, 3]
    assert target.tried.count(1) > 10


def test_a_slow_target_keeps_no_other_effect_waiting(database_url: str, target: Target) -> None:
    released = asyncio.Event()
    asyncio.run(insert(database_url, 1, "CHAIR", effect="slow"))
    asyncio.run(insert(database_url, 1, "CHAIR", effect="quick"))
    order: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def take(delivery: Delivery) -> None:
            if delivery.effect == "slow":
                asyncio.run_coroutine_threadsafe(released.wait(), loop).result(PATIENCE_S)
            order.append(delivery.effect)

        relay = Relay(Outbox(parse_url(database_url)), lambda _: take, Policy(lease_s=LEASE_S))
        relay.start()
        await until(lambda: order == ["quick"])
        released.set()
        await until(lambda: order == ["quick", "slow"])
        await relay.close()

    asyncio.run(scenario())


def test_retry_says_first_what_it_would_do_and_then_goes_before_newer_ones(database_url: str, target: Target) -> None:
    owe(database_url, 4, skus=2)
    target.answer = hopeless
    relayed(database_url, target, lambda: len(target.tried) == 4)
    before = asyncio.run(rows(database_url, "SELECT * FROM deliveries ORDER BY number"))
    owe(database_url, 4, skus=2)
    ids = asyncio.run(rows(database_url, "SELECT number, correlation_id, step FROM deliveries ORDER BY number"))

    assert asyncio.run(retry(database_url, dry_run=True)) == Chosen(4, {"note": 4}, dry_run=True)
    dead = "SELECT * FROM deliveries WHERE state = 'dead' ORDER BY number"
    assert asyncio.run(rows(database_url, dead)) == before

    assert asyncio.run(retry(database_url, Which(sku="SKU-1"))) == Chosen(2, {"note": 2}, dry_run=False)
    assert asyncio.run(retry(database_url)).count == 2
    after = asyncio.run(rows(database_url, "SELECT number, correlation_id, step FROM deliveries ORDER BY number"))
    assert after == ids
    target.answer = lambda _: None
    relayed(database_url, target, lambda: len(target.numbers) == 8)
    assert [each for each in target.numbers if each % 2] == [1, 3, 5, 7]
    assert [each for each in target.numbers if not each % 2] == [2, 4, 6, 8]


def test_what_was_kept_long_enough_is_removed_a_few_rows_at_a_time(
    database_url: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "TIDY_BATCH", 3)
    owe(database_url, 20, skus=20)
    target.answer = lambda delivery: hopeless(delivery) if delivery.number > 10 else None
    policy = Policy(lease_s=LEASE_S, keep_done_s=3_600, keep_dead_s=3_600)

    async def scenario() -> None:
        relay = new_relay(database_url, target, policy)
        assert await relay.run_pending() == 10
        assert await relay.tidy() == 0
        counts = "SELECT state, count(*) FROM deliveries GROUP BY state ORDER BY state"
        assert await rows(database_url, counts) == [("dead", 10), ("done", 10)]
        await change(parse_url(database_url), "UPDATE deliveries SET settled_at = '2026-01-01T00:00:00.000+00:00'")
        await aowe(database_url, 2, skus=2)
        assert await relay.tidy() == 20
        assert await rows(database_url, counts) == [("pending", 2)]
        await relay.close()

    asyncio.run(scenario())


def refuse(delivery: Delivery) -> None:
    raise ValueError(f"not {delivery.number}")


def hopeless(delivery: Delivery) -> None:
    raise Hopeless(f"never {delivery.number}")


def new_relay(database_url: str, target: Target, policy: Policy | None = None) -> Relay:
    return Relay(Outbox(parse_url(database_url)), lambda _: target.take, policy or Policy(lease_s=LEASE_S))


def relayed(database_url: str, target: Target, condition: Callable[[], bool], policy: Policy | None = None) -> None:
    """Run a relay until the condition holds, and everything is marked."""

    async def scenario() -> None:
        relay = new_relay(database_url, target, policy)
        relay.start()
        await until(condition)
        await relay.close()

    asyncio.run(scenario())


async def retry(database_url: str, which: Which = ALL, *, dry_run: bool = False) -> Chosen:
    letters = SqlDeadLetters(parse_url(database_url))
    try:
        return await letters.retry(which, dry_run=dry_run)
    finally:
        await letters.close()


def owe(database_url: str, count: int, skus: int) -> None:
    asyncio.run(aowe(database_url, count, skus))


async def aowe(database_url: str, count: int, skus: int) -> None:
    """Deliveries of the effect ``note``; number n is of the SKU n modulo their count."""
    await insert(database_url, count, f"SKU-' || (number % {skus}) || '")


async def insert(database_url: str, count: int, sku: str, effect: str = "note") -> None:
    quoted = sku if "||" in sku else sku.replace("'", "''")
    await change(
        parse_url(database_url),
        f"WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {count})"
        " INSERT INTO deliveries (correlation_id, step, effect, sku, type, body)"
        f" SELECT (SELECT coalesce(max(number), 0) FROM deliveries) || '-' || number, 0, '{effect}', '{quoted}',"
        " 'OutOfStock', '{}' FROM numbers",
    )


async def rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    return await select(parse_url(database_url), query)


async def leases(database_url: str) -> list[tuple[Any, ...]]:
    return await rows(database_url, "SELECT partition, holder, epoch FROM leases ORDER BY partition")


async def until_relays(database_url: str, count: int) -> None:
    alive = "SELECT count(*) FROM relays WHERE expires_at > "
    now = "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')" if database_url.startswith("sqlite") else "clock_timestamp()"

    async def are_there() -> bool:
        return await rows(database_url, alive + now) == [(count,)]

    await until(are_there)


def nothing_is_pending(database_url: str) -> bool:
    return not asyncio.run(rows(database_url, "SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT 1"))


def noted(notes: Path) -> list[tuple[str, str, int]]:
    """Relay, SKU and number of each delivery made."""
    lines = (line.split() for line in notes.read_text().splitlines())
    return [(name, sku, int(number)) for name, _, sku, number in lines]


def assert_in_order(notes: Path, count: int) -> None:
    """Every delivery was made, and for the first time after all before it in its lane."""
    first: dict[int, str] = {}
    for _, sku, number in noted(notes):
        first.setdefault(number, sku)
    assert sorted(first) == list(range(1, count + 1))
    lanes: dict[str, list[int]] = {}
    for number, sku in first.items():
        lanes.setdefault(sku, []).append(number)
    assert all(lane == sorted(lane) for lane in lanes.values())


@contextmanager
def relay_process(database_url: str, notes: Path, name: str, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", PROCESS, database_url, str(notes), name, str(seconds)]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_connection_that_is_lost_in_a_transaction_is_made_anew(postgres_url: str) -> None:
    async def scenario() -> None:
        connection = OwnConnection(parse_url(postgres_url))

        def hang_up(statements: Statements) -> None:
            statements.rows("SELECT pg_terminate_backend(pg_backend_pid())")

        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await connection.run_in_transaction(hang_up)
            assert await connection.run_in_transaction(lambda statements: statements.rows("SELECT 1")) == [(1,)]
        await connection.close()

    asyncio.run(scenario())

"""Closed lines that go when they were kept long enough, on real databases; what is left is proved as before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, make_url

from allocation import views
from allocation.adapters import closed_lines
from allocation.adapters.connection import OwnConnection, Statements
from allocation.adapters.database import is_sqlite
from allocation.adapters.long_reader import LongReader
from allocation.console_views import ledger as console_ledger
from allocation.console_views.steering import touched
from allocation.domain.days import UTC_DAYS
from allocation.domain.errors import LedgerBeginsLater, LineWasSplit, UnknownLine
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    Event,
    HoldConfirmed,
    HoldReleased,
    LineQuantityChanged,
    LineReturned,
    LineShipped,
    RepairRequired,
    StockHeld,
)
from allocation.service_layer.messages import Outcome
from allocation.service_layer.proving import retention
from allocation.service_layer.proving.retention import FIRST, Tidied
from allocation.service_layer.writing.expiry import Expiry
from allocation.views.audit import audit_all
from allocation.views.cascade import cascade
from allocation.views.explain import NOW, explain
from allocation.views.past import find_past
from tests import lives
from tests.builders import Contents, handle_together, message, right_now
from tests.closing import KEEP, Shop, shop_at
from tests.lives import random_event

SKU = "LAMP"
DAY = timedelta(days=1)
READ_EACH_TIME = 25  # lines, and messages, of those that are kept; in the end all are read


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 3)
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)


def any_event(dice: random.Random) -> Event:
    """Of any kind, and often one that ends a line."""
    if dice.random() < 0.6:
        return random_event(dice)
    orderid, sku = f"o{dice.randint(1, lives.ORDERS)}", dice.choice(lives.SKUS)
    ends = LineShipped(orderid, sku), AllocationCancelled(orderid, sku), LineReturned(orderid, sku, 1)
    return dice.choice([*ends, BatchCreated(f"fresh-{dice.randrange(1_000_000)}", sku, 40)])


@pytest.mark.parametrize("seed", range(6))
def test_whatever_lines_lived_through_the_books_are_right_without_those_that_are_gone(
    database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "ORDERS", 30)

    async def play() -> Tidied:
        dice, readers_dice, total = random.Random(seed), random.Random(seed), Tidied()
        async with shop_at(database_url) as shop:
            for _ in range(15):
                for _ in range(40):
                    shop.now += timedelta(hours=5)
                    await shop.send(any_event(dice))
                if dice.random() < 0.7:
                    await shop.deliver()
                before = await shop.kept()
                total.add(tidied := await shop.tidy(timedelta(days=6)))
                after = await shop.kept()
                assert await shop.differences() == []
                assert (after.products, after.batches) == (before.products, before.batches)
                assert set(after.lines) <= set(before.lines)
                assert len(before.lines) - len(after.lines) == tidied.lines
                assert len(before.ledger) - len(after.ledger) == tidied.messages
                await shop.read(check_that_all_can_be_read, after, partial(some, dice=readers_dice))
                await check_that_now_is_the_past_until_now(shop, after)
            await shop.read(check_that_all_can_be_read, after)
        return total

    total = asyncio.run(play())
    assert total.lines > 10
    assert total.messages > 2 * total.lines


def check_that_all_can_be_read(
    connection: Connection, kept: Contents, chosen: Callable[[Sequence[Any]], Sequence[Any]] = list
) -> None:
    """With ``chosen``, of the lines and messages only these."""
    for orderid, sku, *_ in chosen(kept.lines):
        explain(connection, orderid, sku, right_now())
    first = {correlation_id for correlation_id, step, *_ in kept.ledger if step == 0}
    assert first == {row[0] for row in kept.ledger}, "a cascade keeps its first message"
    steps = {row[:2] for row in kept.ledger}
    assert all(row[2] is None or (row[0], row[2]) in steps for row in kept.ledger), "a message keeps its cause"
    for correlation_id in chosen(sorted(first)):
        cascade(connection, correlation_id)
        touched(connection, correlation_id, UTC_DAYS)
        console_ledger.cascade(connection, correlation_id)


def some(found: Sequence[Any], dice: random.Random) -> Sequence[Any]:
    return dice.sample(found, min(len(found), READ_EACH_TIME))


async def check_that_now_is_the_past_until_now(shop: Shop, kept: Contents) -> None:
    for sku, _, waiting_lines, *_ in kept.products:
        found = (await shop.read(find_past, sku, shop.now)).product
        assert found is not None
        assert found.waiting_lines == waiting_lines
        stored = {
            ref: (purchased + inspected, allocated - shipped, shipped)
            for ref, of, _, purchased, allocated, _, _, _, shipped, _, _, _, _, _, _, inspected, *_ in kept.batches
            if of == sku
        }
        assert stored == {
            each.batchref: (each.purchased_quantity, each.allocated_quantity, each.shipped_quantity)
            for each in found.batches
        }
        waiting = [(line[4], line[0]) for line in kept.lines if line[1] == sku and line[3] is line[7] is None]
        assert [(line.position, line.orderid) for line in found.waiting] == sorted(waiting)


def test_a_line_goes_whole_when_nothing_was_said_of_it_for_long_enough(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shop.send(BatchCreated("b1", SKU, 9), *(AllocationRequired(f"o{n}", SKU, 2) for n in (1, 2, 3)))
            await shop.send(LineShipped("o1", SKU), LineShipped("o2", SKU))
            await shop.pass_days(29)
            await shop.send(LineShipped("o2", SKU))  # again
            await shop.pass_days(1)
            assert (await shop.tidy()).lines == 0, "on the day"
            shop.now += timedelta(seconds=1)
            before = await shop.kept()
            assert await shop.tidy() == Tidied(lines=1, messages=4)
            after = await shop.kept()
            assert [line[0] for line in after.lines] == ["o2", "o3"]
            assert after.ledger == [row for row in before.ledger if row[5] != "o1"]
            await shop.pass_days(365)
            assert await shop.tidy() == Tidied(lines=1, messages=5)
            assert await shop.lines() == ["o3"], "which is open"
            [again] = await shop.send(AllocationRequired("o1", SKU, 1))
            assert isinstance(again, Outcome)
            assert again.result == "b1"
            assert await shop.differences() == []

    asyncio.run(play())


def test_a_line_that_ended_in_the_group_that_took_it_goes_too(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            group = BatchCreated("b1", SKU, 9), AllocationRequired("o1", SKU, 2), LineShipped("o1", SKU)
            await handle_together(shop.writer, *map(message, group))
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 1

    asyncio.run(play())


def test_a_part_that_has_gone_is_missed_by_nobody_and_leaves_its_name_to_others(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            order = AllocationRequired("o1", SKU, 5, split=True)
            await shop.send(BatchCreated("b1", SKU, 3), order, AllocationCancelled("o1/2", SKU))
            await shop.pass_days(365)
            assert (await shop.tidy()).lines == 1
            [again, other] = await shop.send(order, AllocationRequired("o1/2", SKU, 1))
            assert [each.result for each in (again, other) if isinstance(each, Outcome)] == ["b1", None]
            [refused] = await shop.send(LineQuantityChanged("o1", SKU, 2))
            assert isinstance(refused, LineWasSplit)
            assert refused.cure == "Cancel the line and order it again."
            await shop.send(AllocationCancelled("o1", SKU))
            kept = await shop.kept()
            assert {(line[0], line[3]) for line in kept.lines} == {("o1", None), ("o1/2", "b1")}
            assert await shop.differences() == []

    asyncio.run(play())


def test_what_is_owed_to_the_outside_world_keeps_its_cause(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shop.send(
                BatchCreated("b1", SKU, 1), AllocationRequired("o1", SKU, 2), AllocationCancelled("o1", SKU)
            )
            await shop.pass_days(31)
            for state in ("pending", "dead", "done"):
                await shop.change(f"UPDATE deliveries SET state = '{state}'")
                assert await shop.tidy() == Tidied(undelivered=1)
            await shop.deliver()
            assert await shop.tidy() == Tidied(lines=1, messages=5)

    asyncio.run(play())


def test_the_first_message_of_a_cascade_stays_for_the_others_and_answers_its_repeat(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shop.send(BatchCreated("b1", SKU, 2), *(AllocationRequired(o, SKU, 2) for o in ("o1", "waits")))
            await shop.send(AllocationCancelled("o1", SKU), key="cancel-1")
            await shop.deliver()
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 1
            assert await shop.lines() == ["waits"]
            [row] = [row for row in (await shop.kept()).ledger if row[:2] == ("cancel-1", 0)]
            assert row[5] is None, "it says nothing of its line any more"
            assert await shop.select("SELECT remaining, bare FROM shortened") == [(3, True)]
            [repeated] = await shop.send(AllocationCancelled("o1", SKU), key="cancel-1")
            assert isinstance(repeated, Outcome)
            assert repeated.result is None
            assert [type(event).__name__ for event in repeated.raised] == ["AllocationRequired", "Allocated"]
            [other] = await shop.send(AllocationCancelled("o1", SKU), key="cancel-2")
            assert isinstance(other, UnknownLine)
            await shop.send(LineShipped("waits", SKU))
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 1
            kept = await shop.kept()
            assert {row[3] for row in kept.ledger} == {"BatchCreated", "RepairRequired"}
            assert await shop.select("SELECT * FROM shortened") == []
            assert await shop.differences() == []

    asyncio.run(play())


def test_the_id_of_a_hold_that_is_gone_may_be_used_again_and_expires_again(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            expiry = Expiry(
                shop.writer, lambda moment, most: shop.read(views.expired_holds, moment, most), lambda: shop.now
            )
            for number in range(3):
                await shop.send(BatchCreated(f"b{number}", SKU, 2), StockHeld("cart", SKU, 2, shop.now + DAY))
                await shop.send(AllocationRequired(f"o{number}", SKU, 2))  # which is served when the hold ends
                shop.now += DAY
                await expiry.look()
                lines = {line[0]: (line[3], line[7]) for line in (await shop.kept()).lines}
                assert (lines["cart"], lines[f"o{number}"]) == ((None, "expired"), (f"b{number}", None))
                await shop.deliver()
                await shop.pass_days(31)
                assert (await shop.tidy()).lines == 1
            assert await shop.differences() == []

    asyncio.run(play())


def test_a_hold_and_the_order_that_it_became_go_each_in_its_time(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shop.send(BatchCreated("b1", SKU, 5), *(StockHeld(c, SKU, 1, shop.now + KEEP) for c in ("c1", "c2")))
            await shop.send(HoldConfirmed("c1", "o1"), HoldReleased("c2"))
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 2
            assert await shop.lines() == ["o1"]
            assert await shop.differences() == []
            await shop.send(LineShipped("o1", SKU))
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 1
            assert {row[3] for row in (await shop.kept()).ledger} == {"BatchCreated", "RepairRequired"}
            assert await shop.differences() == []

    asyncio.run(play())


async def long_ago(shop: Shop) -> None:
    """Of seven lines three were shipped, and a part came back; one was cancelled for another, and two wait again."""
    orders = [AllocationRequired(f"o{n}", SKU, 2) for n in range(1, 8)]
    await shop.send(BatchCreated("b1", SKU, 12), *orders, *(LineShipped(f"o{n}", SKU) for n in (1, 2, 3)))
    await shop.send(LineReturned("o3", SKU, 1), AllocationCancelled("o4", SKU))
    await shop.send(BatchQuantityChanged("b1", 8), key="cut")
    await shop.deliver()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE batches SET allocated_quantity = allocated_quantity - 1", [("allocated-quantity", 6, 7)]),
        ("UPDATE batches SET shipped_quantity = shipped_quantity + 1", [("shipped-quantity", 6, 5)]),
        ("UPDATE products SET version_number = version_number + 1", [("version", 16, 15)]),
        ("UPDATE openings SET version_number = version_number - 1", [("version", 15, 14)]),
        (
            "UPDATE batch_openings SET shipped_quantity = 4",
            [("allocated-quantity", 7, 6), ("shipped-quantity", 5, 4)],
        ),
        (
            "INSERT INTO batch_openings VALUES ('LAMP', 'nowhere', 1), ('SOFA', 'b2', 1)",
            [("batch-missing", None, None), ("product-missing", None, "a product"), ("batch-missing", None, None)],
        ),
    ],
)
def test_damage_is_found_after_lines_are_gone(
    database_url: str, damage: str, expected: list[tuple[object, ...]]
) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 4
            assert await shop.differences() == []
            await shop.change(damage)
            assert [(each.kind, each.stored, each.expected) for each in await shop.differences()] == expected

    asyncio.run(play())


def test_counters_are_repaired_with_what_is_gone_counted(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 4
            await shop.send(RepairRequired(SKU))
            assert (await shop.kept()).batches[0][3:5] == (8, 7)
            await shop.change("UPDATE batches SET allocated_quantity = 8, shipped_quantity = 2")
            await shop.send(RepairRequired(SKU))
            assert (await shop.kept()).batches[0][3:5] == (8, 7)
            assert await shop.differences() == []

    asyncio.run(play())


@pytest.mark.parametrize(("kept", "is_doubted"), [("batch_openings", True), ("batches", False)])
def test_counters_are_not_repaired_from_an_opening_that_looks_wrong(
    database_url: str, kept: str, is_doubted: bool
) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.pass_days(31)
            await shop.tidy()
            await shop.change(f"UPDATE {kept} SET shipped_quantity = shipped_quantity - 1")
            report, _ = await LongReader(shop.url).run(audit_all)
            assert (report.miscounted, report.doubted) == ({SKU}, {SKU} if is_doubted else set())

    asyncio.run(play())


@pytest.mark.parametrize("forgotten", ["OPEN_PRODUCTS", "OPEN_BATCHES", "SHORTEN", "REMOVE_MESSAGES", "REMOVE_LINES"])
def test_an_audit_would_notice_what_was_not_brought_forward(
    database_url: str, forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, statement = Statements.do, getattr(closed_lines, forgotten)
    monkeypatch.setattr(Statements, "do", lambda self, each, **values: each == statement or do(self, each, **values))

    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.send(AllocationCancelled("o6", SKU))
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 5
            assert await shop.differences() != []

    asyncio.run(play())


def test_a_message_that_is_missing_shows_in_a_cascade_that_lines_were_taken_out_of(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.send(AllocationCancelled("o6", SKU))  # one of those that the cut moved
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 5
            assert await shop.select("SELECT remaining FROM shortened WHERE correlation_id = 'cut'") == [(6,)]
            assert await shop.differences() == []
            await shop.change("DELETE FROM ledger WHERE correlation_id = 'cut' AND type = 'AllocationRequired'")
            gaps = [each[3:5] for each in await shop.differences() if each[:3] == ("ledger", SKU, "cut")]
            assert gaps == [("2 messages", "6 messages")]

    asyncio.run(play())


def test_a_line_in_doubt_stays_for_the_audit_to_name(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.change("UPDATE order_lines SET qty = 3 WHERE orderid = 'o1'")
            await shop.change("UPDATE ledger SET facts = NULL WHERE orderid = 'o2' AND type = 'LineShipped'")
            await shop.pass_days(31)
            before = await shop.differences()
            tidied = await shop.tidy()
            assert (tidied.lines, tidied.doubted) == (2, 2)
            assert await shop.differences() == before

    asyncio.run(play())


def test_a_dry_run_counts_and_changes_nothing(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.pass_days(31)
            before = await shop.kept()
            assert await shop.retention.tidy(KEEP, dry_run=True) == Tidied(lines=4)
            assert await shop.kept() == before
            assert await shop.select("SELECT * FROM openings") == []

    asyncio.run(play())


def test_positions_of_the_ledger_are_never_used_again(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await shop.send(BatchCreated("b1", SKU, 9), AllocationRequired("o1", SKU, 2), LineShipped("o1", SKU))
            [[newest]] = await shop.select("SELECT max(position) FROM ledger")
            shop.now += timedelta(days=31)
            assert (await shop.tidy()).lines == 0, "whose is the newest message of all"
            await shop.send(RepairRequired(SKU))
            assert (await shop.tidy()).lines == 1
            assert await shop.select("SELECT min(position) FROM ledger WHERE type = 'RepairRequired'") > [(newest,)]

    asyncio.run(play())


def test_the_past_can_be_seen_back_to_the_last_message_that_is_gone(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            last = shop.now
            await shop.send(BatchCreated("b2", "RUG", 3))
            await shop.pass_days(31)
            then = await shop.read(find_past, SKU, last)
            shipped_then = await shop.read(find_past, "b1", last)
            assert (await shop.tidy()).lines == 4
            assert await shop.read(find_past, SKU, last) == then
            batch, batch_then = (await shop.read(find_past, "b1", last)).batch, shipped_then.batch
            assert batch is not None
            assert batch_then is not None
            assert batch.lines == [line for line in batch_then.lines if line.state != "shipped"]
            assert (batch.allocated_quantity, batch.shipped_quantity) == (2, 5)
            too_early = last - timedelta(microseconds=1)
            for name in (SKU, "b1"):
                with pytest.raises(LedgerBeginsLater, match="The history of LAMP starts at 2026-01-31T12:00:00") as no:
                    await shop.read(find_past, name, too_early)
                assert no.value.cure == "Ask for that moment or a later one."
            assert (await shop.read(find_past, "RUG", last)).product is not None
            assert [line.sku for line in (await shop.read(find_past, "o5", last)).order] == [SKU]
            assert (await shop.read(find_past, "o1", last)).order == []

    asyncio.run(play())


def test_a_line_is_explained_as_of_now_where_its_past_is_gone(database_url: str) -> None:
    async def play() -> None:
        async with shop_at(database_url) as shop:
            await long_ago(shop)
            await shop.pass_days(31)
            assert (await shop.tidy()).lines == 4
            await shop.send(AllocationRequired("later", SKU, 1), key="later")
            old, new = [await shop.read(explain, orderid, SKU, right_now()) for orderid in ("o5", "later")]
            assert (old.as_of, len(old.history)) == (NOW, 2)
            assert new.as_of == "later~1"
            assert [(each.batchref, each.available_quantity) for each in new.considered] == [("b1", 1)]

    asyncio.run(play())


def test_what_goes_is_found_by_indexes_however_much_stays(database_url: str) -> None:
    values: dict[str, object] = {"rows": "[]", "texts": "[]", "numbers": "[]"}
    url = make_url(database_url)
    explain = "EXPLAIN QUERY PLAN" if is_sqlite(url) else "EXPLAIN"

    async def plan(statement: str, **moments: object) -> str:
        connection = OwnConnection(url)
        asked = {name: value for name, value in values.items() if f"{{{name}}}" in statement} | moments
        rows = await connection.run(lambda statements: statements.rows(f"{explain} {statement}", **asked))
        await connection.close()
        return "\n".join(str(row[-1]) for row in rows)

    moment = FIRST.closed_at.isoformat() if is_sqlite(url) else FIRST.closed_at
    asked = FIRST._asdict() | {"closed_at": moment, "until": moment, "limit": 1}
    assert "ix_order_lines_closed" in asyncio.run(plan(closed_lines.OLDEST, **asked))
    assert "ix_ledger_orderid" in asyncio.run(plan(closed_lines.LEDGER))
    for statement in (closed_lines.LINES, closed_lines.WHOLE, closed_lines.DELIVERIES, *REMOVALS):
        found = asyncio.run(plan(statement))
        for table in ("order_lines", "ledger", "deliveries", "kept", "line"):
            assert f"SCAN {table}\n" not in f"{found}\n"
            assert f"Seq Scan on {table}" not in found


REMOVALS = (closed_lines.REMOVE_LINES, closed_lines.REMOVE_MESSAGES, closed_lines.REMOVE_BARE)

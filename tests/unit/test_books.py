"""The replay of the ledger and its comparison with the rows, on tables in memory that a test may damage."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest

from allocation.adapters.memory import MemoryStore, MemoryTables
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReleased,
    Event,
    LinePinned,
    Notice,
    OutOfStock,
    RulesChanged,
    StockHeld,
)
from allocation.service_layer.handlers import HANDLERS, RAISES
from allocation.service_layer.messages import new_message
from allocation.service_layer.proving.audit import COUNTERS, DOUBTS, KINDS, MAX_DIFFERENCES, ProductRows, Report, audit
from allocation.service_layer.proving.books import BOOKED, Difference, Fact, PastProduct, past_order
from allocation.service_layer.writing.store import BatchRow, LineRow, MessageRow
from allocation.service_layer.writing.writer import Writer
from tests.bookkeeping import all_facts, audited, facts_of
from tests.builders import handle_together, message

SKU, OTHER = "SETTEE", "LAMP"
Row = TypeVar("Row", LineRow, Fact)
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def history(*events: Event, group: int = 3) -> MemoryTables:
    """The tables after these events, a second apart and a few at a time."""

    async def play() -> MemoryTables:
        store = MemoryStore()
        seconds = itertools.count()
        writer = Writer(store, clock=lambda: MOMENT + timedelta(seconds=next(seconds)))
        writer.start()
        for start in range(0, len(events), group):
            await handle_together(writer, *map(message, events[start : start + group]))
        await writer.close()
        return store.tables

    return asyncio.run(play())


def positions(past: PastProduct) -> dict[str, int]:
    return {orderid: promise.line.position for orderid, promise in past.lines.items()}


def random_events(seed: int, number: int = 120) -> Sequence[Event]:
    """Few products, batches and orders, so that they get in each other's way."""
    chance = random.Random(seed)

    def event() -> Event:
        sku = chance.choice([SKU, OTHER])
        ref = f"b{chance.randrange(4)}-{sku}"
        eta = chance.choice([None, date(2026, 3, 1), date(2026, 2, 1)])
        return chance.choices(
            [
                BatchCreated(ref, sku, chance.randrange(1, 20), eta),
                AllocationRequired(f"o{chance.randrange(40)}", sku, chance.randrange(1, 6)),
                BatchQuantityChanged(ref, chance.randrange(25)),
            ],
            weights=[1, 5, 2],
        )[0]

    return [event() for _ in range(number)]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happened_the_ledger_explains_every_row(seed: int) -> None:
    tables = history(*random_events(seed))
    report = audited(tables)
    assert report.differences == []
    assert (report.batches, report.lines) == (len(tables.batches), len(tables.lines))


@pytest.mark.parametrize("seed", range(40))
def test_the_past_until_now_is_the_present(seed: int) -> None:
    tables = history(*random_events(seed))
    for sku, product in tables.products.items():
        past = PastProduct(sku, facts_of(tables, sku))
        assert past.books.version_number == product.version_number
        assert len(past.lines_on(None)) == product.waiting_lines
        assert {
            ref: (b.purchased_quantity, b.allocated_quantity, b.position) for ref, b in past.books.batches.items()
        } == {
            b.ref: (b.purchased_quantity, b.allocated_quantity, b.position)
            for b in tables.batches.values()
            if b.sku == sku
        }
        assert {
            orderid: (line.qty, batchref, line.position) for orderid, (line, batchref, _) in past.lines.items()
        } == {
            line.orderid: (line.qty, line.batchref, line.position) for line in tables.lines.values() if line.sku == sku
        }
    assert not past.books.contradictions


def test_an_order_has_had_a_line_of_each_sku() -> None:
    tables = history(
        BatchCreated("b1", SKU, 10),
        BatchCreated("b2", OTHER, 1),
        *(AllocationRequired("o1", s, 5) for s in (SKU, OTHER)),
    )
    facts = [fact for fact in all_facts(tables) if fact.orderid == "o1"]
    assert {of_line: (line.qty, batchref) for of_line, (line, batchref, _) in past_order(facts).items()} == {
        (SKU, "o1"): (5, "b1"),
        (OTHER, "o1"): (5, None),
    }


def test_every_event_is_booked_or_changes_nothing_by_itself() -> None:
    asked = {kind for kind, handlers in HANDLERS.items() if handlers and not issubclass(kind, Notice)}
    raised_for = asked - set(BOOKED)
    told = {handler: RAISES[handler] & set(BOOKED) for kind in raised_for for handler in HANDLERS[kind]}
    assert all(told.values()), "what is not booked itself raises what is"
    assert {kind.__name__ for kind in set(HANDLERS) - set(BOOKED) - raised_for} == {
        "OutOfStock",  # Backordered says the same
        "PromiseChanged",  # it follows from where the line stands
        "LineBecameLate",  # the line waits as before
    }


@pytest.fixture
def tables() -> MemoryTables:
    """Two batches; o1 and o2 on b1, o3 moved from b1 to b2, o4 waits."""
    return history(
        BatchCreated("b1", SKU, 10),
        BatchCreated("b2", SKU, 5, date(2026, 2, 1)),
        *(AllocationRequired(f"o{n}", SKU, 3) for n in (1, 2, 3)),
        BatchQuantityChanged("b1", 8),
        AllocationRequired("o4", SKU, 7),
        group=1,
    )


def put_line(tables: MemoryTables, line: LineRow) -> None:
    tables.lines[line.orderid, line.sku] = line


def change_line(tables: MemoryTables, orderid: str, **changes: Any) -> None:
    put_line(tables, tables.lines[orderid, SKU]._replace(**changes))


def change_batch(tables: MemoryTables, ref: str, **changes: Any) -> None:
    tables.batches[ref] = tables.batches[ref]._replace(**changes)


def change_product(tables: MemoryTables, **changes: Any) -> None:
    tables.products[SKU] = tables.products[SKU]._replace(**changes)


def drop_messages(tables: MemoryTables, type_: str, name: str) -> None:
    for id_, cascade in tables.messages.items():
        tables.messages[id_] = [
            (_without(type_, row), moment) if f'"{name}"' in row.body else (row, moment)
            for row, moment in cascade
            if row.type != type_ or f'"{name}"' not in row.body
        ]


def _without(type_: str, row: MessageRow) -> MessageRow:
    """The row less the facts of a type that are kept in it."""
    kept = [fact for fact in msgspec.json.decode(row.facts or "[]") if fact[1] != type_]
    return row._replace(facts=msgspec.json.encode(kept).decode())


def put_message(tables: MemoryTables, type_: str, body: str, orderid: str | None = None) -> None:
    id_ = new_message(OutOfStock(SKU), "test").id
    tables.messages[id_] = [(MessageRow(id_, 0, None, type_, SKU, orderid, body, None, None, "test"), MOMENT)]


RULES = '{"strategy":"just-in-time"}'
Damage = Callable[[MemoryTables], object]
DAMAGES: Sequence[tuple[str, Damage, Sequence[tuple[str, str, object, object]]]] = [
    (
        "a counter is too high",
        lambda tables: change_batch(tables, "b1", allocated_quantity=7),
        [("allocated-quantity", "b1", 7, 6)],
    ),
    (
        "a counter is too low",
        lambda tables: change_batch(tables, "b2", allocated_quantity=0),
        [("allocated-quantity", "b2", 0, 3)],
    ),
    (
        "the number of waiting lines is wrong",
        lambda tables: change_product(tables, waiting_lines=0),
        [("waiting-lines", SKU, 0, 1)],
    ),
    (
        "the purchased quantity is wrong",
        lambda tables: change_batch(tables, "b1", purchased_quantity=9),
        [("purchased-quantity", "b1", 9, 8)],
    ),
    (
        "a batch is oversold",
        lambda tables: change_batch(tables, "b1", purchased_quantity=5),
        [("oversold", "b1", 6, "at most 5"), ("purchased-quantity", "b1", 5, 8)],
    ),
    (
        "a batch is due another day",
        lambda tables: change_batch(tables, "b2", eta=None),
        [("batch-differs", "b2", "in the warehouse", "due 2026-02-01")],
    ),
    (
        "a batch was bought as another",
        lambda tables: change_batch(tables, "b2", initial_eta=None),
        [("batch-differs", "b2", "5 bought, in the warehouse", "5 bought, due 2026-02-01")],
    ),
    (
        "a version was skipped",
        lambda tables: change_product(tables, version_number=8),
        [("version", SKU, 8, 7)],
    ),
    (
        "a version was lost",
        lambda tables: change_product(tables, version_number=6),
        [("position", "o4", 7, "1 to 6"), ("version", SKU, 6, 7)],
    ),
    (
        "a batch's position is out of range",
        lambda tables: change_batch(tables, "b2", position=0),
        [("position", "b2", 0, "1 to 7")],
    ),
    (
        "a line is lost",
        lambda tables: tables.lines.pop(("o2", SKU)),
        [("line-missing", "o2", None, "3, on b1"), ("allocated-quantity", "b1", 6, 3)],
    ),
    (
        "a waiting line is lost",
        lambda tables: tables.lines.pop(("o4", SKU)),
        [("line-missing", "o4", None, "7, waiting"), ("waiting-lines", SKU, 1, 0)],
    ),
    (
        "a line is there that nobody ordered",
        lambda tables: put_line(tables, LineRow("o0", SKU, 2, None, 1)),
        [("line-unexplained", "o0", "2, waiting", None), ("waiting-lines", SKU, 1, 2)],
    ),
    (
        "a line is there that nobody ordered, after all others",
        lambda tables: put_line(tables, LineRow("o9", SKU, 2, "b2", 1)),
        [("line-unexplained", "o9", "2, on b2", None), ("allocated-quantity", "b2", 3, 5)],
    ),
    (
        "a line stands on another batch",
        lambda tables: change_line(tables, "o3", batchref="b1"),
        [
            ("line-elsewhere", "o3", "on b1", "on b2"),
            ("allocated-quantity", "b1", 6, 9),
            ("oversold", "b1", 9, "at most 8"),
            ("allocated-quantity", "b2", 3, 0),
        ],
    ),
    (
        "a line stands on a batch that is not there",
        lambda tables: change_line(tables, "o3", batchref="b9"),
        [
            ("unknown-batch", "o3", "b9", "a batch of the product"),
            ("line-elsewhere", "o3", "on b9", "on b2"),
            ("allocated-quantity", "b2", 3, 0),
        ],
    ),
    (
        "a line has another quantity",
        lambda tables: change_line(tables, "o3", qty=4),
        [("line-differs", "o3", 4, 3), ("allocated-quantity", "b2", 3, 4)],
    ),
    (
        "a batch is lost",
        lambda tables: tables.batches.pop("b2"),
        [("unknown-batch", "o3", "b2", "a batch of the product"), ("batch-missing", "b2", None, "5 purchased")],
    ),
    (
        "a batch is there that nobody bought",
        lambda tables: tables.batches.update(b3=BatchRow("b3", SKU, None, 4, 0, 2, 4, None)),
        [("batch-unexplained", "b3", "4 purchased", None)],
    ),
    (
        "a product is lost",
        lambda tables: tables.products.pop(SKU),
        [
            *[("position", name, n, "1 to 0") for name, n in (("o1", 3), ("o2", 4), ("o3", 5), ("o4", 7))],
            ("product-missing", SKU, None, "a product"),
            *[("position", name, n, "1 to 0") for name, n in (("b1", 1), ("b2", 2))],
        ],
    ),
    (
        "the message is lost that a line was allocated",
        lambda tables: drop_messages(tables, "Allocated", "o1"),
        [("line-unexplained", "o1", "3, on b1", None), ("version", SKU, 7, 6)],
    ),
    (
        "the message is lost that a line was freed",
        lambda tables: drop_messages(tables, "Deallocated", "o3"),
        [("version", SKU, 7, 8), ("ledger", "o3", "on b1, then on b2", "freed first")],
    ),
    (
        "the message is lost that a batch was counted",
        lambda tables: drop_messages(tables, "BatchQuantityChanged", "b1"),
        [("version", SKU, 7, 6), ("purchased-quantity", "b1", 8, 10)],
    ),
    (
        "the message is lost that a batch was bought",
        lambda tables: drop_messages(tables, "BatchCreated", "b2"),
        [
            ("version", SKU, 7, 6),
            ("purchased-quantity", "b2", 5, 0),
            ("batch-differs", "b2", "5 bought, due 2026-02-01", "0 bought, in the warehouse"),
            ("batch-differs", "b2", "due 2026-02-01", "in the warehouse"),
            ("ledger", "b2", "used", "created first"),
        ],
    ),
    (
        "a line was freed and forgotten",
        lambda tables: put_message(
            tables, "Deallocated", f'{{"orderid":"o3","sku":"{SKU}","qty":3,"batchref":"b2"}}', "o3"
        ),
        [("ledger", "o3", "freed", "placed again"), ("line-elsewhere", "o3", "on b2", "freed")],
    ),
    (
        "a line was freed from where it was not",
        lambda tables: put_message(
            tables, "Deallocated", f'{{"orderid":"o1","sku":"{SKU}","qty":3,"batchref":"b2"}}', "o1"
        ),
        [
            ("ledger", "o1", "freed", "placed again"),
            ("line-elsewhere", "o1", "on b1", "freed"),
            ("ledger", "o1", "on b1, then freed", "on b2, then freed"),
        ],
    ),
    (
        "more is said to be shipped than was",
        lambda tables: change_batch(tables, "b1", shipped_quantity=1),
        [("shipped-quantity", "b1", 1, 0)],
    ),
    (
        "a line is closed that nobody closed",
        lambda tables: change_line(tables, "o1", closed="shipped"),
        [("line-elsewhere", "o1", "shipped from b1", "on b1"), ("shipped-quantity", "b1", 0, 3)],
    ),
    (
        "a batch is in quarantine that nobody put there",
        lambda tables: change_batch(tables, "b1", quarantine="mould"),
        [("batch-differs", "b1", "in quarantine: mould", "on sale")],
    ),
    (
        "a batch is in another place",
        lambda tables: change_batch(tables, "b1", location="OSLO"),
        [("batch-differs", "b1", "at OSLO", "at no location")],
    ),
    (
        "a batch expires that never does",
        lambda tables: change_batch(tables, "b1", expires_on=date(2026, 3, 1)),
        [("batch-differs", "b1", "expires 2026-03-01", "never expires")],
    ),
    (
        "a product has rules that nobody gave it",
        lambda tables: change_product(tables, rules=RULES),
        [("rules-differ", SKU, RULES, "the usual ones")],
    ),
    (
        "a product is retired that nobody retired",
        lambda tables: change_product(tables, retired=True),
        [("retired", SKU, "retired", "sold")],
    ),
    (
        "a batch is in parts that nobody received",
        lambda tables: change_batch(tables, "b1", arrived_quantity=4, arrived_allocated=1),
        [("batch-differs", "b1", "in parts, 4 arrived", "whole"), ("arrived-allocated", "b1", 1, 0)],
    ),
    (
        "a line is needed by a day that nobody said",
        lambda tables: change_line(tables, "o1", need_by=date(2026, 3, 1)),
        [("line-differs", "o1", "needed by 2026-03-01", "needed by no day")],
    ),
    (
        "a line has a priority that nobody gave it",
        lambda tables: change_line(tables, "o4", priority=9),
        [("line-differs", "o4", "priority 9", "priority 0")],
    ),
    (
        "a line is pinned that nobody pinned",
        lambda tables: change_line(tables, "o1", priority=10),
        [("line-differs", "o1", "priority 0, pinned", "priority 0")],
    ),
    (
        "a line is a hold that nobody held",
        lambda tables: change_line(tables, "o1", priority=-1, expires_at=MOMENT),
        [
            ("line-differs", "o1", "behind every order", "priority 0"),
            ("line-differs", "o1", "held until 2026-01-31T12:00:00Z", "not held"),
        ],
    ),
    (
        "a line waits twice",
        lambda tables: put_message(tables, "Backordered", f'{{"orderid":"o4","sku":"{SKU}","qty":7}}', "o4"),
        [("version", SKU, 7, 8), ("ledger", "o4", "waiting, then waiting", "freed first")],
    ),
    (
        "a line was served with another quantity",
        lambda tables: put_message(
            tables, "Allocated", f'{{"orderid":"o4","sku":"{SKU}","qty":1,"batchref":"b2"}}', "o4"
        ),
        [
            ("line-elsewhere", "o4", "waiting", "on b2"),
            ("line-differs", "o4", 7, 1),
            ("version", SKU, 7, 8),
            ("ledger", "o4", "quantity 1", "quantity 7"),
        ],
    ),
]


@pytest.mark.parametrize(("damage", "expected"), [pytest.param(*rest, id=id_) for id_, *rest in DAMAGES])
def test_damage_is_named(
    tables: MemoryTables, damage: Damage, expected: Sequence[tuple[str, str, object, object]]
) -> None:
    assert audited(tables).differences == []
    damage(tables)
    report = audited(tables)
    found = [(each.kind, each.name, each.stored, each.expected) for each in report.differences]
    assert found == list(expected)
    assert all(each.sku == SKU for each in report.differences)


def test_of_a_line_that_was_split_the_ledger_has_every_part() -> None:
    tables = history(
        BatchCreated("b1", SKU, 3),
        AllocationRequired("o1", SKU, 8, split=True),
        BatchCreated("b2", SKU, 4),
        group=1,
    )
    assert {key[0]: (line.qty, line.batchref) for key, line in tables.lines.items()} == {
        "o1": (3, "b1"),
        "o1/2": (4, "b2"),
        "o1/3": (1, None),
    }
    assert audited(tables).differences == []
    past = PastProduct(SKU, facts_of(tables, SKU))
    assert {orderid: each.line.position for orderid, each in past.lines.items()} == {
        orderid: line.position for (orderid, _), line in tables.lines.items()
    }
    drop_messages(tables, "Split", "o1/2")
    assert [(each.kind, each.name, each.stored, each.expected) for each in audited(tables).differences] == [
        ("line-differs", "o1/2", "part 2, 1 cut off", "part 2, 0 cut off"),
        ("line-differs", "o1/3", "part 3, 0 cut off", "whole"),
        ("ledger", "o1/2", "quantity 4", "quantity 5"),
    ]


def test_a_part_has_its_age_in_the_past_although_its_message_comes_behind_those_of_others() -> None:
    tables = history(
        BatchCreated("b1", SKU, 4, expires_on=MOMENT.date() + timedelta(days=5)),
        BatchCreated("b2", SKU, 4),
        RulesChanged(SKU, safety_stock=99),
        AllocationRequired("o1", SKU, 9, need_by=MOMENT.date() + timedelta(days=9), split=True),
        AllocationRequired("o2", SKU, 2),
        RulesChanged(SKU),
    )
    assert {key[0]: (line.qty, line.batchref) for key, line in tables.lines.items()} == {
        "o1": (4, "b2"),
        "o2": (2, "b1"),
        "o1/2": (5, None),
    }
    past = PastProduct(SKU, facts_of(tables, SKU))
    assert {orderid: each.line.position for orderid, each in past.lines.items()} == {
        orderid: line.position for (orderid, _), line in tables.lines.items()
    }


@pytest.fixture
def unusual_tables() -> MemoryTables:
    """o1 is needed by a day and has a priority; o2 is pinned to b2, o3 was, and lost it; h1 holds; o4 is split."""
    return history(
        BatchCreated("b1", SKU, 4, expires_on=date(2026, 9, 1), location="OSLO"),
        BatchCreated("b2", SKU, 6, date(2026, 2, 1)),
        RulesChanged(SKU, safety_stock=1, ages_after=500),
        AllocationRequired("o1", SKU, 1, date(2026, 2, 5), 3),
        AllocationRequired("o2", SKU, 1, priority=4),
        LinePinned("o2", SKU, "b2", "a friend"),
        AllocationRequired("o3", SKU, 1, priority=5),
        LinePinned("o3", SKU, "b1", "a friend"),
        BatchQuarantined("b1", "wet"),
        BatchReleased("b1"),
        StockHeld("h1", SKU, 1, MOMENT + timedelta(days=1)),
        AllocationRequired("o4", SKU, 20, date(2026, 2, 7), 2, split=True),
        group=1,
    )


UNUSUAL_DAMAGES: Sequence[tuple[Damage, tuple[str, str, object, object]]] = [
    (
        lambda tables: change_line(tables, "o1", need_by=None),
        ("line-differs", "o1", "needed by no day", "needed by 2026-02-05"),
    ),
    (lambda tables: change_line(tables, "o1", priority=0), ("line-differs", "o1", "priority 0", "priority 3")),
    (lambda tables: change_line(tables, "o2", priority=4), ("line-differs", "o2", "priority 4", "priority 4, pinned")),
    (lambda tables: change_line(tables, "o3", priority=15), ("line-differs", "o3", "priority 5, pinned", "priority 5")),
    (
        lambda tables: change_line(tables, "h1", expires_at=MOMENT + timedelta(days=2)),
        ("line-differs", "h1", "held until 2026-02-02T12:00:00Z", "held until 2026-02-01T12:00:00Z"),
    ),
    (lambda tables: change_line(tables, "h1", priority=0), ("line-differs", "h1", "priority 0", "behind every order")),
    (lambda tables: change_line(tables, "o4/2", priority=0), ("line-differs", "o4/2", "priority 0", "priority 2")),
    (
        lambda tables: change_line(tables, "o4", rest=None),
        ("line-differs", "o4", "part 1, 0 cut off", "part 1, 18 cut off"),
    ),
    (lambda tables: change_batch(tables, "b1", location=None), ("batch-differs", "b1", "at no location", "at OSLO")),
    (
        lambda tables: change_batch(tables, "b1", expires_on=None),
        ("batch-differs", "b1", "never expires", "expires 2026-09-01"),
    ),
]


@pytest.mark.parametrize(("damage", "expected"), UNUSUAL_DAMAGES)
def test_damage_to_what_few_have_is_named(
    unusual_tables: MemoryTables, damage: Damage, expected: tuple[str, str, object, object]
) -> None:
    assert audited(unusual_tables).differences == []
    damage(unusual_tables)
    assert [(each.kind, each.name, each.stored, each.expected) for each in audited(unusual_tables).differences] == [
        expected
    ]


@pytest.mark.parametrize("stored", [None, "{}", "no rules", '{"safety_stock":1}', '{"strategy":"preferred-location"}'])
def test_rules_that_were_not_given_are_named(unusual_tables: MemoryTables, stored: str | None) -> None:
    change_product(unusual_tables, rules=stored)
    [difference] = audited(unusual_tables).differences
    assert (difference.kind, difference.name) == ("rules-differ", SKU)
    assert difference.stored == (stored or "the usual ones")
    assert '"safety_stock":1' in str(difference.expected)
    given = next(fact for fact in facts_of(unusual_tables, SKU) if fact.type == "RulesChanged")
    assert difference.position == given.position


def test_the_usual_strategy_is_a_setting(unusual_tables: MemoryTables) -> None:
    rules = unusual_tables.products[SKU].rules or ""
    change_product(unusual_tables, rules=rules.replace("warehouse-first", "just-in-time"))
    assert audited(unusual_tables).differences == []


def test_parts_from_the_tenth_on_are_compared_too() -> None:
    """By order id they come before the second."""
    tables = history(
        *(BatchCreated(f"b{number:02}", SKU, 1) for number in range(12)),
        AllocationRequired("o1", SKU, 20, priority=3, split=True),
        group=1,
    )
    assert len(tables.lines) == 13
    assert audited(tables).differences == []
    change_line(tables, "o1/11", priority=0)
    assert [(each.name, each.stored, each.expected) for each in audited(tables).differences] == [
        ("o1/11", "priority 0", "priority 3")
    ]


def test_every_kind_of_damage_was_tried() -> None:
    assert {kind for *_, expected in DAMAGES for kind, *_ in expected} == set(KINDS)


def test_the_last_message_about_it_is_named(tables: MemoryTables) -> None:
    change_batch(tables, "b1", allocated_quantity=7)
    change_batch(tables, "b2", allocated_quantity=0)
    change_line(tables, "o3", qty=4)
    bodies = {fact.position: (fact.type, fact.orderid) for fact in all_facts(tables)}
    assert [(each.name, bodies[each.position or 0]) for each in audited(tables).differences] == [
        ("o3", ("Allocated", "o3")),
        ("b1", ("Deallocated", "o3")),
        ("b2", ("Allocated", "o3")),
    ]


def test_only_the_first_differences_are_kept_and_all_are_counted() -> None:
    report = Report()
    for number in range(MAX_DIFFERENCES + 5):
        report.add(Difference("line-missing", f"SKU-{number}", "o1", None, None))
    assert len(report.differences) == MAX_DIFFERENCES
    assert report.found == {"line-missing": MAX_DIFFERENCES + 5}
    assert len(report.doubted) == MAX_DIFFERENCES + 5


def test_counters_are_not_to_be_repaired_while_lines_are_in_doubt(tables: MemoryTables) -> None:
    assert not COUNTERS & DOUBTS
    change_batch(tables, "b1", allocated_quantity=7)
    assert (audited(tables).miscounted, audited(tables).doubted) == ({SKU}, set())
    tables.lines.pop(("o2", SKU))
    assert (audited(tables).miscounted, audited(tables).doubted) == ({SKU}, {SKU})


def test_messages_are_remembered_by_line_not_by_history(tables: MemoryTables) -> None:
    """Lines are read once, in step with their messages: a generator of each is enough."""
    report = Report()
    lines = sorted(tables.lines.values(), key=lambda line: line.orderid)
    facts = sorted(facts_of(tables, SKU), key=lambda fact: (fact.orderid or "", fact.position))
    read: list[str] = []

    def told(what: str, rows: Sequence[Row]) -> Iterator[Row]:
        for row in rows:
            if row.orderid:
                read.append(f"{what} {row.orderid}")
            yield row

    rows = ProductRows(
        SKU, tables.products[SKU], list(tables.batches.values()), told("line", lines), told("fact", facts)
    )
    audit(rows, report)
    assert report.differences == []
    assert read.index("line o3") < read.index("fact o4")
    assert read.index("fact o2") < read.index("line o3")

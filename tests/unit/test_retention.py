"""What lines that are kept no longer came to, and what becomes of the cascades that they are taken out of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from allocation.adapters.memory import MemoryStore, MemoryTables
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchQuantityChanged,
    Event,
    HoldConfirmed,
    HoldReleased,
    LinePinned,
    LineQuantityChanged,
    LineReturned,
    LineShipped,
    StockHeld,
)
from allocation.service_layer.proving.books import Booked, Books, Fact, Opening
from allocation.service_layer.proving.retention import Cascade, ClosedLine, LedgerRow, Removal, plan, share_of
from allocation.service_layer.writing.writer import Writer
from tests.bookkeeping import facts_of
from tests.builders import handle_together, message

SKU = "LAMP"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def played(*events: Event) -> MemoryTables:
    async def play() -> MemoryTables:
        store = MemoryStore()
        writer = Writer(store, clock=lambda: NOON)
        writer.start()
        for event in (BatchCreated("b1", SKU, 10), BatchCreated("b2", SKU, 10), *events):
            await handle_together(writer, message(event))
        await writer.close()
        return store.tables

    return asyncio.run(play())


def story(tables: MemoryTables, orderid: str) -> tuple[ClosedLine, Sequence[LedgerRow]]:
    """A line and all rows about it, whether it is closed or not."""
    line = tables.lines[orderid, SKU]
    rows = [(row, moment) for cascade in tables.messages.values() for row, moment in cascade]
    about = [
        LedgerRow(position, row.correlation_id, row.step, row.type, row.sku, orderid, row.body, row.facts, moment)
        for position, (row, moment) in enumerate(rows, start=1)
        if (row.orderid, row.sku) == (orderid, SKU)
    ]
    return ClosedLine(orderid, SKU, line.qty, line.batchref, line.closed or ""), about


HISTORIES: Mapping[str, tuple[Sequence[Event], int, Mapping[str, int]]] = {
    "cancelled": ([AllocationRequired("o1", SKU, 4), AllocationCancelled("o1", SKU)], 2, {}),
    "cancelled while it waited": ([AllocationRequired("o1", SKU, 40), AllocationCancelled("o1", SKU)], 2, {}),
    "shipped": ([AllocationRequired("o1", SKU, 4), LineShipped("o1", SKU)], 2, {"b1": 4}),
    "returned": ([AllocationRequired("o1", SKU, 4), LineShipped("o1", SKU), LineReturned("o1", SKU)], 3, {}),
    "returned in part": (
        [AllocationRequired("o1", SKU, 4), LineShipped("o1", SKU), LineReturned("o1", SKU, 3, scrapped=True)],
        3,
        {"b1": 1},
    ),
    "moved by a cut": (
        [AllocationRequired("o1", SKU, 4), BatchQuantityChanged("b1", 3), LineShipped("o1", SKU)],
        2,  # that it was moved is the change of the batch
        {"b2": 4},
    ),
    "pinned and resized": (
        [
            AllocationRequired("o1", SKU, 4),
            LinePinned("o1", SKU, "b2", "why not"),
            LineQuantityChanged("o1", SKU, 5),
            LineShipped("o1", SKU),
        ],
        4,
        {"b2": 5},
    ),
    "a hold": (
        [StockHeld("o1", SKU, 4, LATER), StockHeld("o1", SKU, 4, LATER + timedelta(days=1)), HoldReleased("o1")],
        3,
        {},
    ),
    "a hold that was confirmed": ([StockHeld("o1", SKU, 4, LATER), HoldConfirmed("o1", "o2")], 2, {}),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_line_has_added_to_the_books_what_its_messages_did(name: str) -> None:
    events, changes, shipped = HISTORIES[name]
    tables = played(*events)
    line, rows = story(tables, "o1")
    assert share_of(line, rows) == Opening(changes, shipped, rows[-1].position, NOON)


@pytest.mark.parametrize("name", HISTORIES)
def test_the_books_of_the_rest_go_on_from_there(name: str) -> None:
    tables = played(*HISTORIES[name][0], AllocationRequired("other", SKU, 3))
    share = share_of(*story(tables, "o1"))
    assert share is not None
    books = Books(SKU, share)
    stands: dict[str | None, Booked | None] = {}
    for fact in facts_of(tables, SKU):
        if fact.orderid != "o1":
            stands[fact.orderid] = books.book(fact, stands.get(fact.orderid))
    assert books.version_number == tables.products[SKU].version_number
    assert books.contradictions == []
    for ref, batch in books.batches.items():
        stored = tables.batches[ref]
        assert (batch.allocated_quantity, batch.shipped_quantity) == (
            stored.allocated_quantity,
            stored.shipped_quantity,
        )


@pytest.mark.parametrize(
    "damaged",
    [
        {"qty": 5},
        {"batchref": "b2"},
        {"batchref": None},
        {"closed": "cancelled"},
    ],
)
def test_a_line_that_is_not_where_its_messages_lead_has_no_share(damaged: dict[str, object]) -> None:
    line, rows = story(played(AllocationRequired("o1", SKU, 4), LineShipped("o1", SKU)), "o1")
    assert share_of(line._replace(**damaged), rows) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("damaged", [{"closed": "returned"}, {"qty": 5}])
def test_nor_has_one_that_ended_otherwise(damaged: dict[str, object]) -> None:
    line, rows = story(played(AllocationRequired("o1", SKU, 4), AllocationCancelled("o1", SKU)), "o1")
    assert share_of(line, rows) is not None
    assert share_of(line._replace(**damaged), rows) is None  # type: ignore[arg-type]


def test_a_line_of_which_messages_are_missing_or_none_is_closed_has_no_share() -> None:
    line, rows = story(played(AllocationRequired("o1", SKU, 4), LineShipped("o1", SKU)), "o1")
    assert share_of(line, rows[:1]) is None
    assert share_of(line, rows[1:]) is None
    assert share_of(line, []) is None
    without_its_end = rows[1]._replace(facts=None)
    assert share_of(line, [rows[0], without_its_end]) is None


def row(position: int, step: int, facts: int = 0, cascade: str = "c") -> LedgerRow:
    """Of an order that was allocated and shipped at once, as only a test can."""
    kept = ",".join(f'[{step + 1 + n},"OutOfStock",{{"sku":"LAMP"}}]' for n in range(facts))
    return LedgerRow(position, cascade, step, "AllocationCancelled", SKU, "o1", "{}", f"[{kept}]", NOON)


def planned(cascade: Cascade, *rows: LedgerRow, monkeypatch: pytest.MonkeyPatch) -> Removal:
    monkeypatch.setattr("allocation.service_layer.proving.retention.share_of", lambda *_: Opening(1, {}, 1, NOON))
    line = ClosedLine("o1", SKU, 1, None, "cancelled")
    return plan({line: rows}, lambda ids: dict.fromkeys(ids, cascade))


def test_a_cascade_that_is_all_about_one_line_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    removal = planned(Cascade("c", 3), row(7, 0, facts=2), monkeypatch=monkeypatch)
    assert (removal.gone, removal.bared, removal.messages) == ([7], [], 3)
    assert (removal.shortened, removal.ended, removal.unneeded) == ([], ["c"], [])


def test_the_first_message_stays_bare_while_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    removal = planned(Cascade("c", 5), row(7, 0, facts=1), row(9, 3), monkeypatch=monkeypatch)
    assert (removal.gone, removal.bared, removal.messages) == ([9], [7], 2)
    assert (removal.shortened, removal.ended, removal.unneeded) == ([Cascade("c", 3, bare=True)], [], [])


def test_a_bare_first_message_goes_with_the_last_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stays = planned(Cascade("c", 4, bare=True), row(9, 3, facts=1), monkeypatch=monkeypatch)
    assert (stays.gone, stays.messages, stays.shortened) == ([9], 2, [Cascade("c", 2, bare=True)])
    goes = planned(Cascade("c", 3, bare=True), row(9, 3, facts=1), monkeypatch=monkeypatch)
    assert (goes.gone, goes.messages) == ([9], 3)
    assert (goes.shortened, goes.ended, goes.unneeded) == ([], ["c"], ["c"])


def test_the_first_message_of_others_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a batch, which was not about the line."""
    removal = planned(Cascade("c", 2), row(9, 1), monkeypatch=monkeypatch)
    assert (removal.gone, removal.messages, removal.shortened) == ([9], 1, [Cascade("c", 1)])
    assert (removal.ended, removal.unneeded) == ([], [])


def test_shares_of_a_product_are_added_up() -> None:
    events = [AllocationRequired(o, SKU, 2) for o in ("o1", "o2", "o3")] + [LineShipped(o, SKU) for o in ("o1", "o3")]
    tables = played(*events, AllocationCancelled("o2", SKU))
    lines = dict(story(tables, o) for o in ("o1", "o2", "o3"))
    removal = plan(lines, lambda ids: {id_: Cascade(id_, 2) for id_ in ids})
    assert removal.openings == {SKU: Opening(6, {"b1": 4}, 8, NOON)}
    assert (removal.messages, len(removal.ended)) == (12, 6)


def test_books_with_an_opening_begin_there() -> None:
    books = Books(SKU, Opening(7, {"b1": 4}, 30, NOON))
    books.book(Fact(1, SKU, "BatchCreated", None, '{"ref":"b1","sku":"LAMP","qty":10}'))
    books.book(Fact(31, SKU, "Allocated", "o9", '{"orderid":"o9","sku":"LAMP","qty":3,"batchref":"b1"}'))
    assert books.version_number == 9
    assert (books.batches["b1"].allocated_quantity, books.batches["b1"].shipped_quantity) == (7, 4)

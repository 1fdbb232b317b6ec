"""A change means the same in the answer, the preview, the outcome page, the explanation, the past and the books."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import pytest
from sqlalchemy import Connection, text

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.long_reader import LongReader
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.reader import Reader
from allocation.adapters.sqlite import SqliteStore
from allocation.console_views import stock_then
from allocation.console_views.steering import touched
from allocation.domain.days import UTC_DAYS
from allocation.domain.errors import Refusal
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    Event,
    HoldReleased,
    LinePinned,
    LineQuantityChanged,
    LineShipped,
    RulesChanged,
    StockHeld,
)
from allocation.domain.figures import Figures
from allocation.domain.lines import Today
from allocation.entrypoints.answers import answer
from allocation.service_layer.messages import Message
from allocation.service_layer.previewing.line_changes import LineChange
from allocation.service_layer.previewing.preview import Previews
from allocation.service_layer.previewing.stock_changes import StockChange
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import audit_all
from allocation.views.explain import explain
from allocation.views.named import find
from allocation.views.past import find_past
from tests.builders import message, right_now
from tests.lives import BEGIN, random_life

SKU = "LAMP"
LATER = BEGIN.date() + timedelta(days=9)
SOON = BEGIN + timedelta(hours=40)


class Seen(NamedTuple):
    """A change, as each part of the service shows it."""

    answer: Any
    preview: Sequence[LineChange]
    outcome: Sequence[LineChange]
    stock: Sequence[StockChange]

    @property
    def moved(self) -> list[tuple[str, str | None, str | None]]:
        return [(move["orderid"], move["from"], move["to"]) for move in self.answer["moved"]]


class Shop:
    """A database with a writer, and everything that reads it."""

    def __init__(self, database_url: str) -> None:
        self.url = parse_url(database_url)
        self.now = BEGIN
        self.changes: list[tuple[str, Sequence[StockChange]]] = []
        self.reader = Reader(self.url)
        self.store = self._open()
        self.writer = Writer(self.store, clock=lambda: self.now)
        self.previews = Previews(self._open, clock=lambda: self.now)

    def _open(self) -> SqliteStore | PostgresStore:
        return SqliteStore(self.url) if is_sqlite(self.url) else PostgresStore(self.url)

    async def __aenter__(self) -> Self:
        self.writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.writer.close()
        self.previews.close()
        await self.store.close()
        await self.reader.close()

    async def send(self, *events: Event) -> None:
        for event in events:
            await self.writer.handle(message(event))

    async def see(self, event: Event) -> Seen | None:
        """The change, if it is accepted. All who show it agree, and the books are right."""
        asked = message(event)
        preview = await self.previews.preview([asked])
        [foreseen] = preview.outcomes
        if isinstance(foreseen, Refusal):
            with pytest.raises(type(foreseen), match=f"^{re.escape(str(foreseen))}$"):
                await self.writer.handle(asked)
            return None
        outcome = await self.writer.handle(asked)
        found = await self.reader.run(touched, asked.id, UTC_DAYS)
        assert answer(foreseen) == answer(outcome)
        assert sorted(found.lines, key=by_line) == sorted(preview.lines, key=by_line)
        assert found.stock is not None
        assert sorted(found.stock) == sorted(preview.stock)
        await self.reader.run(check_stock, found.stock, UTC_DAYS.at(self.now))
        self.changes.append((asked.id, preview.stock))
        seen = Seen(answer(outcome), preview.lines, found.lines, found.stock)
        check_moved(seen, asked)
        return seen

    async def check_counted_back(self) -> None:
        """The stock around each change, counted back from now, is the same as it was then."""
        known = 0
        for id_, stock in self.changes:
            found = await self.reader.run(touched, id_, UTC_DAYS)
            if found.stock is not None:
                assert sorted(found.stock) == sorted(stock), id_
                known += 1
        assert known > 0

    async def check_books(self) -> None:
        report, differences = await LongReader(self.url).run(audit_all)
        assert (differences, report.found) == ([], {})
        await self.reader.run(check_shown)


def by_line(change: LineChange) -> tuple[str, str]:
    """The ledger has what happened to a message's own line first, so the order may differ."""
    return change.orderid, change.sku


def check_stock(connection: Connection, changes: Sequence[StockChange], today: Today) -> None:
    """The stock after a change is the one that is stored."""
    for ref, sku, _, after in changes:
        stored = find(connection, ref, today).batch
        assert stored is not None
        assert (stored.sku, Figures(*(getattr(stored, name) for name in Figures._fields))) == (sku, after)


def check_moved(seen: Seen, asked: Message) -> None:
    """The lines that moved in the answer are those of the preview that are elsewhere and were not closed on purpose."""
    if "moved" not in seen.answer:
        return
    own = getattr(asked.event, "orderid", None) if "batchref" in seen.answer else None
    is_own = {own} if isinstance(asked.event, LinePinned | LineQuantityChanged) else set()
    expected = {
        (line.orderid, line.start, line.end)
        for line in seen.preview
        if line.start != line.end
        and line.state in {"waiting", "allocated", "pinned", "held", "lost"}
        and line.orderid not in is_own
    }
    assert set(seen.moved) == expected


def check_shown(connection: Connection) -> None:
    """Each line is in the same state and on the same batch in its order, in its explanation and in the past."""
    lines = connection.execute(text("SELECT orderid, sku FROM order_lines")).all()
    assert lines
    for orderid, sku in lines:
        explained = explain(connection, orderid, sku, right_now())
        orders = find(connection, orderid, right_now()).order
        shown = next(line for line in orders if line.sku == sku)
        assert (explained.state, explained.batchref) == (shown.state, shown.batchref)
        assert find_past(connection, orderid, datetime.now(UTC)).order == orders
        for considered in explained.considered:
            for holder in considered.held_by:
                assert holder.state in {"allocated", "pinned", "held", "shipped"}


def see(database_url: str, *history: Event, then: Event) -> Seen:
    async def play() -> Seen:
        async with Shop(database_url) as shop:
            await shop.send(*history)
            seen = await shop.see(then)
            await shop.check_books()
            assert seen is not None
            return seen

    return asyncio.run(play())


def held(holdid: str, qty: int) -> StockHeld:
    return StockHeld(holdid, SKU, qty, SOON)


def test_a_cut_that_moves_a_hold(database_url: str) -> None:
    stock = [BatchCreated("b1", SKU, 5), held("h1", 3), BatchCreated("b2", SKU, 5, LATER)]
    seen = see(database_url, *stock, then=BatchQuantityChanged("b1", 2))
    assert seen.moved == [("h1", "b1", "b2")]
    [line] = seen.outcome
    assert (line.orderid, line.start, line.end, line.was, line.state) == ("h1", "b1", "b2", "held", "held")
    assert (line.before, line.after) == (BEGIN.date(), LATER)


def test_a_cut_that_a_hold_does_not_survive(database_url: str) -> None:
    seen = see(database_url, BatchCreated("b1", SKU, 5), held("h1", 3), then=BatchQuantityChanged("b1", 2))
    assert seen.moved == [("h1", "b1", None)]
    [line] = seen.outcome
    assert (line.start, line.end, line.was, line.state) == ("b1", None, "held", "lost")


def test_a_recount_that_changes_nothing_names_the_stock_as_it_is(database_url: str) -> None:
    history = [BatchCreated("b1", SKU, 5), AllocationRequired("o1", SKU, 2), LineShipped("o1", SKU)]
    seen = see(database_url, *history, then=BatchQuantityChanged("b1", 5))
    assert seen.stock == [StockChange("b1", SKU, Figures(5, 0, 3, 3, 0, 0, 0, 2), Figures(5, 0, 3, 3, 0, 0, 0, 2))]


def test_the_stock_of_an_outcome_is_left_out_if_too_much_led_there(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = message(BatchQuantityChanged("b1", 4))

    async def play() -> Any:
        async with Shop(database_url) as shop:
            await shop.send(BatchCreated("b1", SKU, 5), *(AllocationRequired(f"o{n}", SKU, 1) for n in range(3)))
            await shop.writer.handle(asked)
            await shop.send(AllocationRequired("o9", SKU, 1), LineShipped("o1", SKU))
            return await shop.reader.run(touched, asked.id, UTC_DAYS)

    whole = asyncio.run(play())
    monkeypatch.setattr(stock_then, "MAX_REPLAYED", 3)
    assert asyncio.run(play()) == whole
    monkeypatch.setattr(stock_then, "MAX_SINCE", 0)
    assert asyncio.run(play()).stock is None


def test_a_hold_that_is_released_and_serves_nobody(database_url: str) -> None:
    seen = see(
        database_url, BatchCreated("b1", SKU, 5), BatchCreated("b2", SKU, 4), held("h1", 5), then=HoldReleased("h1")
    )
    assert seen.moved == []
    [line] = seen.outcome
    assert (line.orderid, line.start, line.end, line.was, line.state) == ("h1", "b1", None, "held", "released")


def test_a_line_that_is_pinned_is_so_wherever_it_is_shown(database_url: str) -> None:
    async def play() -> tuple[Any, Any]:
        async with Shop(database_url) as shop:
            await shop.send(BatchCreated("b1", SKU, 5), AllocationRequired("o1", SKU, 5))
            await shop.see(LinePinned("o1", SKU, "b1", "a friend"))
            await shop.send(AllocationRequired("o2", SKU, 2))
            await shop.check_books()
            return await shop.reader.run(explain, "o2", SKU, right_now()), await shop.reader.run(
                find, "o1", right_now()
            )

    explanation, shown = asyncio.run(play())
    [holder] = explanation.considered[0].held_by
    assert (holder.orderid, holder.state) == ("o1", "pinned")
    assert [line.state for line in shown.order] == ["pinned"]


def test_every_part_of_a_line_that_is_divided_anew(database_url: str) -> None:
    """The new part is as large as the line was and stands on the batch that it had."""
    history = [
        BatchCreated("b1", SKU, 6),
        BatchCreated("b2", SKU, 6, LATER),
        AllocationRequired("e", SKU, 6, split=True),
    ]
    seen = see(database_url, *history, then=LineQuantityChanged("e", SKU, 12))
    assert [(line.orderid, line.qty, line.start, line.end) for line in seen.outcome] == [("e/2", 6, "b1", "b2")]


def test_a_part_that_is_new_and_as_its_line_was_is_named(database_url: str) -> None:
    """The line moves to the small batch, and its new part has the quantity and the batch that the line had."""
    history = [BatchCreated("b0", SKU, 2), BatchCreated("b1", SKU, 6), AllocationRequired("e", SKU, 6, split=True)]
    seen = see(database_url, *history, then=LineQuantityChanged("e", SKU, 8))
    assert {(line.orderid, line.qty, line.start, line.end) for line in seen.outcome} == {
        ("e", 2, "b1", "b0"),
        ("e/2", 6, "b1", "b1"),
    }


def test_a_delay_that_makes_a_hold_and_a_line_move(database_url: str) -> None:
    history = [
        BatchCreated("b1", SKU, 5, BEGIN.date() + timedelta(days=1)),
        held("h1", 2),
        AllocationRequired("o1", SKU, 2, BEGIN.date() + timedelta(days=2)),
        RulesChanged(SKU, move_up=True),
        BatchCreated("b2", SKU, 3, BEGIN.date() + timedelta(days=2)),
    ]
    seen = see(database_url, *history, then=BatchEtaChanged("b1", LATER))
    assert seen.moved == [("o1", "b1", "b2")]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_all_agree(database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> int:
        accepted = 0
        async with Shop(database_url) as shop:
            for shop.now, event in random_life(seed, 180):
                accepted += await shop.see(event) is not None
            await shop.check_books()
            monkeypatch.setattr(stock_then, "MAX_REPLAYED", 0)
            await shop.check_counted_back()
        return accepted

    assert asyncio.run(play()) > 40

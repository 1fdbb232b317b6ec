"""Random lives of promises, with events of every kind, on memory, SQLite and PostgreSQL side by side.

They are compared with the same rules on plain objects that know everything, which check after each message what has to
be true (`tests.plain`). What a group of messages leaves is audited, and replayed from the ledger.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from allocation.adapters.least_harm import solve
from allocation.adapters.memory import MemoryTables
from allocation.domain.events import AllocationRequired, BatchCreated
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.proving.books import PastProduct
from tests.bookkeeping import audited, facts_of
from tests.builders import message
from tests.lives import BEGIN, SKUS, later, random_event
from tests.plain import Answer, PlainShop, stored_rows
from tests.property.side_by_side import KEYS, Place, SideBySide, places_of, play_histories
from tests.servers import PostgresServer

DICE = st.builds(random.Random, st.integers(0, 2**32))  # Hypothesis's own choices are too plain to meet often
EVENTS = st.builds(random_event, DICE)
MESSAGES = st.builds(message, EVENTS, KEYS)


class Lives(SideBySide):
    def __init__(self, open_places: Callable[[], list[Place]], runner: asyncio.Runner) -> None:
        super().__init__(open_places, runner)
        self.plain = PlainShop()
        self.now = BEGIN
        self.plain.uow.solve = solve
        for place in self.places:
            place.writer._clock = lambda: self.now
            place.writer._solve = solve

    @rule(sku=st.sampled_from(SKUS), qty=st.integers(3, 12), orders=st.lists(st.integers(1, 5), max_size=6))
    def stock_arrives_and_is_ordered(self, sku: str, qty: int, orders: list[int]) -> None:
        ref = f"{sku.lower()}-{1 + qty % 4}"
        lines = [AllocationRequired(f"o{number}", sku, qty) for number, qty in enumerate(orders, start=1)]
        self._handle([message(event) for event in (BatchCreated(ref, sku, qty), *lines)])

    @rule(messages=st.lists(MESSAGES, min_size=1, max_size=10))
    def a_group(self, messages: list[Message]) -> None:
        self._handle(messages)

    @rule(messages=st.lists(MESSAGES, min_size=1, max_size=3))
    def one_by_one(self, messages: list[Message]) -> None:
        for each in messages:
            self._handle([each])

    @rule(dice=DICE)
    def time_passes(self, dice: random.Random) -> None:
        self.now = later(dice, self.now)

    def _handle(self, messages: list[Message]) -> None:
        answers, kept = self.play(messages)
        expected = [self.plain.answer(each.event, each.id, self.now) for each in messages]
        for of_place in answers:
            assert [_told(each) for each in of_place] == expected
        for each in kept[1:]:
            assert each == kept[0]
        tables = self.places[0].where
        assert isinstance(tables, MemoryTables)
        assert stored_rows(tables) == self.plain.rows()
        assert audited(tables).differences == []
        for sku in tables.products:
            check_past(tables, sku)


def _told(answer: Outcome | Exception) -> Answer:
    if isinstance(answer, Outcome):
        return answer.result, answer.raised
    return type(answer).__name__


def check_past(tables: MemoryTables, sku: str) -> None:
    """The ledger, replayed until now, gives the rows."""
    past = PastProduct(sku, facts_of(tables, sku))
    product = tables.products[sku]
    assert past.books.contradictions == []
    assert (past.books.version_number, len(past.lines_on(None))) == (product.version_number, product.waiting_lines)
    assert {
        ref: (each.eta, each.purchased_quantity, each.allocated_quantity, each.shipped_quantity, each.quarantine)
        for ref, each in past.books.batches.items()
    } == {
        each.ref: (each.eta, each.purchased_quantity, each.allocated_quantity, each.shipped_quantity, each.quarantine)
        for each in tables.batches.values()
        if each.sku == sku
    }
    assert {
        orderid: (line.qty, batchref, line.position, closed) for orderid, (line, batchref, closed) in past.lines.items()
    } == {
        line.orderid: (line.qty, line.batchref, line.position, line.closed)
        for line in tables.lines.values()
        if line.sku == sku
    }


@pytest.mark.usefixtures("small_pages")
def test_every_store_gives_promises_the_life_that_the_rules_give_them(
    postgres_server: PostgresServer, tmp_path: Path, runner: asyncio.Runner
) -> None:
    with places_of(postgres_server, tmp_path, runner) as open_places:
        factory: Any = functools.partial(Lives, open_places, runner)  # asked for as a class, only ever called
        play_histories(factory)

"""Random histories on memory, SQLite and PostgreSQL side by side, and on a naive model: they agree after each step."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, precondition, rule

from allocation.domain.errors import IdempotencyKeyReused, Refusal
from allocation.domain.events import (
    Allocated,
    AllocationRequired,
    Backordered,
    BatchCounted,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    DeliveryEtaChanged,
    DeliveryReceived,
    Event,
    ReceiptUndone,
    Served,
    StockAdjusted,
    StockTransferred,
)
from allocation.service_layer.messages import Message, Outcome
from tests.builders import Contents, message
from tests.property.naive import Declined, Fact, NaiveShop
from tests.property.side_by_side import KEYS, Place, SideBySide, places_of, play_histories
from tests.servers import PostgresServer

POSTER, FORK = "HIGHBROW-POSTER", "RELIABLE-FORK"
SKUS = st.sampled_from([POSTER, POSTER, POSTER, FORK])
REFS = st.sampled_from([f"b{number}" for number in range(1, 8)])
DELIVERIES = st.sampled_from(["PO-1", "PO-2"])
ORDERS = st.sampled_from([f"o{number}" for number in range(1, 25)])
NOW = datetime(2025, 12, 1, 12, tzinfo=UTC)
DUE, LATER = date(2026, 1, 1), date(2026, 2, 1)
ETAS = st.sampled_from([None, None, DUE, LATER])


ORDER_LINES: st.SearchStrategy[Event] = st.builds(AllocationRequired, ORDERS, SKUS, st.integers(1, 9))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        BatchCreated,
        REFS,
        SKUS,
        st.integers(1, 12),
        ETAS,
        st.none(),
        st.none(),
        st.sampled_from([None, "PO-1", "PO-2"]),
    ),
    ORDER_LINES,
    st.builds(BatchQuantityChanged, REFS, st.integers(0, 14)),
)
WAREHOUSE: st.SearchStrategy[Event] = st.one_of(
    st.builds(BatchReceived, REFS, st.none() | st.integers(0, 9), st.sampled_from(["expected", "expected", "closed"])),
    st.builds(ReceiptUndone, REFS, st.none() | st.integers(1, 6)),
    st.builds(BatchCounted, REFS, st.integers(0, 9)),
    st.builds(StockAdjusted, REFS, st.sampled_from([-4, -1, 3]), st.just("damaged")),
    st.builds(StockTransferred, REFS, st.just("OSLO"), st.integers(1, 6), st.none() | REFS, ETAS),
    st.builds(BatchEtaChanged, REFS, st.sampled_from([DUE, LATER])),
    st.builds(DeliveryEtaChanged, DELIVERIES, st.sampled_from([DUE, LATER])),
    st.builds(DeliveryReceived, DELIVERIES),
)
CHANGES = st.lists(st.integers(-9, 12), min_size=1, max_size=4)
MESSAGES = st.builds(message, EVENTS, KEYS)


class Histories(SideBySide):
    def __init__(self, open_places: Callable[[], list[Place]], runner: asyncio.Runner) -> None:
        super().__init__(open_places, runner)
        self.naive = NaiveShop()
        for place in self.places:
            place.writer._clock = lambda: NOW

    sent = Bundle("sent")

    @rule(target=sent, message=MESSAGES)
    def one_message(self, message: Message) -> Message:
        self._handle([message])
        return message

    @rule(messages=st.lists(MESSAGES, min_size=2, max_size=10))
    def a_group(self, messages: list[Message]) -> None:
        self._handle(messages)

    @rule(message=sent)
    def the_same_again(self, message: Message) -> None:
        self._handle([message])

    @rule(ref=REFS, sku=SKUS, qty=st.integers(4, 20), orders=st.lists(ORDERS, max_size=6), told=st.lists(WAREHOUSE))
    def a_batch_is_due_and_comes_in_parts(
        self, ref: str, sku: str, qty: int, orders: list[str], told: list[Event]
    ) -> None:
        bought = BatchCreated(ref, sku, qty, DUE, delivery="PO-1")
        ordered = [AllocationRequired(orderid, sku, 1 + len(orderid)) for orderid in orders]
        self._handle([message(event) for event in (bought, *ordered, BatchReceived(ref, qty // 3), *told)])

    @rule(events=st.lists(WAREHOUSE, min_size=1, max_size=6))
    def the_warehouse_tells(self, events: list[Event]) -> None:
        self._handle([message(event) for event in events])

    @rule(events=st.lists(ORDER_LINES, min_size=2, max_size=10))
    def customers_order(self, events: list[Event]) -> None:
        self._handle([message(event) for event in events])

    @rule(ref=REFS, sku=SKUS, qty=st.integers(1, 20), changes=CHANGES)
    def a_batch_arrives_and_is_counted(self, ref: str, sku: str, qty: int, changes: list[int]) -> None:
        self._count(ref, qty, changes, BatchCreated(ref, sku, qty))

    @precondition(lambda self: self.naive.batches)
    @rule(data=st.data(), changes=CHANGES)
    def a_batch_is_counted_again_and_again(self, data: st.DataObject, changes: list[int]) -> None:
        batch = data.draw(st.sampled_from(self.naive.batches))
        self._count(batch.ref, batch.purchased, changes)

    def _count(self, ref: str, qty: int, changes: list[int], *before: Event) -> None:
        """In one group: what one message moves in memory, the next ones move again."""
        counts = [max(0, count) for count in itertools.accumulate(changes, initial=qty)][1:]
        self._handle([message(event) for event in [*before, *(BatchQuantityChanged(ref, count) for count in counts)]])

    def _handle(self, messages: list[Message]) -> None:
        answers, kept = self.play(messages)
        expected = [naive_answer(self.naive, message) for message in messages]
        for answer in answers:
            assert [plain(each) for each in answer] == expected
        in_memory = kept[0]
        for each in kept[1:]:
            assert each == in_memory
        assert promises(in_memory) == naive_promises(self.naive)
        check_books(in_memory)


def naive_answer(naive: NaiveShop, message: Message) -> Any:
    """What the naive model says, in the form of `plain`."""
    event, id_ = message.event, message.id
    if id_ in naive.answers:
        first, result, facts = naive.answers[id_]
        return (result, facts) if first == event else IdempotencyKeyReused.__name__
    try:
        answer = naive.answer(event)
    except Declined as no:
        return str(no)
    naive.answers[id_] = (event, *answer)
    return answer


def plain(answer: Outcome | Exception) -> Any:
    """The result and the facts of an outcome; the name of a refusal."""
    if isinstance(answer, Refusal):
        return type(answer).__name__
    if isinstance(answer, Exception):
        raise answer
    check_nobody_is_called_in_vain(answer)
    facts: list[Fact] = []
    for event in answer.raised:
        match event:
            case Allocated(orderid, _, _, ref) | Deallocated(orderid, _, _, ref) | Served(orderid, _, _, ref):
                facts.append((type(event).__name__, orderid, ref))
            case Backordered(orderid):
                facts.append((type(event).__name__, orderid, None))
    return answer.result, facts


def check_nobody_is_called_in_vain(answer: Outcome) -> None:
    """Each line that a change called got a promise, or had just lost the one it had."""
    called = [event.orderid for event in answer.raised if isinstance(event, AllocationRequired)]
    promised = [event.orderid for event in answer.raised if isinstance(event, Allocated | Backordered)]
    if not isinstance(answer.message.event, AllocationRequired):
        assert called == promised


def promises(kept: Contents) -> Any:
    """Batches with their quantities, and each SKU's lines in the order taken."""
    batches = {row[0]: tuple(row[1:5]) for row in kept.batches}
    lines = defaultdict(list)
    for orderid, sku, qty, batchref, *_ in sorted(kept.lines, key=lambda row: row[4]):
        lines[sku].append((orderid, qty, batchref))
    waiting = {row[0]: row[2] for row in kept.products}
    return batches, dict(lines), waiting


def naive_promises(naive: NaiveShop) -> Any:
    batches = {
        batch.ref: (
            batch.sku,
            batch.eta and batch.eta.isoformat(),
            batch.purchased,
            batch.purchased - naive.room(batch),
        )
        for batch in naive.batches
    }
    lines = defaultdict(list)
    for line in naive.lines:
        lines[line.sku].append((line.orderid, line.qty, line.batch.ref if line.batch else None))
    skus = {batch.sku for batch in naive.batches}
    return batches, dict(lines), {sku: len(naive.waiting(sku)) for sku in skus}


def check_books(kept: Contents) -> None:
    """No oversell, counters equal lines, no waiting line would fit anywhere, positions and message ids are unique."""
    held: dict[str, int] = defaultdict(int)
    for _, _, qty, batchref, *_ in kept.lines:
        if batchref is not None:
            held[batchref] += qty
    room: dict[str, int] = {row[1]: 0 for row in kept.batches}
    for ref, sku, _, purchased, allocated, *_ in kept.batches:
        assert held[ref] == allocated <= purchased
        room[sku] = max(room[sku], purchased - allocated)
    assert all(qty > room[sku] for _, sku, qty, batchref, *_ in kept.lines if batchref is None)
    ages = [(row[1], row[5]) for row in kept.batches] + [(row[1], row[4]) for row in kept.lines]
    assert len(ages) == len(set(ages))
    assert len({row[:2] for row in kept.ledger}) == len(kept.ledger)


@pytest.mark.usefixtures("small_pages")
def test_every_store_keeps_the_promises_of_the_naive_model(
    postgres_server: PostgresServer, tmp_path: Path, runner: asyncio.Runner
) -> None:
    with places_of(postgres_server, tmp_path, runner) as open_places:
        factory: Any = functools.partial(Histories, open_places, runner)  # asked for as a class, only ever called
        play_histories(factory)

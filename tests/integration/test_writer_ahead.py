"""A group is handled while the one before is written: nobody can tell by the answers."""

from __future__ import annotations

import asyncio
import random

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.memory import MemoryStore
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.errors import Refusal
from allocation.domain.events import (
    Allocated,
    AllocationRequired,
    Backordered,
    BatchCreated,
    BatchQuantityChanged,
    Event,
    OutOfStock,
)
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.writing.store import Changes, Loaded, Store, Wanted
from allocation.service_layer.writing.writer import LOCKING_S, Writer

SKUS = 40
MESSAGES = 4_000
SEED = 20261122


def open_store(url: str) -> Store:
    parsed = parse_url(url)
    return SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)


def history() -> list[Message]:
    """Batches, lines and counts of many products, each message meaning something else if it came too early."""
    dice = random.Random(SEED)
    created = [0] * SKUS
    events: list[Event] = []
    for number in range(MESSAGES):
        product = dice.randrange(SKUS)
        sku = f"SKU-{product}"
        what = dice.random()
        if created[product] == 0 or what < 0.02:
            created[product] += 1
            events.append(BatchCreated(f"{sku}-{created[product]}", sku, dice.randint(1, 60)))
        elif what < 0.05:
            ref = f"{sku}-{dice.randint(1, created[product])}"
            events.append(BatchQuantityChanged(ref, dice.randint(0, 60)))
        else:
            events.append(AllocationRequired(f"order-{number if what < 0.9 else number // 2}", sku, dice.randint(1, 5)))
    return [Message(event, f"message-{number}", "test", keyed=True) for number, event in enumerate(events)]


async def play(store: Store, messages: list[Message], *, one_by_one: bool = False, max_group: int = 50) -> list[object]:
    """Hand all in, in order, one after the other or at once; return what each was answered."""
    writer = Writer(store, pile=1, max_group=max_group)
    writer.start()
    if one_by_one:
        answers: list[Outcome | BaseException] = [await answer(writer, message) for message in messages]
    else:
        answers = await asyncio.gather(*(writer.handle(message) for message in messages), return_exceptions=True)
    await writer.close()
    await store.close()
    return [(each.result, each.raised) if isinstance(each, Outcome) else repr(each) for each in answers]


async def answer(writer: Writer, message: Message) -> Outcome | BaseException:
    try:
        return await writer.handle(message)
    except Refusal as refusal:
        return refusal


class Watched:
    """A store that counts how often something is read while something is being written."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.run, self.close = store.run, store.close
        self.writing = 0
        self.writes = 0
        self.read_ahead = 0

    async def read(self, wanted: Wanted) -> Loaded:
        self.read_ahead += self.writing
        return await self.store.read(wanted)

    async def write(self, changes: Changes) -> None:
        self.writes += 1
        self.writing += 1
        try:
            await self.store.write(changes)
        finally:
            self.writing -= 1


def test_a_group_handled_ahead_gets_the_answers_of_messages_that_came_alone(database_url: str) -> None:
    messages = history()
    alone = asyncio.run(play(MemoryStore(), messages, one_by_one=True))
    watched = Watched(open_store(database_url))
    assert len(alone) == MESSAGES
    assert asyncio.run(play(watched, messages, max_group=20)) == alone
    assert watched.read_ahead > 20, "else nothing was tried"


def test_hardly_any_group_is_handled_ahead_in_vain() -> None:
    """Of the same messages one in thirty changes a batch, and most of those need its lines."""

    async def scenario() -> tuple[int, float]:
        writer = Writer(MemoryStore(), pile=1, max_group=5)
        writer.start()
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(writer.handle(message) for message in history()), return_exceptions=True)
        await writer.close()
        return writer.meter.in_vain, asyncio.get_running_loop().time() - began

    in_vain, took_s = asyncio.run(scenario())
    assert 0 < in_vain <= 1 + took_s / LOCKING_S


def test_groups_of_one_product_follow_each_other_without_a_pause(database_url: str) -> None:
    """One is handled while the one before is written, on what it leaves behind: the hot product is no special case."""
    lines = [AllocationRequired(f"o{number}", "HOT", 1) for number in range(1_000)]
    created = [BatchCreated(f"b{number}", "HOT", 90) for number in range(10)]
    messages = [Message(event, f"m{number}", "test", keyed=True) for number, event in enumerate([*created, *lines])]
    watched = Watched(open_store(database_url))
    answers = asyncio.run(play(watched, messages))
    assert answers[10:910] == [(f"b{n // 90}", [Allocated(f"o{n}", "HOT", 1, f"b{n // 90}")]) for n in range(900)]
    assert answers[-1] == (None, [Backordered("o999", "HOT", 1), OutOfStock("HOT")])
    assert watched.writes == len(messages) // 50 + 1
    assert watched.read_ahead > 0.8 * watched.writes, "the first and the last, which is small, are not ahead"


def test_what_is_built_on_a_group_that_could_not_be_written_is_done_again(database_url: str) -> None:
    """Somebody else changes the product after both groups were read."""

    class Overtaken(Watched):
        async def write(self, changes: Changes) -> None:
            if self.writes == 1:
                other = Writer(open_store(database_url))
                other.start()
                await asyncio.sleep(0.05)  # while the next group is handled ahead
                await other.handle(Message(AllocationRequired("stranger", "HOT", 7), "stranger", "other"))
                await other.close()
                await other._store.close()
            await super().write(changes)

    created = Message(BatchCreated("b1", "HOT", 60), "b1", "test")
    lines = [Message(AllocationRequired(f"o{number}", "HOT", 1), f"m{number}", "test") for number in range(99)]
    answers = asyncio.run(play(Overtaken(open_store(database_url)), [created, *lines]))
    assert [answer[0] for answer in answers[1:] if isinstance(answer, tuple)] == ["b1"] * 53 + [None] * 46

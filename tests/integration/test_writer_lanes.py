"""Two lanes of one writer on PostgreSQL: side by side on different products, in order on each."""

from __future__ import annotations

import asyncio
import random

from allocation.adapters.database import parse_url
from allocation.adapters.memory import MemoryStore
from allocation.adapters.postgresql import PostgresStore
from allocation.domain.events import AllocationRequired, BatchCreated, BatchQuantityChanged, Event
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.store import Store
from allocation.service_layer.writer import Writer

SKUS = 40
MESSAGES = 4_000
SEED = 20261122


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


async def play(store: Store, messages: list[Message]) -> list[object]:
    """Hand all in at once, in order; return what each was answered."""
    writer = Writer(store, pile=1, max_group=50)
    writer.start()
    answers = await asyncio.gather(*(writer.handle(message) for message in messages), return_exceptions=True)
    await writer.close()
    await store.close()
    return [(each.result, each.raised) if isinstance(each, Outcome) else repr(each) for each in answers]


def test_lanes_give_every_message_the_answer_that_one_lane_gives(postgres_url: str) -> None:
    messages = history()
    alone = asyncio.run(play(MemoryStore(), messages))
    side_by_side = asyncio.run(play(PostgresStore(parse_url(postgres_url)), messages))
    assert len(alone) == MESSAGES
    assert side_by_side == alone


def test_lanes_really_work_side_by_side(postgres_url: str) -> None:
    """The most groups under way at once: as many as there are lanes, on many products; one, on a single product."""

    async def most_at_once(skus: int) -> int:
        store = PostgresStore(parse_url(postgres_url))
        writer = Writer(store, pile=1, max_group=20)
        writer.start()
        await writer.handle(Message(BatchCreated(f"b-{skus}", "SKU-0", 10_000), f"b-{skus}", "test"))
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(writer._under_way))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        lines = (AllocationRequired(f"{skus}-{n}", f"SKU-{n % skus}", 1) for n in range(600))
        await asyncio.gather(
            *(writer.handle(Message(line, f"{line.orderid}", "test")) for line in lines), return_exceptions=True
        )
        watching.cancel()
        await writer.close()
        await store.close()
        return most

    assert asyncio.run(most_at_once(200)) == PostgresStore.lanes == 2
    assert asyncio.run(most_at_once(1)) == 1

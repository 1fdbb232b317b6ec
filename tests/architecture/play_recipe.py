"""Plays the events of the recipe in a tree that has them: with a hold, ``move_up``, previews, the past, the books."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from allocation.adapters.migrate import migrate
from allocation.domain import events
from allocation.domain.events import AllocationRequired, BatchCreated, Event, RulesChanged
from tests.integration.test_one_meaning import LATER, SKU, Shop, held
from tests.lives import BEGIN, MAKERS, random_life

BatchRecalled: Any = events.BatchRecalled  # type: ignore[attr-defined] # this tree's own
PickedGoodsBroken: Any = events.PickedGoodsBroken  # type: ignore[attr-defined]

STOCK: list[Event] = [
    BatchCreated("b1", SKU, 6),
    held("h1", 2),
    AllocationRequired("o1", SKU, 3, BEGIN.date() + timedelta(days=2)),
    BatchCreated("b2", SKU, 4, LATER),
    AllocationRequired("o2", SKU, 1, BEGIN.date() + timedelta(days=1)),
    RulesChanged(SKU, move_up=True),
]


async def play(folder: Path) -> None:
    async with shop_in(folder / "recall.db") as shop:
        await shop.send(*STOCK)
        seen = await shop.see(BatchRecalled("b1"))
        assert seen is not None
        assert sorted(seen.moved) == [("h1", "b1", None), ("o1", "b1", "b2"), ("o2", "b1", "b2")], seen.moved
        await shop.send(BatchCreated("b3", SKU, 4))
        await shop.check_books()
    async with shop_in(folder / "broken.db") as shop:
        await shop.send(*STOCK)
        seen = await shop.see(PickedGoodsBroken("o1", SKU))
        assert seen is not None
        assert seen.moved == [("o1", "b1", "b2")], seen.moved
        await shop.check_books()
    assert {BatchRecalled, PickedGoodsBroken} <= MAKERS.keys()
    for seed in range(6):
        async with shop_in(folder / f"life-{seed}.db") as shop:
            for shop.now, event in random_life(seed, 150):
                await shop.see(event)
            await shop.check_books()


def shop_in(path: Path) -> Shop:
    url = f"sqlite:///{path}"
    shop = Shop(url)
    migrate(shop.url)
    return shop


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir()
    asyncio.run(play(folder))
    print("all agree")  # noqa: T201 - what the test reads

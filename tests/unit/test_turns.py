"""What a writer does with the turn to write, while others change the same products."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from allocation.domain.events import AllocationRequired, BatchCreated
from allocation.service_layer.messages import Message
from allocation.service_layer.writing import turns as turns_module
from allocation.service_layer.writing.store import StoreConflict
from allocation.service_layer.writing.writer import Writer
from tests.builders import message
from tests.unit.stores import UnusualStore

GROUP = 5
TIMEOUT_S = 5.0


class FakeTurns:
    """Turns that a test grants, or refuses."""

    def __init__(self, *, refused: bool = False) -> None:
        self.told: list[str] = []
        self.asked = asyncio.Event()
        self.granted = asyncio.Event()
        self.free = asyncio.Event()
        self._refused = refused

    async def take(self) -> bool:
        self.told.append("refused" if self._refused else "taken")
        self.asked.set()
        await self.granted.wait()
        return not self._refused

    async def give_back(self) -> None:
        self.told.append("given back")
        self.free.set()


def play(scenario: Callable[[Writer, UnusualStore], Awaitable[None]], turns: FakeTurns) -> None:
    """With a writer that found somebody else to change its product."""

    async def run() -> None:
        store = UnusualStore()
        writer = Writer(store, turns=turns)
        writer.start()
        await writer.handle(message(BatchCreated("b1", "RUG", 10)))
        assert turns.told == []
        store.conflicts = [StoreConflict("somebody was faster")]
        await writer.handle(order("first"))
        store.calls.clear()
        await scenario(writer, store)
        await writer.close()

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


def order(orderid: str) -> Message:
    return message(AllocationRequired(orderid, "RUG", 1))


def test_a_group_is_taken_when_its_turn_has_come_and_a_turn_that_is_over_goes_on_before_the_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns_module, "TURN_S", 0.0)
    turns = FakeTurns()

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        asking = [asyncio.create_task(writer.handle(order("o0")))]
        asking[0].add_done_callback(lambda _: turns.told.append("answered"))
        await turns.asked.wait()
        asking += [asyncio.create_task(writer.handle(order(f"o{number}"))) for number in range(1, GROUP)]
        await asyncio.sleep(0)
        turns.granted.set()
        await asyncio.gather(*asking)
        assert store.calls == {"read": 1, "write": 1}
        assert turns.told == ["taken", "given back", "answered"]

    play(scenario, turns)


def test_a_turn_is_for_several_groups_and_what_one_leaves_in_memory_serves_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns_module, "TURN_S", TIMEOUT_S)
    monkeypatch.setattr(turns_module, "LULL_S", TIMEOUT_S)
    turns = FakeTurns()
    turns.granted.set()

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        for number in range(3):
            await writer.handle(order(f"o{number}"))
        assert store.calls == {"read": 1, "write": 3}
        assert turns.told == ["taken"]

    play(scenario, turns)
    assert turns.told == ["taken", "given back"]


def test_a_turn_ends_when_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "TURN_S", TIMEOUT_S)
    turns = FakeTurns()
    turns.granted.set()

    async def scenario(writer: Writer, _: UnusualStore) -> None:
        await writer.handle(order("o1"))
        await turns.free.wait()
        assert turns.told == ["taken", "given back"]
        await writer.handle(order("o2"))
        assert turns.told == ["taken", "given back", "taken"]

    play(scenario, turns)


def test_without_a_turn_the_products_are_locked() -> None:
    turns = FakeTurns(refused=True)
    turns.granted.set()

    async def scenario(writer: Writer, store: UnusualStore) -> None:
        await writer.handle(order("o1"))
        assert store.calls == {"run": 1, "load": 1, "save": 1}
        assert turns.told == ["refused"]

    play(scenario, turns)

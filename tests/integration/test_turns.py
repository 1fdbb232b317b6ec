"""The turn to write, on PostgreSQL: one process at a time has it, and none waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import make_url

from allocation.adapters import turns as adapter
from allocation.adapters.turns import PostgresTurns

TIMEOUT_S = 10.0


def play(url: str, scenario: Callable[[PostgresTurns, PostgresTurns], Awaitable[None]]) -> None:
    async def run() -> None:
        one, other = PostgresTurns(make_url(url)), PostgresTurns(make_url(url))
        await scenario(one, other)
        await one.close()
        await other.close()

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


def test_one_has_it_until_it_gives_it_back(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PATIENCE_S", TIMEOUT_S)

    async def scenario(one: PostgresTurns, other: PostgresTurns) -> None:
        assert await one.take()
        waiting = asyncio.create_task(other.take())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        await one.give_back()
        assert await waiting
        await other.give_back()

    play(postgres_url, scenario)


def test_who_is_not_given_it_goes_without(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PATIENCE_S", 0.1)

    async def scenario(one: PostgresTurns, other: PostgresTurns) -> None:
        assert await one.take()
        assert not await other.take()
        await one.give_back()
        assert await other.take(), "it did not take it while it had given up"

    play(postgres_url, scenario)


def test_it_is_free_when_its_holder_has_gone(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PATIENCE_S", TIMEOUT_S)

    async def scenario(one: PostgresTurns, other: PostgresTurns) -> None:
        assert await one.take()
        await one.close()
        assert await other.take()

    play(postgres_url, scenario)


def test_it_is_not_had_where_there_is_no_database(unused_tcp_port_url: str) -> None:
    async def scenario(one: PostgresTurns, _: PostgresTurns) -> None:
        assert not await one.take()
        await one.give_back()

    play(unused_tcp_port_url, scenario)


@pytest.fixture
def unused_tcp_port_url() -> str:
    return "postgresql+asyncpg://nobody@127.0.0.1:1/none"

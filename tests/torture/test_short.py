"""A short version of ``make torture``: nothing acknowledged is lost, and nothing is applied twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers import PostgresNotFound, find_binaries
from tests.torture.arena import (
    NETWORK,
    Attack,
    MakeArena,
    cut_network,
    in_turn,
    kill_postgres,
    kill_server,
    kill_tidier,
    on_postgres,
    on_sqlite,
    pause_server,
)
from tests.torture.rounds import Result, play

SEED = 7
PATIENCE_S = 120.0


def test_a_server_on_sqlite_is_killed_again_and_again(tmp_path: Path) -> None:
    result = survive(on_sqlite, [kill_server], [kill_tidier, kill_server], tmp_path)
    assert result.counts["servers killed"] >= 2


def test_everything_between_the_sender_and_postgres_fails(tmp_path: Path) -> None:
    find_postgres()
    attacks, later = [*NETWORK, kill_server, pause_server], [kill_tidier, kill_postgres, cut_network]
    result = survive(on_postgres, attacks, later, tmp_path)
    assert result.counts["connections cut"] >= 3
    assert result.counts["databases killed"] == result.counts["servers paused"] == result.counts["delays"] == 1


def survive(arena_of: MakeArena, attacks: Sequence[Attack], later: Sequence[Attack], folder: Path) -> Result:
    round_ = play(arena_of, in_turn(attacks), in_turn(later), folder, SEED)
    result = asyncio.run(asyncio.wait_for(round_, PATIENCE_S))
    assert result.found == []
    assert result.counts["acknowledged"] == result.counts["sent"] > 100, "too little went on during the attack"
    assert result.counts["tidiers killed"] == 1
    assert result.counts["removed"] > 0
    return result


def find_postgres() -> None:
    try:
        find_binaries()
    except PostgresNotFound as reason:
        pytest.skip(str(reason))

"""A short version of ``make simulate``, and that a seed says everything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tests.simulation.plan import FAULTS, plan, told
from tests.simulation.search import search
from tests.simulation.world import Played, play

HISTORIES = 800


def test_random_histories_keep_every_promise() -> None:
    result = search(range(HISTORIES))
    assert result.failure is None, told(result.failure.history)
    assert result.histories == HISTORIES
    assert set(result.faults) == set(FAULTS), "else a kind of fault is never tried"
    assert min(result.faults.values()) > HISTORIES / 40
    assert result.messages > 4 * HISTORIES


def test_a_seed_gives_the_same_history_to_the_last_row() -> None:
    def seen(played: Played) -> Iterator[object]:
        yield dataclasses.asdict(played.tables)
        yield [(each.send, each.process, each.sent, each.answered, repr(each.answer)) for each in played.attempts]
        yield played.faults

    for seed in range(20):
        assert plan(seed) == plan(seed)
        assert list(seen(play(plan(seed)))) == list(seen(play(plan(seed))))

"""Plays history after history, and makes the first that fails as short as it gets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from unittest.mock import patch

import structlog

from allocation.adapters import memory
from tests.simulation.checker import faults
from tests.simulation.plan import Plan, plan, shorter
from tests.simulation.world import Played, play

SMALL_PAGE = 2  # short histories must turn pages too
MAX_SHORTER = 2_000  # histories played to find the shortest


@dataclass
class Failure:
    """The history that failed, shortened, and what is wrong with it."""

    seed: int
    history: Plan
    found: list[str]


@dataclass
class Searched:
    """How much was played, until the first failure if there is one."""

    histories: int = 0
    messages: int = 0
    attempts: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    failure: Failure | None = None

    def add(self, played: Played) -> None:
        self.histories += 1
        self.messages += len(played.tables.messages)
        self.attempts += len(played.attempts)
        self.faults += played.faults


def search(seeds: Iterable[int], *, seconds: float = float("inf"), shorten: bool = True) -> Searched:
    """Play the histories of the seeds until one fails or the time is over."""
    result, end = Searched(), time.monotonic() + seconds
    with patch.object(memory, "PAGE_SIZE", SMALL_PAGE), structlog.testing.capture_logs():
        for seed in seeds:
            history = plan(seed)
            played = play(history)
            result.add(played)
            if found := faults(played):
                shortest = shortened(history) if shorten else history
                result.failure = Failure(seed, shortest, faults(play(shortest)) if shorten else found)
            if result.failure or time.monotonic() > end:
                break
    return result


def shortened(history: Plan) -> Plan:
    """Leave out what is not needed to fail, until nothing more can be left out."""
    budget = MAX_SHORTER
    shrinking = True
    while shrinking:
        shrinking = False
        for candidate in shorter(history):
            budget -= 1
            if budget < 0:
                return history
            if faults(play(candidate)):
                history, shrinking = candidate, True
                break
    return history

"""How long and how often a run measures."""

from dataclasses import dataclass

SKUS = 2_000
BATCHES_PER_SKU = 3
ROOM_PER_BATCH = 1_000_000
HOT_SKUS = 1


FULL_ROUNDS = 3
FULL_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """`only` names the contenders to measure; empty means all."""

    rounds: int = FULL_ROUNDS
    seconds: int = FULL_SECONDS
    warm_up_s: int = 1
    connections: int = 128
    only: frozenset[str] = frozenset()

    @property
    def is_complete(self) -> bool:
        """Whether the figures may be published."""
        return not self.only and self.seconds >= FULL_SECONDS and self.rounds >= FULL_ROUNDS

    def includes(self, contender: str) -> bool:
        return not self.only or contender in self.only


QUICK = Plan(rounds=1, seconds=1, warm_up_s=1)

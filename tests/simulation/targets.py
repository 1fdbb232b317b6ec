"""The outside world: targets that are told of what was committed, and that fail in every way."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.util import await_only

from allocation.domain.events import Allocated, Event, OutOfStock
from allocation.service_layer.delivering.effects import Deliver, Delivery, Hopeless, Unreachable
from tests.simulation.deliveries import Lease

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

MAIL = "send_out_of_stock_notification"
WEBHOOK = "webhook"
EFFECTS: Mapping[type[Event], Sequence[str]] = {OutOfStock: (MAIL, WEBHOOK), Allocated: (WEBHOOK,)}

TELL_S = (0.0, 0.0, 0.001, 0.02, 0.07)
DOWN_S = (0.5, 3.0, 8.0)
MOST_DECLINED = 4
STOPPED_LEASES = 4  # for so many times as long as a lease lasts, so that another relay takes over


class Declined(Exception):
    """The target says no to a message."""


@dataclass
class Telling:
    """An attempt of a relay to tell a target of something. Moments are those of the world."""

    number: int
    by: str
    begun: int
    lease: Lease
    taken: int | None = None  # when the target took it; None: it never did
    ended: int | None = None  # None: the process died meanwhile
    error: str = ""


def effects_of(kind: type[Event]) -> Sequence[str]:
    return EFFECTS.get(kind, ())


class Targets:
    """One for each effect. They outlive the processes."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.tellings: list[Telling] = []
        self._world = world
        self._dice = dice
        self._down_until: dict[str, float] = {}
        self._declines: Counter[int] = Counter()  # how often it will, by the number of the delivery

    def mend(self) -> None:
        """From now on everything is taken."""
        self._down_until.clear()
        self._declines.clear()

    def finder(self, process: Process) -> Callable[[str], Deliver]:
        """What the relay of a process finds its effects by."""
        return lambda _: lambda delivery: await_only(self._tell(process, delivery))

    async def _tell(self, process: Process, delivery: Delivery) -> None:
        lease = self._world.owed.lease_of(delivery.sku)
        telling = Telling(delivery.number, process.name, self._world.next_moment(), lease)
        self.tellings.append(telling)
        kind = self._world.next_fault("target")
        try:
            await self._before(kind, process, delivery)
            self._take(telling, delivery)
            await self._after(kind, process)
        except Exception as error:
            telling.error = type(error).__name__
            raise
        finally:
            if process.lives:
                telling.ended = self._world.next_moment()

    async def _before(self, kind: str | None, process: Process, delivery: Delivery) -> None:
        lease_s = self._world.plan.relays.lease_s
        if kind == "crash before":
            process.die()
        if kind == "stopped":
            process.stop(STOPPED_LEASES * lease_s)
        if kind == "down":
            self._down_until[delivery.effect] = asyncio.get_running_loop().time() + self._dice.choice(DOWN_S)
        if kind == "bad":
            self._declines[delivery.number] = self._dice.randint(1, MOST_DECLINED)
        await asyncio.sleep(
            lease_s * self._dice.uniform(1, STOPPED_LEASES) if kind == "slow" else self._dice.choice(TELL_S)
        )
        await process.go_on()
        if kind == "hopeless":
            raise Hopeless("never")

    def _take(self, telling: Telling, delivery: Delivery) -> None:
        if asyncio.get_running_loop().time() < self._down_until.get(delivery.effect, 0):
            raise Unreachable("down")
        if self._declines[delivery.number]:
            self._declines[delivery.number] -= 1
            raise Declined("not this one")
        telling.taken = self._world.next_moment()

    async def _after(self, kind: str | None, process: Process) -> None:
        if kind == "crash after":
            process.die()
        await process.go_on()
        if kind == "answer lost":
            raise Declined("who knows")

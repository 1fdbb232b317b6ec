"""Effects: what is done to the outside world after a commit, at least once, in order for each SKU.

A delivery is committed with the message that needs it and removed when its effect is done, so a crash loses none; one
in between repeats at most what was done in `MARK_INTERVAL_S`. A delivery that fails is tried again, later and later,
and holds back those of its SKU only; a target that cannot be reached holds back the effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from allocation.domain.events import Event
from allocation.service_layer.handlers import Effect
from allocation.service_layer.messages import recall
from allocation.service_layer.store import StoreUnavailable

PAGE_SIZE = 100
LOOK_INTERVAL_S = 0.25  # between two looks, however many commits there are: so they cost nothing to speak of
MARK_INTERVAL_S = 0.1  # between an effect and the removal of its delivery
POLL_INTERVAL_S = 2.0  # for what other processes commit
RETRY_DELAY_S = 1.0
MAX_RETRY_DELAY_S = 60.0
MAX_HELD = 100  # lanes; so many failing at once are one trouble, and nothing else is tried meanwhile

log = structlog.get_logger(__name__)


class Unreachable(Exception):
    """The target of an effect is down or lets nobody in: that says nothing about the delivery."""


class Delivery(NamedTuple):
    """An effect that a committed message, of which ``type`` and ``body`` are, still has to have."""

    number: int
    effect: str
    sku: str
    type: str
    body: str


class Lane(NamedTuple):
    """Deliveries that keep their order; without ``sku`` all of the effect."""

    effect: str
    sku: str = ""


class Outbox(Protocol):
    """The deliveries that are pending. One process has them at a time."""

    async def pending(self, effects: Collection[str], held: Collection[Lane], limit: int) -> Sequence[Delivery]:
        """The oldest of these effects that are in none of these lanes; nothing while another process has them.

        Within a lane the order is that of the commits. Raises `StoreUnavailable`, as the others do.
        """

    async def remove(self, numbers: Sequence[int]) -> None:
        """Forget deliveries whose effect is done."""

    async def close(self) -> None:
        """Let another process have them, and give back the connection."""


def bind(effects: Mapping[type[Event], Sequence[Effect]], **ports: Any) -> Mapping[str, Callable[[Event], None]]:
    """The effects by name, each with the ports that its parameters after the event name."""
    return {effect.__name__: _bound(effect, ports) for several in effects.values() for effect in several}


def _bound(effect: Effect, ports: Mapping[str, Any]) -> Callable[[Event], None]:
    _, *names = inspect.signature(effect).parameters
    missing = [name for name in names if name not in ports]
    if missing:
        raise TypeError(f"{effect.__name__} asks for {', '.join(missing)}: pass it to bind()")
    return functools.partial(effect, **{name: ports[name] for name in names})


class _Hold(NamedTuple):
    attempts: int
    until: float


class EffectRunner:
    """Runs the effects of committed messages, one after the other, in a thread beside the event loop."""

    def __init__(self, outbox: Outbox, effects: Mapping[str, Callable[[Event], None]]) -> None:
        self._outbox = outbox
        self._effects = effects
        self._holds: dict[Lane, _Hold] = {}
        self._done: Sequence[int] = ()  # deliveries whose effect is done, still to be removed
        self._woken = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._task = asyncio.create_task(self._run(), name="effects")

    def wake(self) -> None:
        """There may be new deliveries: only a hint, and as good as free. To be called in the event loop."""
        self._woken.set()

    async def close(self) -> None:
        """Finish the effect under way, leave the others pending, and stop."""
        self._closing = True
        self._woken.set()
        if self._task is not None:
            await self._task
        await self._outbox.close()

    async def run_pending(self) -> int:
        """Run everything that is due now; return how many effects were done. Raises `StoreUnavailable`."""
        async with self._one_at_a_time:
            total = 0
            await self._remove_done()
            while not self._closing and (page := await self._due()):
                self._done = await asyncio.to_thread(self._run_page, page)
                total += len(self._done)
                await self._remove_done()
            return total

    async def _run(self) -> None:
        while not self._closing:
            self._woken.clear()
            try:
                await self.run_pending()
            except StoreUnavailable as error:
                log.warning("deliveries cannot be read", reason=str(error))
            except Exception:
                log.exception("effects cannot be run")
            await asyncio.sleep(LOOK_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), POLL_INTERVAL_S)

    async def _remove_done(self) -> None:
        """Nothing is read before this succeeds: while the disk is full, what is done would be done again and again."""
        if self._done:
            await self._outbox.remove(self._done)
            self._done = ()

    async def _due(self) -> Sequence[Delivery]:
        now = time.monotonic()
        held = {lane for lane, hold in self._holds.items() if hold.until > now}
        effects = self._effects.keys() - {lane.effect for lane in held if not lane.sku}
        if not effects or len(held) >= MAX_HELD:
            return ()
        return await self._outbox.pending(effects, held, PAGE_SIZE)

    def _run_page(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Run effects for a short while, in order; return the numbers of those done."""
        stop_at = time.monotonic() + MARK_INTERVAL_S
        done: list[int] = []
        failed: set[Lane] = set()
        for delivery in deliveries:
            if self._closing or time.monotonic() > stop_at:
                break
            if failed.isdisjoint((Lane(delivery.effect), Lane(delivery.effect, delivery.sku))):
                lane = self._attempt(delivery)
                if lane is None:
                    done.append(delivery.number)
                else:
                    failed.add(lane)
        return done

    def _attempt(self, delivery: Delivery) -> Lane | None:
        """Run one effect; if it fails, return the lane that is held."""
        lane = Lane(delivery.effect, delivery.sku)
        try:
            self._effects[delivery.effect](recall(delivery.type, delivery.body))
        except Unreachable as error:
            return self._hold(Lane(delivery.effect), delivery, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and tried again
            return self._hold(lane, delivery, error)
        self._holds.pop(lane, None)
        self._holds.pop(Lane(delivery.effect), None)
        return None

    def _hold(self, lane: Lane, delivery: Delivery, error: Exception) -> Lane:
        attempts = self._holds[lane].attempts + 1 if lane in self._holds else 1
        delay_s = min(RETRY_DELAY_S * 2 ** (attempts - 1), MAX_RETRY_DELAY_S)
        self._holds[lane] = _Hold(attempts, time.monotonic() + delay_s)
        log.warning(
            "effect failed",
            effect=delivery.effect,
            sku=delivery.sku,
            attempt=attempts,
            retry_in_s=delay_s,
            reason=f"{type(error).__name__}: {error}",
        )
        return lane

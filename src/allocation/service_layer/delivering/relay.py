"""The relay: runs the pending deliveries of the partitions that this process leases.

It publishes first and marks afterwards: a crash loses no delivery, and repeats at most the deliveries of
`MARK_INTERVAL_S`. Within an effect and SKU, a lane, deliveries keep the order of the commits. Each effect has its own
thread, so that none waits for another one's target. An idle relay has no lease and reads one row every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import structlog

from allocation.service_layer.delivering.effects import Delivery, FindEffect, Hopeless, Unreachable
from allocation.service_layer.delivering.leases import partition_of
from allocation.service_layer.writing.store import StoreUnavailable

PAGE_SIZE = 100
LOOK_INTERVAL_S = 0.25  # minimum time between two looks, however many commits there are, so that looks are cheap
MARK_INTERVAL_S = 0.1  # between an effect and the removal of its delivery
POLL_INTERVAL_S = 2.0  # for commits of other processes
RETRY_DELAY_S = 1.0
MAX_RETRY_DELAY_S = 60.0
MAX_WAITING = 100  # failing lanes of an effect; more have one common cause, so no other is tried meanwhile
MAX_TEXT_LENGTH = 8_000  # of an error or a stack, as stored with its delivery
THREADS = 16
TIDY_INTERVAL_S = 60.0
TIDY_BATCH = 500
TIDY_PAUSE_S = 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's settings."""

    lease_s: float = 5.0
    max_attempts: int = 10
    dead_letters_hold: bool = False  # later deliveries of a dead letter's lane wait for it
    keep_done_s: float = 0.0  # time for which done and dropped deliveries are kept; 0: deleted when done
    keep_dead_s: float = 365 * 86_400.0


class Leased(NamedTuple):
    """The partitions of this relay, each with its epoch, and those from which it takes more deliveries."""

    epochs: Mapping[int, int]
    usable: Collection[int]


class Failure(NamedTuple):
    """A failed attempt; ``retry_in_s`` is None after the last one."""

    delivery: Delivery
    attempts: int
    error: str
    stack: str
    retry_in_s: float | None


@dataclass(slots=True)
class Results:
    """The results of a page of deliveries."""

    done: list[Delivery] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Outbox(Protocol):
    """The pending deliveries and their leases. Every method raises `StoreUnavailable`."""

    async def waiting(self) -> Mapping[str, int]:
        """The effects with pending deliveries, each with the number that wait for their next attempt."""

    async def lease(self, in_use: Collection[int], lease_s: float) -> Leased:
        """Renew our leases, take free ones up to a fair share, and release those above it that are not in use."""

    async def release(self) -> None:
        """Release all leases."""

    async def due(
        self, effect: str, partitions: Collection[int], limit: int, *, dead_letters_hold: bool
    ) -> Sequence[Delivery]:
        """The oldest deliveries of the effect in these partitions whose lane is not waiting."""

    async def settle(self, epochs: Mapping[int, int], results: Results, *, keep_done: bool) -> int:
        """Record the results for partitions that we still hold at these epochs; return their number."""

    async def tidy(self, states: Collection[str], older_than_s: float, limit: int) -> int:
        """Delete at most ``limit`` settled deliveries of these states; return their number."""

    async def close(self) -> None:
        """Release the leases and the connection."""


class _Down(NamedTuple):
    """A target that cannot be reached; the effect pauses ``until`` then."""

    attempts: int
    until: float


class Relay:
    """Runs the effects of committed messages beside the event loop. Several relays can work on one database."""

    def __init__(
        self,
        outbox: Outbox,
        find_effect: FindEffect,
        policy: Policy = Policy(),
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rng`` randomises delays, and ``clock`` returns the time in seconds."""
        self._outbox = outbox
        self._find_effect = find_effect
        self._policy = policy
        self._rng = rng or random.Random()  # noqa: S311 - randomises retries, no security
        self._clock = clock
        self._leased = Leased({}, ())
        self._valid_until = 0.0  # by this process's clock; the leases in the database do not end earlier
        self._lease_at = 0.0
        self._idle_since: float | None = None  # None: there was work at the last look
        self._in_use: dict[str, Collection[int]] = {}  # partitions by the effect that is working in them
        self._down: dict[str, _Down] = {}
        self._at_work: dict[str, asyncio.Task[int]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="effect")
        self._woken = asyncio.Event()
        self._one_look_at_a_time = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    def start(self) -> None:
        """Start working, in the running event loop."""
        self._tasks = [
            asyncio.create_task(self._run(), name="effects"),
            asyncio.create_task(self._tidy_now_and_then(), name="retention"),
        ]

    def wake(self) -> None:
        """A hint that there may be new deliveries. It costs almost nothing. Call it in the event loop."""
        self._woken.set()

    async def close(self) -> None:
        """Finish the effects under way, leave the others pending, and stop."""
        self._closing = True
        self._woken.set()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._at_work.values())
        self._threads.shutdown()
        await self._outbox.close()

    async def run_pending(self) -> int:
        """Run all due deliveries of our partitions; return the number of finished ones. Raises `StoreUnavailable`."""
        total = 0
        while True:
            await self._look()
            done = sum(await asyncio.gather(*self._at_work.values()))
            total += done
            if not done:
                return total

    async def tidy(self) -> int:
        """Delete old settled deliveries, a few rows at a time; return their number. Raises `StoreUnavailable`."""
        kept = {("done", "dropped"): self._policy.keep_done_s, ("dead",): self._policy.keep_dead_s}
        total = 0
        for states, seconds in kept.items():
            while removed := await self._outbox.tidy(states, seconds, TIDY_BATCH):
                total += removed
                await asyncio.sleep(TIDY_PAUSE_S)
        return total

    async def _run(self) -> None:
        while not self._closing:
            self._woken.clear()
            try:
                await self._look()
            except StoreUnavailable as error:
                log.warning("deliveries cannot be read", reason=str(error))
            except Exception:
                log.exception("effects cannot be run")
            await asyncio.sleep(LOOK_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._longest_sleep_s())

    def _longest_sleep_s(self) -> float:
        at_rest = self._lease_at == 0
        return POLL_INTERVAL_S if at_rest else min(POLL_INTERVAL_S, self._policy.lease_s / 4)

    async def _look(self) -> None:
        """Look for pending deliveries, lease our share, and start every effect that can run."""
        async with self._one_look_at_a_time:
            waiting = await self._outbox.waiting()
            if not waiting and not self._at_work:
                await self._rest()
                return
            self._idle_since = None
            await self._lease()
            if not self._leased.usable or self._closing:
                return
            for effect, number in waiting.items():
                if effect not in self._at_work and number < MAX_WAITING and not self._is_down(effect):
                    task = asyncio.create_task(self._work(effect), name=f"effect {effect}")
                    self._at_work[effect] = task

    async def _rest(self) -> None:
        """After a while without work, release the leases to other relays; a short pause is not worth it."""
        if not self._leased.epochs:
            self._lease_at = 0.0
            return
        now = self._clock()
        self._idle_since = self._idle_since or now
        if now - self._idle_since < self._policy.lease_s:
            await self._lease()
            return
        self._leased, self._lease_at = Leased({}, ()), 0.0
        await self._outbox.release()

    async def _lease(self) -> None:
        asked_at = self._clock()
        if asked_at < self._lease_at:
            return
        in_use = {partition for several in self._in_use.values() for partition in several}
        self._leased = await self._outbox.lease(in_use, self._policy.lease_s)
        self._valid_until = asked_at + self._policy.lease_s
        self._lease_at = asked_at + self._policy.lease_s / 4

    async def _work(self, effect: str) -> int:
        """Run the due deliveries of one effect, page by page; return the number of finished ones."""
        done = 0
        worked = False
        try:
            while not self._closing and not self._is_down(effect):
                epochs, usable = self._leased
                self._in_use[effect] = usable
                hold = self._policy.dead_letters_hold
                page = await self._outbox.due(effect, usable, PAGE_SIZE, dead_letters_hold=hold)
                if not page:
                    break
                loop = asyncio.get_running_loop()
                results = await loop.run_in_executor(self._threads, self._run_page, page, epochs)
                worked = bool(results.done or results.failures)
                await self._outbox.settle(epochs, results, keep_done=self._policy.keep_done_s > 0)
                done += len(results.done)
                if results.failures or not worked:
                    break  # the next look finds out whether there are too many
        except StoreUnavailable as error:
            log.warning("deliveries cannot be read", effect=effect, reason=str(error))
        except Exception:
            log.exception("effects cannot be run", effect=effect)
        finally:
            del self._at_work[effect]
            self._in_use.pop(effect, None)
            if worked:
                self._woken.set()
        return done

    def _is_down(self, effect: str) -> bool:
        return effect in self._down and self._down[effect].until > self._clock()

    def _run_page(self, page: Sequence[Delivery], epochs: Mapping[int, int]) -> Results:
        """Run an effect for a short time, in order, while the leases are certainly valid."""
        stop_at = self._clock() + MARK_INTERVAL_S
        results = Results()
        failed: set[str] = set()
        for delivery in page:
            if self._closing or self._clock() > stop_at or not self._is_ours(delivery, epochs):
                break
            if delivery.sku in failed:
                continue
            try:
                failure = self._attempt(delivery)
            except Unreachable as error:
                self._hold(delivery, error)
                break
            self._down.pop(delivery.effect, None)
            if failure is None:
                results.done.append(delivery)
            else:
                failed.add(delivery.sku)
                results.failures.append(failure)
        return results

    def _is_ours(self, delivery: Delivery, epochs: Mapping[int, int]) -> bool:
        """Whether no other relay can have taken its partition, however long this process was stopped."""
        partition = partition_of(delivery.sku)
        return self._clock() < self._valid_until and self._leased.epochs.get(partition) == epochs[partition]

    def _attempt(self, delivery: Delivery) -> Failure | None:
        """Run one effect; if it fails, return how. Raises `Unreachable`."""
        deliver = self._find_effect(delivery.effect)
        if deliver is None:
            error = Hopeless(f"unknown effect {delivery.effect}; it may have been removed")
            return self._failed(delivery, error, delivery.attempts)
        try:
            deliver(delivery)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 - every error is logged and stored with the delivery
            return self._failed(delivery, error, delivery.attempts + 1)
        return None

    def _failed(self, delivery: Delivery, error: Exception, attempts: int) -> Failure:
        last = isinstance(error, Hopeless) or attempts >= self._policy.max_attempts
        retry_in_s = None if last else self._delay_s(attempts)
        reason = f"{type(error).__name__}: {error}"[:MAX_TEXT_LENGTH]
        told = {"effect": delivery.effect, "sku": delivery.sku, "message_id": delivery.id, "reason": reason}
        if retry_in_s is None:
            log.error("effect given up", number=delivery.number, attempts=attempts, **told)
        else:
            log.warning("effect failed", attempt=attempts, retry_in_s=retry_in_s, **told)
        stack = "".join(traceback.format_exception(error))[-MAX_TEXT_LENGTH:]
        return Failure(delivery, attempts, reason, stack, retry_in_s)

    def _hold(self, delivery: Delivery, error: Unreachable) -> None:
        effect = delivery.effect
        attempts = self._down[effect].attempts + 1 if effect in self._down else 1
        retry_in_s = self._delay_s(attempts)
        self._down[effect] = _Down(attempts, self._clock() + retry_in_s)
        log.warning("target is down", effect=effect, attempt=attempts, retry_in_s=retry_in_s, reason=str(error))

    def _delay_s(self, attempts: int) -> float:
        """Doubles with each attempt, up to a limit; random within the upper half, so that retries are spread."""
        longest = min(RETRY_DELAY_S * 2.0 ** min(attempts - 1, 30), MAX_RETRY_DELAY_S)
        return round(longest * self._rng.uniform(0.5, 1.0), 3)

    async def _tidy_now_and_then(self) -> None:
        while not self._closing:
            await asyncio.sleep(TIDY_INTERVAL_S)
            try:
                if removed := await self.tidy():
                    log.info("settled deliveries removed", number=removed)
            except StoreUnavailable as error:
                log.warning("settled deliveries cannot be removed", reason=str(error))
            except Exception:
                log.exception("settled deliveries cannot be removed")

"""Tells the facts that a new day brings: batches that expired, overdue deliveries, and lines that became late.

A day begins at midnight in the time zone of the business. Days that began while no process ran are made up for. Several
processes may do this on one database: each message has the same id in all of them, so the second one changes nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from typing import Final, NamedTuple, Protocol

import structlog

from allocation.domain.days import UTC_DAYS, Calendar
from allocation.domain.errors import IdempotencyKeyReused, Refusal
from allocation.domain.events import BatchExpired, DeliveryOverdue, Event, LineBecameLate
from allocation.service_layer.messages import checked_message
from allocation.service_layer.regularly import Regularly
from allocation.service_layer.writing.writer import Writer

LOOK_INTERVAL_S = 1.0
RETRY_AFTER_S = 10.0
PAGE_SIZE = 200  # messages that are sent together
MOST_PASSES = 3  # over one kind, while any message is refused because somebody was faster
ACTOR = "clock"
# In this order: a line that loses its batch may find another one before anybody says that it is late.
KINDS: Final[Sequence[type[Event]]] = (BatchExpired, DeliveryOverdue, LineBecameLate)

log = structlog.get_logger(__name__)


class Span(NamedTuple):
    """The days from ``since`` on, and before ``until``."""

    since: date
    until: date


class Place(NamedTuple):
    """A place in the order of days, and of names within a day: of batches, or of products and orders."""

    day: date
    name: str
    orderid: str = ""


class Brought(NamedTuple):
    """An event that a day brought, and its place."""

    event: Event
    place: Place


START: Final = Place(date.min, "")
Find = Callable[[type[Event], Span, Place, int], Awaitable[Sequence[Brought]]]


class Clock(Protocol):
    """The last day whose beginning is done, in storage."""

    async def last(self) -> date | None:
        """The day; None: no day was ever done."""

    async def done(self, day: date) -> None:
        """The day is done, unless a later one is."""


class NewDay:
    """Tells the facts of each new day, within seconds after midnight."""

    def __init__(
        self,
        writer: Writer,
        find: Find,
        days: Clock,
        calendar: Calendar = UTC_DAYS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``find`` returns a page of the facts that the days of a span brought, behind a place."""
        self._writer = writer
        self._find = find
        self._days = days
        self._calendar = calendar
        self._clock = clock
        self._done = date.min
        self._work = Regularly("new day", self._look, RETRY_AFTER_S)

    def start(self) -> None:
        """Begin to look, in the running event loop."""
        self._work.start()

    async def close(self) -> None:
        """Stop looking. The writer still handles the messages sent before."""
        await self._work.close()

    async def look(self) -> bool:
        """If a day has begun, tell its facts, and record that it is done; return whether nothing is left."""
        today = self._calendar.at(self._clock()).day
        if today <= self._done:
            return True
        last = await self._days.last() or date.min
        if last < today:
            left = [kind.__name__ for kind in KINDS if not await self._say_all(kind, Span(last, today))]
            if left:
                log.warning("a day is begun again", day=today.isoformat(), refused=left)
                return False
            await self._days.done(today)
        elif last > today:
            log.warning("the clock was put back", day=today.isoformat(), done=last.isoformat())
        self._done = max(last, today)
        return True

    async def _look(self) -> float:
        return LOOK_INTERVAL_S if await self.look() else RETRY_AFTER_S

    async def _say_all(self, kind: type[Event], span: Span) -> bool:
        """Whether nothing is left to say. A refusal means that somebody changed the batch or line since it was read."""
        for _ in range(MOST_PASSES):
            if await self._pass(kind, span):
                return True
        return False

    async def _pass(self, kind: type[Event], span: Span) -> bool:
        """Tell all facts, a page at a time; return whether all of them were accepted."""
        is_said, place = True, START
        while True:
            page = await self._find(kind, span, place, PAGE_SIZE)
            is_said = all(await asyncio.gather(*map(self._say, page))) and is_said
            if len(page) < PAGE_SIZE:
                return is_said
            place = page[-1].place

    async def _say(self, brought: Brought) -> bool:
        """Whether it was said, now or before."""
        try:
            await self._writer.handle(checked_message(brought.event, ACTOR, _key(brought)))
        except IdempotencyKeyReused:  # the line had another quantity then
            return True
        except Refusal:
            return False
        return True


def _key(brought: Brought) -> str:
    """The same key in every process and after each restart, so that it is said once; another one for another day."""
    kind, (day, *names) = type(brought.event).__name__, brought.place
    about = "\n".join([kind, day.isoformat(), *names])
    return f"day-{uuid.uuid5(uuid.NAMESPACE_OID, about)}"

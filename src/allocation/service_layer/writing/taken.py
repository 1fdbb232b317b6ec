"""The groups that the writer takes from its queue, by their next step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.writing.group import Outcomes
from allocation.service_layer.writing.store import Changes

Reply = Callable[[Outcome | Exception], None]
Entries = Sequence[tuple[Message, Reply]]


class Nothing(NamedTuple):
    """No message waits, or it is not our turn."""


class ToLock(NamedTuple):
    """Messages that are to be handled in a transaction that locks their products."""

    entries: Entries


class Handled(NamedTuple):
    """Messages that were handled ahead, not yet written."""

    entries: Entries
    outcomes: Outcomes
    changes: Changes
    fresh: bool  # all of its products were read for it; none was warm
    expected: bool  # to have new lines only, which were not looked up


Taken = Nothing | ToLock | Handled


class Flight(NamedTuple):
    """A group that is being written; nobody was answered yet."""

    group: Handled
    written: asyncio.Task[None]


def messages_of(entries: Entries) -> Sequence[Message]:
    return [message for message, _ in entries]

"""What the senders know of a run, and what the service keeps of it: the two sides that the checker compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = Mapping[str, Any]

REFUSED = {404, 409}  # as things stand; later it may be otherwise


class Answer(NamedTuple):
    """What came back for one attempt."""

    status: int
    body: Json


@dataclass(slots=True)
class Sent:
    """A message as its sender knows it. Times are of one clock; ``answers`` are all but "try again later"."""

    key: str
    path: str
    body: Json
    sku: str
    sent_at: float  # the first attempt
    acknowledged_at: float | None = None  # the first answer
    attempts: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def refusal(self) -> str | None:
        """For what reason it was declined, in the service's word; None: it was not."""
        if not self.answers or self.answers[0].status not in REFUSED:
            return None
        return str(self.answers[0].body["type"]).rpartition("/")[2]


class Line(NamedTuple):
    """Where a line or a hold stands; ``batchref`` is None while it waits."""

    orderid: str
    sku: str
    qty: int
    batchref: str | None
    state: str


class Batch(NamedTuple):
    """A batch and its counters: the shipped quantity is part of the allocated one, as in the database."""

    ref: str
    sku: str
    purchased_quantity: int
    allocated_quantity: int


@dataclass(slots=True)
class Stored:
    """What the service tells of itself afterwards; ``events`` are those of ``/events``, the whole ledger in order.

    ``earlier`` is the same before closed lines were removed, if any were.
    """

    events: Sequence[Json] = ()
    lines: Sequence[Line] = ()
    batches: Sequence[Batch] = ()
    differences: int = 0  # found by `allocation verify`
    earlier: Sequence[Json] = ()

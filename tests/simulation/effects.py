"""What has to be true of the effects after a history.

Relays are believed in nothing: what the targets saw and what was written down is compared, moment by moment.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.simulation.deliveries import Mark
from tests.simulation.targets import Telling
from tests.simulation.world import Played

NO_ATTEMPT = {"", "Unreachable"}  # errors that do not bring a delivery nearer to being given up

Lanes = Sequence[Sequence[int]]  # the numbers of the deliveries of each effect and SKU


def effect_faults(played: Played) -> Iterator[str]:
    """A sentence for everything that is not as promised."""
    tellings: dict[int, list[Telling]] = defaultdict(list)
    marks: dict[int, list[Mark]] = defaultdict(list)
    for telling in played.tellings:
        tellings[telling.number].append(telling)
    for mark in played.marks:
        marks[mark.number].append(mark)
    yield from _told(played, tellings)
    for number, several in marks.items():
        yield from _fenced(several, tellings[number])
        yield from _marked_as_it_was(several, tellings[number], played.plan.relays.max_attempts)
    if ("outbox", "clock ahead") not in played.faults:  # else two relays have a lease for a while
        yield from _not_repeated(tellings, marks)
    yield from _in_order(played, tellings, marks)


def _told(played: Played, tellings: Mapping[int, Sequence[Telling]]) -> Iterator[str]:
    """Whatever has an effect has had it in the end."""
    if played.left:
        yield f"effects: left in the end: {played.left}"
    for number, row in enumerate(played.tables.deliveries, 1):
        if not any(telling.taken for telling in tellings.get(number, ())):
            yield f"effects: {number} was never told: {row}"


def _fenced(marks: Sequence[Mark], tellings: Sequence[Telling]) -> Iterator[str]:
    """Only who has the lease writes down what became of a delivery, under the epoch that it was told under."""
    for mark in marks:
        told = [each.lease for each in tellings if each.by == mark.by == each.lease.holder and each.begun < mark.moment]
        if mark.by and (mark.by != mark.lease.holder or (told and told[-1] != mark.lease)):
            yield f"effects: a stale epoch marked: {mark}, which was told under {told[-1:]}"


def _marked_as_it_was(marks: Sequence[Mark], tellings: Sequence[Telling], max_attempts: int) -> Iterator[str]:
    """What is marked as done was done before, and what is given up has failed often enough."""
    for mark in marks:
        before = [each for each in tellings if each.begun < mark.moment]
        failed = [each.error for each in before if each.error not in NO_ATTEMPT]
        if mark.state == "done" and not any(each.taken and each.taken < mark.moment for each in before):
            yield f"effects: marked as done, and was not: {mark}"
        if mark.state == "dead" and len(failed) < max_attempts and "Hopeless" not in failed:
            yield f"effects: given up too early: {mark}, after {failed}"


def _not_repeated(tellings: Mapping[int, Sequence[Telling]], marks: Mapping[int, Sequence[Mark]]) -> Iterator[str]:
    """What is marked as done, and was not marked behind the back of a relay, is not told any more."""
    for number, several in tellings.items():
        for telling in several:
            mark = _state(marks.get(number, ()), telling.begun)
            if mark and mark.state in {"done", "dead"} and not mark.late:
                yield f"effects: told when it was settled: {telling}, {mark}"


def _in_order(
    played: Played, tellings: Mapping[int, Sequence[Telling]], marks: Mapping[int, Sequence[Mark]]
) -> Iterator[str]:
    """Nothing is told before all that comes before it in its lane has been, or was given up where that may be."""
    hold = played.plan.relays.dead_letters_hold
    told_at = {number: min(map(_succeeded, several)) for number, several in tellings.items()}
    for lane in _lanes(played):
        for number, earlier in itertools.combinations(reversed(lane), 2):
            for telling in tellings.get(number, ()):
                mark = _state(marks.get(earlier, ()), telling.begun)
                given_up = mark is not None and mark.state == "dead" and not hold
                if not given_up and told_at.get(earlier, math.inf) > telling.begun:
                    yield f"effects: {number} was told before {earlier} was: {telling}"


def _succeeded(telling: Telling) -> float:
    """When its relay learnt that it was taken."""
    return telling.ended if telling.ended and telling.taken and not telling.error else math.inf


def _state(marks: Sequence[Mark], at: int) -> Mark | None:
    """The last mark by then."""
    return next((mark for mark in reversed(marks) if mark.moment < at), None)


def _lanes(played: Played) -> Lanes:
    lanes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(played.tables.deliveries, 1):
        lanes[row.effect, row.sku].append(number)
    return list(lanes.values())

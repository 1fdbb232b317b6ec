"""What has to be true after a history, whatever went wrong in it.

The ledger is believed in one thing only: the order. Played again in that order on a naive model, its messages have to
give the answers that were given and the rows that are there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any

from allocation.adapters.memory import MemoryTables
from allocation.domain.errors import Refusal
from allocation.domain.events import Event
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.ledger import unfold
from allocation.service_layer.writing.writer import Unavailable
from tests.bookkeeping import audited
from tests.plain import PlainShop, stored_rows
from tests.property.naive import Declined, Fact, NaiveShop
from tests.simulation.effects import effect_faults
from tests.simulation.targets import MAIL, effects_of
from tests.simulation.world import Attempt, Gone, Played

PLACED = {"Allocated", "Deallocated", "Backordered", "Served"}
UNEXPECTED = (Unavailable, Gone, ZeroDivisionError)  # answers that say nothing about what became of the message

Cascade = Sequence[tuple[int, Event]]  # the messages of one from outside, by step


def faults(played: Played) -> list[str]:
    """A sentence for everything that is not as promised."""
    if played.stuck:
        return [f"stuck: {played.stuck}"]
    tables = played.tables
    cascades = {
        id_: sorted((told for row, _ in rows for told in unfold(row)), key=itemgetter(0))
        for id_, rows in tables.messages.items()
    }
    return [
        *_ledger(played, cascades),
        *_answers(played.attempts, cascades),
        *_order(played, list(cascades)),
        *(_lived if played.of_every_kind else _replayed)(tables, cascades),
        *_audited(tables),
        *_deliveries(tables, cascades),
        *effect_faults(played),
    ]


def _ledger(played: Played, cascades: Mapping[str, Cascade]) -> Iterator[str]:
    """Each message is there once, whole, and as it was sent."""
    sent = {attempt.send.id: attempt.send.event for attempt in played.attempts}
    for id_, cascade in cascades.items():
        if [step for step, _ in cascade] != list(range(len(cascade))):
            yield f"applied twice or torn: {id_} has steps {[step for step, _ in cascade]}"
        if sent.get(id_) != cascade[0][1]:
            yield f"unasked: {id_} is in the ledger as {cascade[0][1]}"


def _answers(attempts: Sequence[Attempt], cascades: Mapping[str, Cascade]) -> Iterator[str]:
    """Who is told that it is done finds it in the ledger, at that moment and for ever, as it was told."""
    done_at: dict[str, int] = {}
    for each in sorted(attempts, key=lambda each: each.answered or 0):
        if isinstance(each.answer, Outcome):
            done_at.setdefault(each.send.id, each.answered or 0)
            yield from _done(each, each.answer, cascades.get(each.send.id, ()))
        elif isinstance(each.answer, Refusal):
            if each.sent > done_at.get(each.send.id, each.sent):
                yield f"answers: {each.send.id} was done and then refused: {each.answer}"
            if not each.send.keyed and each.send.id in cascades:
                yield f"torn: {each.send.id} was refused and is in the ledger"
        elif each.answer is not None and not isinstance(each.answer, UNEXPECTED):
            yield f"unexpected: {each.send.id} was answered {each.answer!r}"


def _done(attempt: Attempt, answer: Outcome, cascade: Cascade) -> Iterator[str]:
    id_, told = attempt.send.id, [attempt.send.event, *answer.raised]
    if not attempt.committed:
        yield f"answered before the commit: {id_}"
    if not cascade:
        yield f"lost: {id_} was acknowledged and is not in the ledger"
    elif told != [event for _, event in cascade]:
        yield f"answers: {id_} was told {told}, the ledger has {cascade}"


def _order(played: Played, ids: Sequence[str]) -> Iterator[str]:
    """What was sent after another was acknowledged comes after it; and each process keeps the order."""
    position = {id_: number for number, id_ in enumerate(ids)}
    tries: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in played.attempts:
        if attempt.send.id in position:
            tries[attempt.send.id].append(attempt)
    once = [each[0] for each in tries.values() if len(each) == 1 and isinstance(each[0].answer, Outcome)]
    for first in once:
        for id_, several in tries.items():
            later = min(each.sent for each in several) > (first.answered or 0)
            if later and position[id_] < position[first.send.id]:
                yield f"order: {id_} was sent after {first.send.id} was acknowledged, and comes before it"
    yield from _as_handed_in(once, position)


def _as_handed_in(once: Sequence[Attempt], position: Mapping[str, int]) -> Iterator[str]:
    by_process: dict[int, list[Attempt]] = defaultdict(list)
    for each in once:
        by_process[each.process].append(each)
    for several in by_process.values():
        for moment in ("sent", "answered"):
            ids = [each.send.id for each in sorted(several, key=attrgetter(moment))]
            places = [position[id_] for id_ in ids]
            if places != sorted(places):
                yield f"order: {ids} is how they were {moment}, in the ledger they are at {places}"


def _replayed(tables: MemoryTables, cascades: Mapping[str, Cascade]) -> Iterator[str]:
    """Each message has the facts that the naive model gives, and in the end every line stands where it has it."""
    naive = NaiveShop()
    for id_, cascade in cascades.items():
        facts = [_fact(event) for _, event in cascade if type(event).__name__ in PLACED]
        expected = _naive_facts(naive, cascade[0][1])
        if facts != expected:
            yield f"rules: {id_} {cascade[0][1]} did {facts}, and should do {expected}"
            return
    batches = {ref: (row.sku, row.purchased_quantity, row.allocated_quantity) for ref, row in tables.batches.items()}
    stands = {key: (row.qty, row.batchref) for key, row in tables.lines.items()}
    waiting = {sku: row.waiting_lines for sku, row in tables.products.items()}
    should = {each.ref: (each.sku, each.purchased, each.purchased - naive.room(each)) for each in naive.batches}
    if batches != should:
        yield f"rows: batches are {batches}, and should be {should}"
    should_stand = {(line.orderid, line.sku): (line.qty, line.batch and line.batch.ref) for line in naive.lines}
    if stands != should_stand:
        yield f"rows: lines stand {stands}, and should stand {should_stand}"
    if waiting != {sku: len(naive.waiting(sku)) for sku in waiting}:
        yield f"rows: {waiting} lines wait"


def _lived(tables: MemoryTables, cascades: Mapping[str, Cascade]) -> Iterator[str]:
    """As in `_replayed`; but on the same rules, on plain objects that know everything, and look after themselves."""
    plain = PlainShop()
    for id_, cascade in cascades.items():
        event, recorded_at = cascade[0][1], tables.messages[id_][0][1]
        try:
            answer = plain.handle(event, recorded_at)
        except Exception as broken:  # noqa: BLE001 - whatever a fault in the code leads to
            yield f"rules: {id_} {event} {broken!r}"
            return
        raised = answer if isinstance(answer, str) else list(answer[1])
        if raised != [event for _, event in cascade[1:]]:
            yield f"rules: {id_} {event} did {cascade[1:]}, and should do {raised}"
            return
    in_tables = stored_rows(tables)
    if plain.rows() != in_tables:
        yield f"rows: {in_tables}, and should be {plain.rows()}"


def _naive_facts(naive: NaiveShop, event: Event) -> list[Fact] | str:
    try:
        return naive.answer(event)[1]
    except Declined as no:
        return str(no)


def _fact(event: Any) -> Fact:
    return type(event).__name__, event.orderid, getattr(event, "batchref", None)


def _audited(tables: MemoryTables) -> Iterator[str]:
    """The books are right: `allocation verify` would find nothing."""
    for difference in audited(tables).differences:
        yield f"books: {difference}"


def _deliveries(tables: MemoryTables, cascades: Mapping[str, Cascade]) -> Iterator[str]:
    """Every effect that a message needs is to be delivered once, in the order of the ledger.

    A mail is one for each SKU and cascade; a webhook gets every event.
    """
    asked = [
        (id_, step, effect, event if effect == MAIL else step)
        for id_, cascade in cascades.items()
        for step, event in cascade
        for effect in effects_of(type(event))
    ]
    first: dict[tuple[object, ...], int] = {}
    needed = [
        (id_, step, effect)
        for id_, step, effect, about in asked
        if first.setdefault((id_, effect, about), step) == step
    ]
    if [row[:3] for row in tables.deliveries] != needed:
        yield f"effects: deliveries are {[row[:3] for row in tables.deliveries]}, and should be {needed}"

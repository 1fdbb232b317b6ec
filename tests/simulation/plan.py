"""Histories as data: who sends what and when, and what goes wrong. A seed gives one; parts of it can be left out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from allocation.domain.events import (
    AllocationRequired,
    BatchCounted,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    DeliveryReceived,
    Event,
    ReceiptUndone,
    StockAdjusted,
    StockTransferred,
)
from allocation.domain.fields import CLOSED, EXPECTED
from tests.lives import random_event

SENDERS = 3
MOST_SENT = 24
MOST_FAULTS = 6
SKUS = ("LAMP", "LAMP", "LAMP", "RUG")
QUANTITIES = (0, 3, 6, 6, 9, 12)  # few, so that a count often is what was counted before
ETAS = (None, None, date(2026, 1, 1), date(2026, 2, 1))

# What can go wrong at one call of the store.
STORE_FAULTS = {
    "lost before": "the connection breaks before anything is done",
    "lost after": "the connection breaks after the commit, before it is known",
    "lost late": "the connection breaks, and the commit happens later",
    "conflict": "another writer was faster",
    "overtaken": "what is read, or about to be written, is held up while others go on",
    "outage": "the database is away for longer than the writer's patience",
    "error": "the store raises what nobody expects",
    "crash before": "the process dies before anything is done",
    "crash after": "the process dies after the commit, before anybody is answered",
    "crash late": "the process dies, and its commit happens later",
    "restart": "the process closes while it works, and another one starts",
}
# At one call of a relay: to read what is pending, to renew its leases, or to write down what became of deliveries.
OUTBOX_FAULTS = {kind: about for kind, about in STORE_FAULTS.items() if kind != "conflict"} | {
    "stopped": "the process stands still for longer than its leases last",
    "clock ahead": "the database's clock jumps past the end of every lease",
    "clock back": "the database's clock jumps back",
}
# At one attempt of an effect.
TARGET_FAULTS = {
    "down": "the target is down for a while",
    "bad": "the target declines the message, now and maybe the next times",
    "hopeless": "the target declines the message for good",
    "slow": "the target takes longer than a lease lasts",
    "answer lost": "the target takes the message, and nobody hears of it",
    "crash before": "the process dies before the effect",
    "crash after": "the process dies after the effect, before it is marked as done",
    "stopped": "the process stands still, in front of the effect, for longer than its leases last",
}
PLACES = {"store": STORE_FAULTS, "outbox": OUTBOX_FAULTS, "target": TARGET_FAULTS}
FAULTS = {(place, kind): about for place, kinds in PLACES.items() for kind, about in kinds.items()}


class Send(NamedTuple):
    """One message on its way. The same id again is a repeat; only with ``keyed`` may it be sent again."""

    sender: int
    pause_s: float  # after the sender's one before
    waits: bool  # for the answer, before the sender goes on
    id: str
    keyed: bool
    event: Event


class Fault(NamedTuple):
    """What goes wrong at which call of the place, counted from the start of the history."""

    place: str
    kind: str
    call: int


class Relays(NamedTuple):
    """How effects are run."""

    lease_s: float = 1.0
    max_attempts: int = 3
    dead_letters_hold: bool = False
    keeps_done: bool = False


class Plan(NamedTuple):
    """A whole history. ``seed`` decides how long each call takes and whom a sender turns to."""

    seed: int
    processes: int
    pile: int
    max_group: int
    max_queued: int
    relays: Relays
    sends: tuple[Send, ...]
    faults: tuple[Fault, ...]

    @property
    def is_of_every_kind(self) -> bool:
        return _is_of_every_kind(self.seed)


def plan(seed: int) -> Plan:
    """The history of a seed, always the same."""
    dice = random.Random(seed)
    sends = list(_sends(dice, dice.randint(2, MOST_SENT), of_every_kind=_is_of_every_kind(seed)))
    calls = dice.choice((6, 20, 40))
    faults = list(_faults("store", calls, dice))
    processes = dice.choice((1, 1, 2))
    others = random.Random(f"effects of {seed}")
    if seed % 2:  # else nothing goes wrong with effects: what kills a relay kills its writer, too
        faults += _faults("outbox", others.choice((8, 20, 40)), others)
        faults += _faults("target", others.choice((3, 10, 20)), others)
        processes = others.choice((1, 2, 2))
    return Plan(
        seed,
        processes=processes,
        pile=dice.choice((1, 1, 2, 4)),
        max_group=dice.choice((1, 3, 50)),
        max_queued=dice.choice((3, 100)),
        relays=_relays(others),
        sends=tuple(sends),
        faults=tuple(faults),
    )


def shorter(whole: Plan) -> Iterator[Plan]:
    """The plan with less in it: a half of the messages or faults, then one, then one process."""
    for name in ("sends", "faults"):
        parts = getattr(whole, name)
        size = len(parts) // 2
        while size:
            for start in range(0, len(parts), size):
                yield whole._replace(**{name: parts[:start] + parts[start + size :]})
            size //= 2
    if whole.processes > 1:
        yield whole._replace(processes=1)
    for place, send in enumerate(whole.sends):
        if send.pause_s:
            yield whole._replace(sends=(*whole.sends[:place], send._replace(pause_s=0.0), *whole.sends[place + 1 :]))


def told(history: Plan) -> str:
    """The history for people."""
    options = f"{history.pile=} {history.max_group=} {history.max_queued=}".replace("history.", "")
    lines = [f"seed {history.seed}: processes={history.processes} {options}"]
    lines += [
        f"  sender {send.sender} after {send.pause_s:g} s{', and waits' * send.waits}: {_name(send)} {send.event}"
        for send in history.sends
    ]
    lines.append(f"  {history.relays}")
    lines += [f"  {place}, call {call}: {kind}, {FAULTS[place, kind]}" for place, kind, call in history.faults]
    return "\n".join(lines)


def _name(send: Send) -> str:
    return send.id if send.keyed else f"{send.id} (no key)"


def _faults(place: str, calls: int, dice: random.Random) -> Iterator[Fault]:
    for _ in range(dice.randint(0, MOST_FAULTS)):
        yield Fault(place, dice.choice(list(PLACES[place])), dice.randint(1, calls))


def _relays(dice: random.Random) -> Relays:
    return Relays(
        lease_s=dice.choice((1.0, 5.0)),
        max_attempts=dice.randint(1, 3),
        dead_letters_hold=dice.random() < 0.5,
        keeps_done=dice.random() < 0.3,
    )


def _is_of_every_kind(seed: int) -> bool:
    """Every other pair of histories; the others are of events alone that the naive model knows."""
    return seed % 4 > 1


def _sends(dice: random.Random, count: int, *, of_every_kind: bool) -> Iterator[Send]:
    sent: list[Send] = []
    for number in range(count):
        sender, pause_s, waits = dice.randrange(SENDERS), _pause_s(dice), dice.random() < 0.4
        repeated = [send for send in sent if send.keyed]
        if repeated and dice.random() < 0.2:
            again = dice.choice(repeated)
            yield again._replace(sender=sender, pause_s=pause_s, waits=waits)
            continue
        event = random_event(dice) if of_every_kind and dice.random() < 0.7 else _event(dice, first=not number)
        sent.append(Send(sender, pause_s, waits, f"m{number}", dice.random() < 0.75, event))
        yield sent[-1]


def _pause_s(dice: random.Random) -> float:
    return dice.choice((0.0, 0.0, 0.001, 0.01, 0.05))


def _event(dice: random.Random, *, first: bool) -> Event:
    sku, kind = dice.choice(SKUS), dice.random()
    ref = f"{sku.lower()}-{dice.randint(1, 4)}"
    if first or kind < 0.25:
        delivery = dice.choice((None, "PO-1", "PO-1"))
        return BatchCreated(ref, sku, dice.choice(QUANTITIES[1:]), dice.choice(ETAS), delivery=delivery)
    if kind < 0.6:
        return AllocationRequired(f"o{dice.randint(1, 12)}", sku, dice.randint(1, 6))
    if kind < 0.7:
        return BatchQuantityChanged(ref, dice.choice(QUANTITIES))
    return _told_by_the_warehouse(dice, ref)


def _told_by_the_warehouse(dice: random.Random, ref: str) -> Event:
    return dice.choice(
        (
            BatchReceived(ref, dice.choice((None, 2, 4, 6))),
            BatchReceived(ref, dice.choice((1, 2, 3)), dice.choice((EXPECTED, CLOSED))),
            ReceiptUndone(ref, dice.choice((None, 1, 3))),
            BatchCounted(ref, dice.choice((0, 2, 5))),
            StockAdjusted(ref, dice.choice((-4, -2, 1)), "damaged"),
            StockTransferred(ref, "OSLO", dice.choice((1, 3)), dice.choice((None, f"{ref}0"))),
            DeliveryReceived("PO-1"),
            DeliveryReceived("PO-1"),
        )
    )

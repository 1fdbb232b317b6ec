"""Random events of every kind about few products, batches and orders, so that they get in each other's way."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCorrected,
    BatchCounted,
    BatchCreated,
    BatchEtaChanged,
    BatchExpired,
    BatchQuantityChanged,
    BatchQuarantined,
    BatchReceived,
    BatchReleased,
    DeliveryEtaChanged,
    DeliveryOverdue,
    DeliveryReceived,
    Event,
    HoldConfirmed,
    HoldExpired,
    HoldReleased,
    LineBecameLate,
    LinePinned,
    LineQuantityChanged,
    LineReturned,
    LineShipped,
    MoveUpRequired,
    ProductReinstated,
    ProductRetired,
    ReceiptUndone,
    RepairRequired,
    RulesChanged,
    StockAdjusted,
    StockHeld,
    StockTransferred,
)
from allocation.domain.fields import CLEARABLE, CLOSED, EXPECTED, INSPECT, SCRAP, STOCK, STRATEGIES, Between, OneOf
from allocation.service_layer.messages import EVENTS, FieldRule, field_rules, incoming_types

Maker = Callable[[random.Random, str], Event]

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)
SKUS = ("LAMP", "LAMP", "LAMP", "LAMP", "RUG")
DAYS = tuple(BEGIN.date() + timedelta(days=days) for days in (-1, 0, 1, 4, 9))
MOMENTS = tuple(BEGIN + timedelta(hours=hours) for hours in (-1, 40, 400, 1_000))
COUNTED = (None, *(BEGIN + timedelta(hours=hours) for hours in (-1, 0, 2, 26)))
LOCATIONS = (None, None, "LYON", "OSLO")
DELIVERIES = ("PO-1", "PO-2")  # of every SKU
ORDERS = 9
PARTS = (*[""] * 5, "/2", "/3")  # of which there may be some, or orders that are called so


def random_event(dice: random.Random) -> Event:
    """An event of any kind; those that ask for stock come more often."""
    sku = dice.choice(SKUS)
    return dice.choice(WEIGHTED)(dice, sku)


def _ref(dice: random.Random, sku: str) -> str:
    return f"{sku.lower()}-{dice.randint(1, 4)}"


def _orderid(dice: random.Random) -> str:
    return f"o{dice.randint(1, ORDERS)}{dice.choice(PARTS)}"


def _holdid(dice: random.Random) -> str:
    return dice.choice(("h1", "h2", "h3", "o1"))


def _day(dice: random.Random) -> date | None:
    return dice.choice((*[None] * len(DAYS), *DAYS))


def by_fields(kind: type[Event], dice: random.Random, values: Mapping[str, Sequence[Any]]) -> Event:
    """An event of a kind, from the limits of its fields and the ``values`` that fields of a name may have."""

    def value(rule: FieldRule) -> Any:
        if rule.name in values:
            return dice.choice(values[rule.name])
        if isinstance(rule.limit, OneOf):
            return dice.choice(rule.limit.words)
        if isinstance(rule.limit, Between):
            return max(rule.limit.least, dice.randint(0, 9))
        return dice.choice({bool: (True, False), date: DAYS, datetime: MOMENTS, str: ("damp",)}[rule.base])

    return kind(**{rule.name: value(rule) for rule in field_rules(kind) if rule.required or dice.random() < 0.5})


def _maker(kind: type[Event]) -> Maker:
    def make(dice: random.Random, sku: str) -> Event:
        refs = [f"{sku.lower()}-{number}" for number in range(1, 5)]
        names = {"orderid": [_orderid(dice)], "holdid": [_holdid(dice)]}
        return by_fields(kind, dice, {"sku": [sku], "ref": refs, "batchref": refs, "location": LOCATIONS, **names})

    return make


def _batch_created(dice: random.Random, sku: str) -> Event:
    eta = _day(dice)
    return BatchCreated(
        _ref(dice, sku),
        sku,
        dice.randint(1, 12),
        eta,
        dice.choice((None, None, DAYS[1], DAYS[-2], DAYS[-1])),
        dice.choice(LOCATIONS),
        dice.choice((None, *DELIVERIES)),
        quarantine=dice.choice((*[None] * 9, "wet")),
        eta_unknown=eta is None and dice.random() < 0.2,
    )


def _allocation_required(dice: random.Random, sku: str) -> Event:
    orderid, qty, need_by = _orderid(dice), dice.choice((1, 2, 2, 4, 6)), _day(dice)
    priority, split = dice.choice(((0, False), (0, True), (0, True), (1, True), (9, False)))
    return AllocationRequired(orderid, sku, qty, need_by, priority, split)


def _quantity_changed(dice: random.Random, sku: str) -> Event:
    return BatchQuantityChanged(_ref(dice, sku), dice.choice((0, 3, 6, 9, 12)))


def _eta_changed(dice: random.Random, sku: str) -> Event:
    return BatchEtaChanged(_ref(dice, sku), dice.choice(DAYS))


def _received(dice: random.Random, sku: str) -> Event:
    qty, rest = dice.choice((None, 0, 1, 2, 3, 6, 12)), dice.choice((EXPECTED, EXPECTED, EXPECTED, CLOSED))
    rest_eta = dice.choice((*[None] * 9, *DAYS)) if qty is not None and rest == EXPECTED else None
    return BatchReceived(_ref(dice, sku), qty, rest, rest_eta, dice.choice((*[None] * 7, "wet")))


def _undone(dice: random.Random, sku: str) -> Event:
    return ReceiptUndone(_ref(dice, sku), dice.choice((None, 1, 2, 4)))


def _delivery_late(dice: random.Random, _: str) -> Event:
    return DeliveryEtaChanged(dice.choice(DELIVERIES), dice.choice(DAYS))


def _delivery_received(dice: random.Random, _: str) -> Event:
    return DeliveryReceived(dice.choice(DELIVERIES))


def _counted(dice: random.Random, sku: str) -> Event:
    return BatchCounted(_ref(dice, sku), dice.choice((0, 1, 2, 3, 5, 9)), None, dice.choice(COUNTED))


def _adjusted(dice: random.Random, sku: str) -> Event:
    return StockAdjusted(_ref(dice, sku), dice.choice((-6, -2, -1, -1, 1, 3)), "broken")


def _corrected(dice: random.Random, sku: str) -> Event:
    return BatchCorrected(
        _ref(dice, sku),
        dice.choice((None, None, *DAYS)),
        dice.choice((None, None, *DAYS[2:])),
        dice.choice(LOCATIONS),
        dice.choice((None, *DELIVERIES)),
        dice.choice((None, None, None, *CLEARABLE)),
    )


def _transferred(dice: random.Random, sku: str) -> Event:
    """A part becomes a batch with a name that may be taken, or with one that follows from the others."""
    qty = dice.choice((None, 1, 2, 4))
    new_ref = None if qty is None else dice.choice((None, _ref(dice, sku), f"{sku.lower()}-5"))
    return StockTransferred(
        _ref(dice, sku),
        dice.choice(LOCATIONS[2:]),
        qty,
        new_ref,
        dice.choice((None, None, *DAYS[1:])),
        keep_lines=dice.choice((True, True, False)),
    )


def _retired(_: random.Random, sku: str) -> Event:
    return ProductRetired(sku)


def _reinstated(_: random.Random, sku: str) -> Event:
    return ProductReinstated(sku)


def _quarantined(dice: random.Random, sku: str) -> Event:
    return BatchQuarantined(_ref(dice, sku), "wet", dice.choice((True, False)))


def _released(dice: random.Random, sku: str) -> Event:
    return BatchReleased(_ref(dice, sku))


def _batch_expired(dice: random.Random, sku: str) -> Event:
    return BatchExpired(_ref(dice, sku))


def _overdue(dice: random.Random, sku: str) -> Event:
    return DeliveryOverdue(_ref(dice, sku))


def _became_late(dice: random.Random, sku: str) -> Event:
    return LineBecameLate(_orderid(dice), sku, dice.choice((1, 2, 2, 4, 6)), dice.choice(DAYS[:2]))


def _cancelled(dice: random.Random, sku: str) -> Event:
    return AllocationCancelled(_orderid(dice), sku)


def _resized(dice: random.Random, sku: str) -> Event:
    return LineQuantityChanged(_orderid(dice), sku, dice.randint(1, 9))


def _shipped(dice: random.Random, sku: str) -> Event:
    return LineShipped(_orderid(dice), sku)


def _returned(dice: random.Random, sku: str) -> Event:
    scrapped, disposition = dice.choice(((False, None), (True, None), (False, STOCK), (False, INSPECT), (True, SCRAP)))
    return LineReturned(_orderid(dice), sku, dice.choice((None, 1, 2, 3)), scrapped, disposition)


def _pinned(dice: random.Random, sku: str) -> Event:
    return LinePinned(_orderid(dice), sku, _ref(dice, sku), "a friend")


def _held(dice: random.Random, sku: str) -> Event:
    return StockHeld(_holdid(dice), sku, dice.randint(1, 4), dice.choice(MOMENTS))


def _confirmed(dice: random.Random, _: str) -> Event:
    return HoldConfirmed(_holdid(dice), _orderid(dice))


def _hold_released(dice: random.Random, _: str) -> Event:
    return HoldReleased(_holdid(dice))


def _expired(dice: random.Random, _: str) -> Event:
    return HoldExpired(_holdid(dice))


def _rules_changed(dice: random.Random, sku: str) -> Event:
    return RulesChanged(
        sku,
        dice.choice((None, *STRATEGIES)),
        dice.choice(LOCATIONS),
        safety_stock=dice.choice((0, 0, 3)),
        shelf_life_days=dice.choice((0, 0, 4)),
        most_waiting=dice.choice((None, None, 2)),
        ages_after=dice.choice((None, None, 5)),
        frozen_days=dice.choice((0, 2)),
        most_moved=dice.choice((None, 1)),
        least_harm=dice.choice((False, False, True)),
        move_up=dice.choice((False, True)),
    )


def _move_up_required(_: random.Random, sku: str) -> Event:
    return MoveUpRequired(sku)


def _repair_required(_: random.Random, sku: str) -> Event:
    return RepairRequired(sku)


MAKERS: dict[type[Event], tuple[Maker, int]] = {  # each with how often it comes
    BatchCreated: (_batch_created, 8),
    AllocationRequired: (_allocation_required, 16),
    BatchQuantityChanged: (_quantity_changed, 4),
    BatchEtaChanged: (_eta_changed, 3),
    BatchReceived: (_received, 6),
    ReceiptUndone: (_undone, 2),
    DeliveryEtaChanged: (_delivery_late, 1),
    DeliveryReceived: (_delivery_received, 1),
    BatchCounted: (_counted, 3),
    StockAdjusted: (_adjusted, 2),
    BatchCorrected: (_corrected, 2),
    StockTransferred: (_transferred, 3),
    ProductRetired: (_retired, 1),
    ProductReinstated: (_reinstated, 4),
    BatchQuarantined: (_quarantined, 1),
    BatchReleased: (_released, 2),
    BatchExpired: (_batch_expired, 2),
    DeliveryOverdue: (_overdue, 2),
    LineBecameLate: (_became_late, 2),
    AllocationCancelled: (_cancelled, 2),
    LineQuantityChanged: (_resized, 3),
    LineShipped: (_shipped, 4),
    LineReturned: (_returned, 3),
    LinePinned: (_pinned, 2),
    StockHeld: (_held, 4),
    HoldConfirmed: (_confirmed, 2),
    HoldReleased: (_hold_released, 1),
    HoldExpired: (_expired, 1),
    RulesChanged: (_rules_changed, 1),
    MoveUpRequired: (_move_up_required, 1),
    RepairRequired: (_repair_required, 1),
}
# An event without a maker of its own is made field by field, so a new kind lives with the others from its first day.
MAKERS |= {EVENTS[name]: (_maker(EVENTS[name]), 2) for name in incoming_types() if EVENTS[name] not in MAKERS}
WEIGHTED = [maker for maker, weight in MAKERS.values() for _ in range(weight)]


def later(dice: random.Random, now: datetime) -> datetime:
    """The next moment: mostly at once, now and then the next day."""
    return now + dice.choice((timedelta(seconds=1), timedelta(seconds=1), timedelta(hours=2), timedelta(days=1)))


def random_life(seed: int, number: int) -> Sequence[tuple[datetime, Event]]:
    """Events with their moments."""
    dice, now, told = random.Random(seed), BEGIN, []
    for _ in range(number):
        now = later(dice, now) if dice.random() < 0.1 else now
        told.append((now, random_event(dice)))
    return told

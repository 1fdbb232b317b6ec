"""A group of messages handled in one transaction: its unit of work, and the data that its messages need.

Inside a group ``commit`` accepts a handler's changes; the writer makes them durable together with the others.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from operator import itemgetter
from typing import Any

import msgspec

from allocation.domain.days import UTC_DAYS, Calendar
from allocation.domain.errors import IdempotencyKeyReused, ProductChanged, Refusal
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    DeliveryEtaChanged,
    DeliveryReceived,
    Event,
    StockHeld,
    StockTransferred,
)
from allocation.domain.harm import Solver, no_solver
from allocation.domain.lines import part_id
from allocation.domain.rules import USUAL, Rules
from allocation.service_layer import messagebus
from allocation.service_layer.handlers import HANDLERS, RAISES
from allocation.service_layer.messagebus import UndeclaredEvent
from allocation.service_layer.messages import Message, Outcome
from allocation.service_layer.unit_of_work import AbstractUnitOfWork
from allocation.service_layer.writing.ledger import EffectsOf, declared_effects, fold, unfold
from allocation.service_layer.writing.products import NOTHING_WARM, StoredProducts, WarmProduct
from allocation.service_layer.writing.store import (
    Changes,
    MessageRow,
    Session,
    Wanted,
)

Outcomes = Sequence[Outcome | Exception]
Lines = AbstractSet[tuple[str, str]]  # (orderid, sku)
NAMES_BEGIN = (BatchCreated, StockHeld, StockTransferred)  # with these events names of batches and holds begin


class SpoiledGroup(Exception):
    """A message left forbidden changes behind: the group's data in memory can no longer be trusted."""


class GroupUnitOfWork(AbstractUnitOfWork):
    """One transaction for many messages, each with its own outcome."""

    products: StoredProducts

    def __init__(  # noqa: PLR0913 - the session, and values for all groups
        self,
        session: Session,
        recorded_at: datetime,
        effects_of: EffectsOf = declared_effects,
        usual_rules: Rules = USUAL,
        solve: Solver = no_solver,
        kept: Mapping[str, WarmProduct] = NOTHING_WARM,
        *,
        calendar: Calendar = UTC_DAYS,
    ) -> None:
        self.now = recorded_at
        self.solve = solve
        self.today = calendar.at(recorded_at)
        self.products = StoredProducts(session, self.today, usual_rules, kept)
        self._effects_of = effects_of
        self._changes = Changes(recorded_at)
        self._outcomes: dict[str, Outcome] = {}
        self._trail: list[tuple[Event, int | None]] = []
        self._step = 0  # of the event that is handled now
        self._accepted = False

    def load(self, wanted: Wanted) -> None:
        """Fetch the data that the messages will need."""
        self._recall_outcomes(self.products.load(wanted))

    def handle(self, message: Message) -> Outcome:
        """Put one message through the bus, or return the first outcome of a repeated one."""
        self._accepted = False
        known = self._outcomes.get(message.id)
        if known is not None:
            if known.message.event != message.event:
                raise IdempotencyKeyReused(message.id)
            return known
        if message.at_versions is not None:
            self._check_versions(message.event, message.at_versions)
        self._trail = []
        results = messagebus.handle(message.event, self)
        if isinstance(message.event, NAMES_BEGIN):
            self.products.learn(message.event)
        outcome = Outcome(message, results[0], [event for event, _ in self._trail[1:]])
        if message.keyed:
            self._outcomes[message.id] = outcome
        self._append_to_ledger(message, results[0])
        return outcome

    def knows(self, message: Message) -> bool:
        """Whether a message with this id is in the ledger."""
        return message.id in self._outcomes

    @property
    def has_accepted(self) -> bool:
        """Whether the message now handled has changes accepted already."""
        return self._accepted

    def changes(self) -> Changes:
        """Everything that was accepted, to be asked for once, at the end."""
        self.products.write_to(self._changes)
        return self._changes

    def record(self, event: Event, cause: int | None) -> int:
        self._step = len(self._trail)
        self._trail.append((event, cause))
        return self._step

    def record_given(self, facts: Iterable[Event]) -> None:
        """Facts that a rule of a product raised while an event is handled; this event itself is recorded already.

        The others have been applied, so the bus does not handle them.
        """
        event, _ = self._trail[self._step]
        for fact in facts:
            if fact != event:
                if not any(type(fact) in RAISES[handler] for handler in HANDLERS[type(event)]):
                    raise UndeclaredEvent(
                        f"{type(event).__name__} led to {type(fact).__name__}: declare it in handlers.RAISES"
                    )
                self._trail.append((fact, self._step))

    def _commit(self) -> None:
        self._accepted = True
        self.products.accept()

    def rollback(self) -> None:
        if not self.products.all_accepted():
            raise SpoiledGroup("a handler left without committing its changes")

    def _recall_outcomes(self, rows: Iterable[MessageRow]) -> None:
        cascades: dict[str, list[MessageRow]] = defaultdict(list)
        for row in rows:
            cascades[row.correlation_id].append(row)
        for id_, cascade in cascades.items():
            told = sorted((entry for row in cascade for entry in unfold(row)), key=itemgetter(0))
            (_, event), *raised = told
            first = next(row for row in cascade if row.step == 0)
            message = Message(event, id_, first.actor, keyed=True)
            result = msgspec.json.decode(first.result or "null")
            self._outcomes[id_] = Outcome(message, result, [event for _, event in raised])

    def _check_versions(self, event: Event, expected: Mapping[str, int]) -> None:
        if isinstance(event, DeliveryEtaChanged | DeliveryReceived):
            skus = {product.sku for product, _ in self.products.batches_of(event.delivery)}
        else:
            skus = {self._sku_of(event)}
        for sku in sorted(skus | expected.keys()):
            if sku not in skus or self.products.version_of(sku) != expected.get(sku):
                raise ProductChanged(sku)

    def _append_to_ledger(self, message: Message, result: Any) -> None:
        rows, deliveries = fold(message, result, self._trail, self._sku_of, self._effects_of)
        self._changes.messages += rows
        self._changes.deliveries += deliveries

    def _sku_of(self, event: Event) -> str:
        sku: str | None = getattr(event, "sku", None)
        if sku is None and (holdid := getattr(event, "holdid", None)) is not None:
            sku = self.products.sku_of_hold(holdid)
        elif sku is None:
            sku = self.products.sku_of(getattr(event, "ref", ""))
        return sku or ""


def handle_each(messages: Sequence[Message], uow: GroupUnitOfWork) -> Outcomes:
    """Handle the messages one after the other. Raises `SpoiledGroup` if one is refused after a part of it was done."""
    outcomes: list[Outcome | Exception] = []
    for message in messages:
        try:
            outcomes.append(uow.handle(message))
        except Refusal as refusal:
            if uow.has_accepted:
                raise SpoiledGroup(f"{message.id} was refused after a part of it was done") from refusal
            outcomes.append(refusal)
    return outcomes


def handle_again(messages: Sequence[Message], uow: GroupUnitOfWork, before: Outcomes) -> Outcomes:
    """Handle a group that may have been written, with outcomes from ``before``.

    If each message is in the ledger or was refused, the group was written, since a commit is whole. Then refused
    messages stay refused. Handled again they would see later changes, and might be accepted.
    """
    told = [uow.knows(message) for message in messages]
    if not all(is_told or isinstance(outcome, Refusal) for is_told, outcome in zip(told, before, strict=True)):
        return handle_each(messages, uow)
    recalled = iter(handle_each(list(itertools.compress(messages, told)), uow))
    return [next(recalled) if is_told else outcome for is_told, outcome in zip(told, before, strict=True)]


def wanted_by(messages: Iterable[Message], *, check_ids: bool) -> Wanted:
    """The data that the messages will need. ``check_ids``: look up all ids in the ledger, not only senders' own."""
    wanted = Wanted()
    for event, id_, _, keyed, _ in messages:
        _want(event, wanted)
        if keyed or check_ids:
            wanted.message_ids.add(id_)
    return wanted


def _want(event: Event, wanted: Wanted) -> None:
    """Add the subjects of an event. The names of its fields, which are the same in every event, identify them."""
    sku: str | None = getattr(event, "sku", None)
    orderid: str | None = getattr(event, "orderid", None)
    ref: str | None = getattr(event, "ref", None)
    holdid: str | None = getattr(event, "holdid", None)
    if sku is not None:
        wanted.skus.add(sku)
        if orderid is not None:
            wanted.lines.add((orderid, sku))
            if getattr(event, "split", False):
                wanted.lines.add((part_id(orderid, 2), sku))  # whose name the line needs, if it is split
    if ref is not None:
        wanted.refs.add(ref)
    if holdid is not None:
        wanted.holdids.add(holdid)
        if sku is not None:
            wanted.lines.add((holdid, sku))


def expected_new(messages: Sequence[Message], known: Container[str]) -> Lines:
    """The lines that are ordered of those products, and that nothing else is said about."""
    ordered: set[tuple[str, str]] = set()
    others: set[tuple[str, str]] = set()
    for message in messages:
        line = _line_ordered(message)
        if line is None:
            others.add((getattr(message.event, "orderid", ""), getattr(message.event, "sku", "")))
        elif line[1] in known:
            ordered.add(line)
    return ordered - others


def is_refused(messages: Sequence[Message], outcomes: Outcomes, lines: Lines) -> bool:
    """Whether any of these lines was refused."""
    return any(
        isinstance(outcome, Refusal) and _line_ordered(message) in lines
        for message, outcome in zip(messages, outcomes, strict=True)
    )


def _line_ordered(message: Message) -> tuple[str, str] | None:
    event = message.event
    return (event.orderid, event.sku) if isinstance(event, AllocationRequired) else None

"""The audit of a product: compares stored counters with the sums of its lines, and rows with its replayed messages.

Nothing here reads or writes. Rows and messages are processed side by side, in the order of their keys, so that batches
are kept in memory but lines are not, however many there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import RulesChanged
from allocation.domain.fields import STRATEGIES
from allocation.domain.lines import HELD_PRIORITY, PART_MARK, PASSING, OrderLine, is_pinned, own_priority
from allocation.domain.rules import USUAL, Rules
from allocation.domain.stock import Stock
from allocation.service_layer.messages import UNREADABLE
from allocation.service_layer.proving.books import (
    NOTHING_GONE,
    Booked,
    Books,
    Difference,
    Fact,
    Opening,
    place_of,
)
from allocation.service_layer.writing.store import BatchRow, LineRow, ProductRow

MAX_DIFFERENCES = 1_000  # kept in a report; beyond that they are only counted

KINDS: Final = {
    "allocated-quantity": "a batch's counter differs from the sum of its lines",
    "waiting-lines": "a product's counter is not the number of its waiting lines",
    "oversold": "the lines on a batch add up to more than was purchased",
    "rules-differ": "a product's rules are not those it was last given",
    "retired": "a product is retired and its messages do not say so, or the reverse",
    "version": "a product's version number is not the number of its changes",
    "position": "a batch or line has a position that its product never gave",
    "product-missing": "there are batches, lines or messages of a product that is not there",
    "batch-missing": "the ledger has a batch that is not there",
    "batch-unexplained": "there is a batch that the ledger does not have",
    "batch-differs": "a batch is not as it was bought, or as it was said to be since",
    "purchased-quantity": "a batch's quantity is not as last counted",
    "shipped-quantity": "a batch's shipped quantity differs from the sum of its shipped lines",
    "arrived-allocated": "of a batch in parts, the allocated quantity of the arrived part differs from its lines",
    "unknown-batch": "a line is on a batch that its product does not have",
    "line-missing": "the ledger has a line that is not there",
    "line-unexplained": "there is a line that the ledger does not have",
    "line-elsewhere": "a line is not on the batch, or in the state, that the ledger gives",
    "line-differs": "a line is not as it was ordered, held, split, pinned or served",
    "ledger": "the ledger contradicts itself: a message is missing, or out of order",
}
COUNTERS: Final = frozenset({"allocated-quantity", "shipped-quantity", "waiting-lines"})
# With one of these differences, the right values of a product's counters are unknown.
DOUBTS: Final = frozenset(
    kind
    for kind in KINDS
    if kind.startswith(("batch-", "line-")) or kind in {"product-missing", "unknown-batch", "position"}
)


@dataclass(slots=True)
class Report:
    """The counts of an audit, and its differences, the first `MAX_DIFFERENCES` in full."""

    products: int = 0
    batches: int = 0
    lines: int = 0
    messages: int = 0
    found: Counter[str] = field(default_factory=Counter)  # by kind
    differences: list[Difference] = field(default_factory=list)
    miscounted: set[str] = field(default_factory=set)  # SKUs with a wrong counter
    doubted: set[str] = field(default_factory=set)  # SKUs with other differences

    def add(self, difference: Difference) -> None:
        self.found[difference.kind] += 1
        if difference.kind in COUNTERS:
            self.miscounted.add(difference.sku)
        if difference.kind in DOUBTS:
            self.doubted.add(difference.sku)
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(difference)


class ProductRows(NamedTuple):
    """All there is of one product: lines by order id, messages by order id and position, those about no line first."""

    sku: str
    product: ProductRow | None
    batches: Sequence[BatchRow]
    lines: Iterable[LineRow]
    facts: Iterable[Fact]
    opening: Opening = NOTHING_GONE


def audit(rows: ProductRows, report: Report) -> None:
    """Recompute every sum of a product, replay its messages, and report the differences from storage."""
    _Audit(rows, report).run()


class _Audit:
    def __init__(self, rows: ProductRows, report: Report) -> None:
        self._rows = rows
        self._report = report
        self._books = Books(rows.sku, rows.opening)
        self._stored = {batch.ref: batch for batch in rows.batches}
        # By batch: the sum of its lines, deleted ones included, and its shipped quantity.
        self._held: defaultdict[str, int] = defaultdict(int, rows.opening.shipped)
        self._shipped: defaultdict[str, int] = defaultdict(int, rows.opening.shipped)
        self._served: defaultdict[str, int] = defaultdict(int)  # by batch, lines with stock that has arrived
        self._waiting = 0
        self._early_parts: list[tuple[LineRow, Booked]] = []
        self._version = rows.product.version_number if rows.product else 0

    def run(self) -> None:
        self._check_lines()
        if self._rows.product is None:
            self._differ("product-missing", self._rows.sku, None, "a product")
        else:
            self._check_product(self._rows.product)
        for ref in sorted(self._stored.keys() | self._books.batches.keys() | self._rows.opening.shipped.keys()):
            self._check_batch(ref, self._stored.get(ref), self._books.batches.get(ref), self._books.last.get(ref))
        for contradiction in self._books.contradictions:
            self._report.add(contradiction)
        self._report.products += 1
        self._report.batches += len(self._stored)

    def _check_lines(self) -> None:
        """Rows and messages are both in the order of the order ids, so neither has to be remembered."""
        lines = iter(self._rows.lines)
        line = next(lines, None)
        for orderid, booked in self._booked_lines():
            while line is not None and line.orderid < orderid:
                self._check_line(line, None)
                line = next(lines, None)
            if line is not None and line.orderid == orderid:
                self._check_line(line, booked)
                line = next(lines, None)
            else:
                self._differ("line-missing", orderid, None, f"{booked.line.qty}, {booked.place}", booked.last)
        while line is not None:
            self._check_line(line, None)
            line = next(lines, None)
        for line, booked in self._early_parts:
            self._compare_terms(line, self._books.terms_of(booked.line), booked.last)

    def _booked_lines(self) -> Iterator[tuple[str, Booked]]:
        for orderid, facts in groupby(self._rows.facts, key=attrgetter("orderid")):
            booked: Booked | None = None
            for fact in facts:
                self._report.messages += 1
                booked = self._books.book(fact, booked)
            if orderid is not None and booked is not None:
                if booked.promise.closed in PASSING:
                    self._differ("ledger", orderid, "freed", "placed again", booked.last)
                yield orderid, booked

    def _check_line(self, line: LineRow, booked: Booked | None) -> None:
        self._add_up(line)
        ref = line.batchref
        if ref is not None and ref not in self._stored:
            self._differ("unknown-batch", line.orderid, ref, "a batch of the product", booked and booked.last)
        if not 0 < line.position <= self._version:
            self._differ("position", line.orderid, line.position, f"1 to {self._version}", booked and booked.last)
        if booked is None:
            self._differ("line-unexplained", line.orderid, f"{line.qty}, {place_of(ref, line.closed)}", None)
            return
        _, batchref, closed = booked.promise
        if (ref, line.closed) != (batchref, closed):
            self._differ("line-elsewhere", line.orderid, place_of(ref, line.closed), booked.place, booked.last)
        if line.qty != booked.line.qty:
            self._differ("line-differs", line.orderid, line.qty, booked.line.qty, booked.last)
        elif bool(line.arrived) != booked.line.arrived and line.closed is None:
            self._differ("line-differs", line.orderid, _served(line), _served(booked.line), booked.last)
        if _is_unusual(line) or _is_unusual(booked.line):
            self._check_terms(line, booked)

    def _add_up(self, line: LineRow) -> None:
        self._report.lines += 1
        if line.batchref is None:
            self._waiting += line.closed is None
            return
        self._held[line.batchref] += line.qty
        if line.closed:
            self._shipped[line.batchref] += line.qty
        elif line.arrived:
            self._served[line.batchref] += line.qty

    def _check_terms(self, line: LineRow, booked: Booked) -> None:
        """The tenth part of a line sorts before the second, so before the split that gives it its terms: it waits."""
        if PART_MARK in line.orderid and not _has_terms(booked.line):
            self._early_parts.append((line, booked))
        else:
            self._compare_terms(line, booked.line, booked.last)

    def _compare_terms(self, line: LineRow, booked: OrderLine, last: int) -> None:
        for stored, expected in (
            (_needed(line.need_by), _needed(booked.need_by)),
            (_ranked(line.priority), _ranked(booked.priority)),
            (_held_until(line.expires_at), _held_until(booked.expires_at)),
            (_cut(line.part, line.rest), _cut(booked.part, booked.rest)),
        ):
            if stored != expected:
                self._differ("line-differs", line.orderid, stored, expected, last)

    def _check_product(self, product: ProductRow) -> None:
        if product.waiting_lines != self._waiting:
            self._differ("waiting-lines", product.sku, product.waiting_lines, self._waiting)
        if product.version_number != self._books.version_number:
            self._differ("version", product.sku, product.version_number, self._books.version_number)
        if bool(product.retired) != self._books.retired:
            sold = ("sold", "retired")
            self._differ("retired", product.sku, sold[bool(product.retired)], sold[self._books.retired])
        rules = _rules_in(product.rules)
        expected = _rules_of(self._books.rules, rules)
        if rules != expected:
            self._differ(
                "rules-differ", product.sku, _ruled(product.rules), _ruled(expected), self._books.rules_position
            )

    def _check_batch(self, ref: str, stored: BatchRow | None, booked: Stock | None, last: int | None) -> None:
        if stored is None:
            self._differ("batch-missing", ref, None, booked and f"{booked.purchased_quantity} purchased", last)
            return
        held = self._held[ref]
        if stored.allocated_quantity != held:
            self._differ("allocated-quantity", ref, stored.allocated_quantity, held, last)
            if self._is_opening_wrong(stored):
                self._report.doubted.add(self._rows.sku)
        if held > stored.purchased_quantity:
            self._differ("oversold", ref, held, f"at most {stored.purchased_quantity}", last)
        if not 0 < stored.position <= self._version:
            self._differ("position", ref, stored.position, f"1 to {self._version}", last)
        if booked is None:
            self._differ("batch-unexplained", ref, f"{stored.purchased_quantity} purchased", None)
        else:
            self._compare_batch(ref, stored, booked, last)

    def _is_opening_wrong(self, stored: BatchRow) -> bool:
        """If the stored totals of deleted lines are wrong, both counters are wrong by the same number."""
        ref = stored.ref
        excess = stored.allocated_quantity - self._held[ref], stored.shipped_quantity - self._shipped[ref]
        return ref in self._rows.opening.shipped and excess[0] == excess[1]

    def _compare_batch(self, ref: str, stored: BatchRow, booked: Stock, last: int | None) -> None:
        if stored.purchased_quantity != booked.purchased_quantity:
            self._differ("purchased-quantity", ref, stored.purchased_quantity, booked.purchased_quantity, last)
        bought = (stored.initial_quantity, stored.initial_eta)
        booked_as = (booked.initial_quantity, booked.initial_eta)
        if bought != booked_as:
            self._differ("batch-differs", ref, _bought(*bought), _bought(*booked_as), last)
        if stored.eta != booked.eta:
            self._differ("batch-differs", ref, _due(stored.eta), _due(booked.eta), last)
        for is_, should_be in zip(_said_of_row(stored), _said_of(booked), strict=True):
            if is_ != should_be:
                self._differ("batch-differs", ref, is_, should_be, last)
        if stored.shipped_quantity != self._shipped[ref]:
            self._differ("shipped-quantity", ref, stored.shipped_quantity, self._shipped[ref], last)
        served = self._served[ref] + self._shipped[ref]
        if stored.arrived_quantity is not None and stored.arrived_allocated != served:
            self._differ("arrived-allocated", ref, stored.arrived_allocated, served, last)

    def _differ(self, kind: str, name: str, stored: object, expected: object, position: int | None = None) -> None:
        self._report.add(Difference(kind, self._rows.sku, name, stored, expected, position))


def _said_of_row(batch: BatchRow) -> Sequence[str]:
    """The words for everything else that is stored of a batch."""
    return (
        _sold(batch.quarantine),
        _placed(batch.location),
        _usable(batch.expires_on),
        _delivered(batch.delivery),
        _in_parts(batch.arrived_quantity),
        f"{batch.inspect_quantity} in inspection",
        _was_due(batch.last_eta),
        _counted(batch.counted_at),
        _created(batch.created_as),
    )


def _said_of(batch: Stock) -> Sequence[str]:
    """The same of a batch of the books."""
    return (
        _sold(batch.quarantine),
        _placed(batch.location),
        _usable(batch.expires_on),
        _delivered(batch.delivery),
        _in_parts(None if batch.arrived is None else batch.arrived.quantity),
        f"{batch.inspect_quantity} in inspection",
        _was_due(batch.last_eta),
        _counted(batch.counted_at),
        _created(None if batch.created_as is None else msgspec.json.encode(batch.created_as).decode()),
    )


def _sold(quarantine: str | None) -> str:
    return f"in quarantine: {quarantine}" if quarantine else "on sale"


def _delivered(delivery: str | None) -> str:
    return f"comes with {delivery}" if delivery else "comes with no delivery"


def _in_parts(arrived: int | None) -> str:
    return "whole" if arrived is None else f"in parts, {arrived} arrived"


def _was_due(last_eta: date | None) -> str:
    return f"was due {last_eta}" if last_eta else "never was due and arrived"


def _counted(counted_at: datetime | None) -> str:
    return f"counted at {_moment(counted_at)}" if counted_at else "never counted"


def _created(created_as: str | None) -> str:
    return f"created as {created_as}" if created_as else "created as it is"


def _served(line: LineRow | OrderLine) -> str:
    return "has stock that arrived" if line.arrived else "has stock that is due, or whole"


def _bought(quantity: int, eta: date | None) -> str:
    return f"{quantity} bought, {_due(eta)}"


def _due(eta: date | None) -> str:
    return f"due {eta}" if eta else "in the warehouse"


def _placed(location: str | None) -> str:
    return f"at {location}" if location else "at no location"


def _usable(expires_on: date | None) -> str:
    return f"expires {expires_on}" if expires_on else "never expires"


def _is_unusual(line: LineRow | OrderLine) -> bool:
    """Whether the line has more to compare than most."""
    return bool(line.priority or line.need_by or line.expires_at or line.part or line.rest)


def _has_terms(line: OrderLine) -> bool:
    """Whether it is known with which terms the line was ordered."""
    return bool(line.part or line.need_by or own_priority(line.priority))


def _needed(need_by: date | None) -> str:
    return f"needed by {need_by}" if need_by else "needed by no day"


def _ranked(priority: int) -> str:
    if priority == HELD_PRIORITY:
        return "behind every order"
    return f"priority {own_priority(priority)}{', pinned' if is_pinned(priority) else ''}"


def _held_until(expires_at: datetime | None) -> str:
    return f"held until {_moment(expires_at)}" if expires_at else "not held"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _cut(part: int | None, rest: int | None) -> str:
    return f"part {part or 0}, {rest or 0} cut off" if part or rest else "whole"


def _rules_in(stored: str | None) -> Rules | str | None:
    """Stored rules; None: the usual ones; a text that says no rules stays as it is."""
    try:
        return None if stored is None else msgspec.json.decode(stored, type=Rules)
    except (*UNREADABLE, msgspec.ValidationError):
        return stored


def _rules_of(given: RulesChanged | None, stored: Rules | str | None) -> Rules | None:
    """The rules that a product was last given. The usual strategy, if it is that, is a setting: so as stored."""
    if given is None:
        return None
    usual = USUAL
    if isinstance(stored, Rules) and stored.strategy in STRATEGIES:
        usual = Rules(stored.strategy)
    try:
        rules = Rules.of(given, usual)
    except InvalidMessage:  # which says that it cannot have been that strategy
        usual = USUAL
        rules = Rules.of(given, usual)
    return None if rules is usual else rules


def _ruled(rules: Rules | str | None) -> str:
    if rules is None:
        return "the usual ones"
    return rules if isinstance(rules, str) else msgspec.json.encode(rules).decode()

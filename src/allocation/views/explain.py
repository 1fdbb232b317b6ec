"""Why a line is on its batch or waits: the batches considered at its last placement, and its history.

The product is rebuilt from the ledger as it was just before the placement. If the ledger has more messages of the
product than are replayed for one answer, or some were deleted, the batches are shown as they are now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Date, bindparam, text

from allocation.domain.days import UTC_DAYS, Calendar
from allocation.domain.errors import UnknownLine
from allocation.domain.events import Allocated, Backordered, Held, HoldConfirmed, LinePinned
from allocation.domain.figures import is_expired, is_overdue, marks, may_be_sold
from allocation.domain.lines import NO_DAY, Fit, OrderLine, Today, state_of
from allocation.domain.rules import JUST_IN_TIME, NO_ROOM, SAFETY_STOCK, USUAL, Candidate, Choice, Room, Rules
from allocation.domain.stock import Source, Stock, sources_of
from allocation.domain.waiting import fits_into, stays_whole
from allocation.service_layer.messages import message_id
from allocation.views import as_moment, lateness, opening, unusual
from allocation.views.facts import LedgerPlace, facts_before
from allocation.views.figures import LINE_ETA
from allocation.views.past import replayed, rules_of

MAX_REPLAYED = 10_000  # messages of a product
MAX_CONSIDERED = 100
MAX_HISTORY = 100
MAX_HOLDERS = 5
NOW: Final = "now"
BY_HAND: Final = frozenset({LinePinned.__name__, HoldConfirmed.__name__})
PLACED: Final = (Allocated.__name__, Backordered.__name__, Held.__name__)


class Cause(msgspec.Struct):
    """A message that led to another."""

    id: str
    type: str


class Happening(msgspec.Struct):
    """An entry of a line's history. ``cause`` is null for a message from outside; ``first_cause`` is that message."""

    id: str
    type: str
    recorded_at: datetime
    actor: str
    cause: Cause | None
    first_cause: Cause
    body: msgspec.Raw


class Holder(msgspec.Struct):
    """A line or hold that has stock of a batch."""

    orderid: str
    qty: int
    state: str


class Considered(msgspec.Struct, omit_defaults=True):
    """A considered batch; with ``location`` and ``expires_on`` if it has them, since some rules sort batches by these.

    ``quarantine`` is the reason why it must not be sold. With ``eta_unknown`` it is due on no known day.
    ``obstacle`` is the reason why it was not chosen, and ``held_by`` has the first few lines that had its stock.
    """

    batchref: str
    eta: date | None
    available_quantity: int
    obstacle: str | None
    chosen: bool
    held_by: list[Holder]
    location: str | None = None
    expires_on: date | None = None
    quarantine: str | None = None
    expired: bool = False
    overdue: bool = False
    eta_unknown: bool = False

    @property
    def marks(self) -> list[str]:
        """The words for stock that is not as it should be."""
        return marks(
            quarantined=self.quarantine is not None,
            expired=self.expired,
            overdue=self.overdue,
            eta_unknown=self.eta_unknown,
        )


class Explanation(msgspec.Struct):
    """Why a line is on its batch or waits.

    ``as_of`` is the id of the message that placed it last, and the batches are as they were just before; or ``now``.
    ``rule`` is the strategy that sorted them; null if the line was placed in another way, by hand or by confirming a
    hold: ``decision`` has that. ``history`` has the latest entries, oldest first.
    """

    orderid: str
    sku: str
    qty: int
    state: str
    batchref: str | None
    promised: date | None
    need_by: date | None
    late_days: int
    as_of: str
    rule: str | None
    rules: dict[str, Any]
    considered: list[Considered]
    more_considered: bool
    decision: Happening | None
    history: list[Happening]
    more_history: bool
    late: bool
    eta_unknown: bool


def explain(
    connection: Connection,
    orderid: str,
    sku: str,
    today: Today,
    *,
    usual_rules: Rules = USUAL,
    calendar: Calendar = UTC_DAYS,
) -> Explanation:
    """Why the line is on its batch or waits; raises `UnknownLine`."""
    found = connection.execute(_LINE, {"orderid": orderid, "sku": sku}).one_or_none()
    if found is None:
        raise UnknownLine(orderid, sku)
    line = OrderLine(orderid, sku, found.qty, need_by=found.need_by, priority=found.priority)
    about = {"orderid": orderid, "sku": sku}
    placed = connection.execute(_PLACED, about).one_or_none()
    decision = None if placed is None else _happening(placed)
    state = None if placed is None else _before(connection, sku, placed, usual_rules, calendar)
    as_of = NOW if state is None or decision is None else decision.id
    if state is None:
        state = _as_it_is(connection, line, found, usual_rules, today)
    chosen = _Chosen.of(placed, found)
    by_rule = decision is None or decision.cause is None or decision.cause.type not in BY_HAND
    asked = line if placed is None else _as_placed(line, placed)
    considered = list(_considered(state, asked, chosen, all_of_them=not by_rule))
    happened = [_happening(row) for row in connection.execute(_HISTORY, {**about, "most": MAX_HISTORY + 1})]
    state_now = lateness(found.batchref, found.closed, found.need_by, found.eta, today)
    return Explanation(
        orderid,
        sku,
        found.qty,
        state_of(found.batchref, found.closed, found.priority),
        found.batchref,
        state_now.due,
        found.need_by,
        state_now.late_days,
        as_of,
        state.rules.strategy if by_rule else None,
        unusual(state.rules),
        [each for place, each in enumerate(considered) if place < MAX_CONSIDERED or each.chosen],
        len(considered) > MAX_CONSIDERED,
        decision,
        happened[:MAX_HISTORY][::-1],
        len(happened) > MAX_HISTORY,
        state_now.late,
        state_now.eta_unknown,
    )


class _State(NamedTuple):
    """A product at a moment: its rules, its batches to choose from, and the first few lines with stock of each."""

    rules: Rules
    choice: Choice[Source]
    holders: Mapping[str, Sequence[Holder]]
    today: Today


def _state(batches: Iterable[Stock], rules: Rules, today: Today, holders: Mapping[str, Sequence[Holder]]) -> _State:
    in_order = sorted(sources_of(batches), key=rules.order)
    return _State(rules, Choice(in_order, rules, today, Room(in_order)), holders, today)


def _before(connection: Connection, sku: str, placed: Any, usual_rules: Rules, calendar: Calendar) -> _State | None:
    """The product just before the line was placed; None if too many messages lead there, or some are deleted."""
    begins = opening(connection, sku)
    if placed.position <= begins.position:
        return None
    facts = facts_before(connection, sku, LedgerPlace(placed.position, placed.place), MAX_REPLAYED + 1)
    if len(facts) > MAX_REPLAYED:
        return None
    past = replayed(connection, sku, facts, begins)
    holders: defaultdict[str, list[Holder]] = defaultdict(list)
    for orderid, (line, batchref, closed) in past.lines.items():
        if batchref is not None and len(holders[batchref]) < MAX_HOLDERS:
            holders[batchref].append(Holder(orderid, line.qty, state_of(batchref, closed, line.priority)))
    today = calendar.at(as_moment(placed.recorded_at))
    state = _state(past.books.batches.values(), rules_of(past, usual_rules), today, holders)
    if state.rules.ages_after:
        waiting = [line for line, _, closed in past.lines_on(None) if closed is None]

        def oldest(fits: Sequence[Fit]) -> OrderLine | None:
            return next((line for line in waiting if stays_whole(line) and fits_into(line, fits)), None)

        state.choice.keep(oldest, past.books.version_number)
    return state


def _as_it_is(connection: Connection, line: OrderLine, found: Any, usual_rules: Rules, today: Today) -> _State:
    """The product now, as if the line had no stock. Only the first batches without room are read."""
    rows = connection.execute(_BATCHES, {"sku": line.sku, "own": found.batchref, "most": MAX_CONSIDERED}).all()
    stored = connection.scalar(text("SELECT rules FROM products WHERE sku = :sku"), {"sku": line.sku})
    rules = usual_rules if stored is None else msgspec.json.decode(stored, type=Rules)
    batches = [
        Stock(
            row.ref,
            line.sku,
            row.purchased_quantity,
            row.eta,
            expires_on=row.expires_on,
            location=row.location,
            quarantine=row.quarantine,
            allocated_quantity=row.allocated_quantity - (line.qty if row.ref == found.batchref else 0),
            arrived=_arrived(row, found, line),
            position=row.position,
        )
        for row in rows
    ]
    holders = {row.ref: _holders(connection, row.ref) for row in rows}
    return _state(batches, rules, today, holders)


def _arrived(row: Any, found: Any, line: OrderLine) -> tuple[int, int] | None:
    if row.arrived_quantity is None:
        return None
    is_own = row.ref == found.batchref and (found.arrived or found.closed is not None)
    return row.arrived_quantity, row.arrived_allocated - (line.qty if is_own else 0)


def _holders(connection: Connection, ref: str) -> list[Holder]:
    rows = connection.execute(_HOLDERS, {"ref": ref, "most": MAX_HOLDERS})
    return [Holder(orderid, qty, state_of(ref, closed, priority)) for orderid, qty, closed, priority in rows]


def _considered(state: _State, line: OrderLine, chosen: _Chosen, *, all_of_them: bool) -> Iterable[Considered]:
    """The batches in order, up to the chosen one; all of them if another could still have been chosen."""
    for candidate in state.choice.candidates(line):
        is_chosen = chosen.is_source(candidate.batch)
        yield _looked_at(state, candidate, is_chosen=is_chosen)
        if is_chosen and not candidate.obstacle and not all_of_them and state.rules.strategy != JUST_IN_TIME:
            return


def _looked_at(state: _State, candidate: Candidate[Source], *, is_chosen: bool) -> Considered:
    batch, obstacle = candidate
    holders = state.holders.get(batch.reference, ()) if obstacle in {NO_ROOM, SAFETY_STOCK} else ()
    is_unknown = batch.eta == NO_DAY
    return Considered(
        batch.reference,
        None if is_unknown else batch.eta,
        batch.available_quantity if may_be_sold(batch, state.today) else 0,
        obstacle or None,
        is_chosen,
        list(holders),
        batch.location,
        batch.expires_on,
        batch.quarantine,
        is_expired(batch.expires_on, state.today),
        is_overdue(batch.eta, state.today),
        is_unknown,
    )


class _Chosen(NamedTuple):
    """The batch of a line, None: it waits; ``arrived``: of a batch in parts, the part that has arrived."""

    batchref: str | None
    arrived: bool

    @classmethod
    def of(cls, placed: Any, found: Any) -> _Chosen:
        """That of the fact that placed the line, or of the line as it is stored."""
        if placed is None:
            return cls(found.batchref, bool(found.arrived))
        body: Mapping[str, Any] = msgspec.json.decode(placed.body)
        return cls(body.get("batchref"), body.get("arrived", False))

    def is_source(self, source: Source) -> bool:
        in_parts = source.is_part or source.arrived is not None
        return source.reference == self.batchref and (not in_parts or source.is_part == self.arrived)


def _as_placed(line: OrderLine, placed: Any) -> OrderLine:
    """The line with the quantity it had then."""
    qty: int = msgspec.json.decode(placed.body)["qty"]
    return OrderLine(line.orderid, line.sku, qty, need_by=line.need_by, priority=line.priority)


def _happening(row: Any) -> Happening:
    correlation_id, step = row.correlation_id, row.step
    cause = None
    if row.causation_step is not None:
        cause = Cause(message_id(correlation_id, row.causation_step), row.cause_type)
    first = Cause(correlation_id, row.first_type)
    moment = as_moment(row.recorded_at)
    body = msgspec.Raw(row.body.encode())
    return Happening(message_id(correlation_id, step), row.type, moment, row.actor, cause, first, body)


_LINE = text(f"""
    SELECT qty, batchref, closed, priority, need_by, {LINE_ETA} AS eta, arrived
    FROM order_lines AS lines LEFT JOIN batches AS place ON place.ref = lines.batchref
    WHERE orderid = :orderid AND lines.sku = :sku
""").columns(need_by=Date, eta=Date)  # noqa: S608 - a constant
_HAPPENED = """
    SELECT position, place, correlation_id, step, causation_step, type, actor, recorded_at, body, (
        SELECT type FROM ledger WHERE correlation_id = told.correlation_id AND step = told.causation_step
    ) AS cause_type, (
        SELECT type FROM ledger WHERE correlation_id = told.correlation_id AND step = 0
    ) AS first_type
    FROM messages AS told WHERE orderid = :orderid AND sku = :sku
"""
_LATEST = "ORDER BY position DESC, place DESC LIMIT"
_HISTORY = text(f"{_HAPPENED} {_LATEST} :most")
_PLACED = text(f"{_HAPPENED} AND type IN :types {_LATEST} 1").bindparams(
    bindparam("types", list(PLACED), expanding=True)
)
_BATCHES = text("""
    SELECT ref, eta, purchased_quantity, allocated_quantity, arrived_quantity, arrived_allocated, position, location,
        expires_on, quarantine
    FROM batches WHERE sku = :sku
    ORDER BY (ref = :own) DESC, has_room DESC, position LIMIT :most
""").columns(eta=Date, expires_on=Date)
_HOLDERS = text("""
    SELECT orderid, qty, closed, priority FROM order_lines
    WHERE batchref = :ref ORDER BY batchref, position LIMIT :most
""")

"""The ledger, newest messages first; a message with all its consequences; and counts of causes and consequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, text

from allocation import views
from allocation.service_layer.handlers import HANDLERS
from allocation.service_layer.messages import message_id, split_id
from allocation.service_layer.writing.store import as_moment

PAGE = 50
HISTORY = 20  # rows of the history on a page with other content
NEAR = 1_000  # rows of the ledger examined first; they are usually enough
WINDOW = 20_000  # rows of the ledger examined for one page, with any filter
MOST_TOLD = 500  # messages of one cascade
FACTS: Sequence[str] = [kind.__name__ for kind, handlers in HANDLERS.items() if not handlers]
HEAD = 24  # characters of a row's facts: enough to recognise the first one, usually without names given by users

Pair = tuple[str | None, str]  # the types of a cause and its consequence; the cause of a message from outside is None


class Told(NamedTuple):
    """A message; ``fields`` are those of its event. ``cause`` is the step of its cause in the same correlation."""

    position: int
    correlation_id: str
    step: int
    cause: int | None
    type: str
    sku: str
    fields: Mapping[str, Any]
    actor: str
    recorded_at: datetime

    @property
    def id(self) -> str:
        return message_id(self.correlation_id, self.step)


class LedgerPage(NamedTuple):
    """Messages, newest first. ``next_before`` is the position before which the next page begins, None at the end.

    ``looked_through``: there may be more messages, but the page ends early after examining `WINDOW` rows.
    """

    messages: Sequence[Told]
    next_before: int | None
    looked_through: bool = False


class EffectOf(NamedTuple):
    """An effect that a message still has to have, or that was given up or kept after it was done."""

    step: int
    effect: str
    number: int
    state: str
    attempts: int
    error: str | None


class Cascade(NamedTuple):
    """A message from outside and all it set off, in the order handled; ``more``: some were left out."""

    messages: Sequence[Told]
    effects: Sequence[EffectOf]
    more: bool


def latest(
    connection: Connection,
    *,
    type_: str = "",
    sku: str = "",
    orderid: str = "",
    before: int = views.MAX_POSITION,
    limit: int = PAGE,
) -> LedgerPage:
    """The newest messages with these values. Those of one row of the ledger are not parted."""
    asked = {"sku": sku, "orderid": orderid}
    values: dict[str, Any] = {name: value for name, value in asked.items() if value}
    conditions = "".join(f" AND {name} = :{name}" for name in values)
    values |= {"before": before, "limit": limit + 1, "type": type_, "kept": f"%{_mark(type_)}%"}
    looked_at = (
        f"SELECT {_COLUMNS} FROM ledger WHERE position < :before{conditions} ORDER BY position DESC LIMIT :window"
    )
    of_type = "WHERE type = :type OR facts LIKE :kept" if type_ else ""
    statement = f"SELECT {_COLUMNS} FROM ({looked_at}) AS looked {of_type} ORDER BY position DESC LIMIT :limit"
    rows: Sequence[Any] = ()
    for window in (NEAR, WINDOW) if type_ else (limit + 1,):
        values["window"] = window
        rows = connection.execute(text(statement), values).all()
        if len(rows) > limit:
            break
    messages = [told for row in rows[:limit] for told in _unfolded(row) if not type_ or told.type == type_]
    if len(rows) > limit:
        return LedgerPage(messages, rows[limit - 1].position)
    if not type_:
        return LedgerPage(messages, None)
    count, last = connection.execute(text(f"SELECT count(*), min(position) FROM ({looked_at}) AS looked"), values).one()
    cut = count >= WINDOW
    return LedgerPage(messages, last if cut else None, looked_through=cut)


def cascade(connection: Connection, id_: str) -> Cascade:
    """The whole cascade of this message; raises `UnknownMessage`."""
    views.event(connection, id_)
    correlation_id, _ = split_id(id_)
    about = {"correlation_id": correlation_id, "limit": MOST_TOLD + 1}
    found = connection.execute(text(_CASCADE), about).all()
    effects = connection.execute(text(_EFFECTS), about).all()
    messages = [
        Told(row[0], row[1], row[2], row[3], row[4], row[5], msgspec.json.decode(row[6]), row[7], as_moment(row[8]))
        for row in found[:MOST_TOLD]
    ]
    return Cascade(messages, [EffectOf._make(row) for row in effects[:MOST_TOLD]], len(found) > MOST_TOLD)


def last_position(connection: Connection) -> int:
    """Of the whole ledger; 0 while it is empty."""
    position: int = connection.execute(text("SELECT coalesce(max(position), 0) FROM ledger")).scalar_one()
    return position


def changed(
    connection: Connection, since: int, skus: Collection[str], orderids: Collection[str]
) -> tuple[Collection[str], Collection[str]]:
    """Which of these products and orders have messages after that position."""
    return _changed(connection, "sku", since, skus), _changed(connection, "orderid", since, orderids)


def first_position_since(connection: Connection, since: datetime) -> int:
    """Of the first row recorded then or later; found by halving, as rows are written about in the order of time."""
    low, high = 1, last_position(connection) + 1
    while low < high:
        middle = (low + high) // 2
        recorded_at = connection.execute(text(_RECORDED_FROM), {"position": middle}).scalar_one()
        low, high = (low, middle) if as_moment(recorded_at) >= since else (middle + 1, high)
    return low


def tally(connection: Connection, after: int, until: int) -> Counter[Pair]:
    """The counts of causes and consequences in the rows between two positions."""
    counts: Counter[Pair] = Counter()
    span = {"after": after, "until": until}
    for type_, cause, only, rows in connection.execute(text(_TALLY), span):
        counts[cause, type_] += rows
        if only is not None:
            counts[type_, fact_of(only)] += rows
    for type_, *kept in connection.execute(text(_TALLY_SEVERAL), span):
        for fact, number in zip(FACTS, kept, strict=True):
            counts[type_, fact] += number
    return +counts


def _mark(type_: str) -> str:
    """How a fact of this type begins where it is kept in a row: nothing else can, for JSON escapes quotes."""
    return f',"{type_}",{{'


def fact_of(head: str) -> str:
    """The type of a row's only fact; the head may have only its beginning."""
    _, name, *more = head.split('"')
    return name if more else next((type_ for type_ in FACTS if type_.startswith(name)), name)


def _occurrences(type_: str) -> str:
    mark = _mark(type_)
    return f"CAST(coalesce(sum((length(facts) - length(replace(facts, '{mark}', ''))) / {len(mark)}), 0) AS BIGINT)"


_COLUMNS = "position, correlation_id, step, causation_step, type, sku, orderid, body, facts, actor, recorded_at"
_CASCADE = (
    "SELECT position, correlation_id, step, causation_step, type, sku, body, actor, recorded_at FROM messages"
    " WHERE correlation_id = :correlation_id ORDER BY kept_step, place LIMIT :limit"
)
_EFFECTS = (
    "SELECT step, effect, number, state, attempts, error FROM deliveries WHERE correlation_id = :correlation_id"
    " ORDER BY step, number LIMIT :limit"
)
_RECORDED_FROM = "SELECT recorded_at FROM ledger WHERE position >= :position ORDER BY position LIMIT 1"
# Most rows have at most one fact, which the head shows; counting rows with several takes ten times as long.
_SEVERAL = "facts LIKE '%],[%'"
_TALLY = f"""
    SELECT type, (
        SELECT cause.type FROM ledger AS cause
        WHERE cause.correlation_id = ledger.correlation_id AND cause.step = ledger.causation_step
    ) AS cause, CASE WHEN NOT {_SEVERAL} THEN substr(facts, 1, {HEAD}) END, count(*)
    FROM ledger WHERE position > :after AND position <= :until GROUP BY 1, 2, 3
"""
_TALLY_SEVERAL = f"""
    SELECT type, {", ".join(map(_occurrences, FACTS))}
    FROM ledger WHERE position > :after AND position <= :until AND {_SEVERAL} GROUP BY 1
"""


def _changed(connection: Connection, name: str, since: int, values: Collection[str]) -> Collection[str]:
    if not values:
        return ()
    statement = text(f"SELECT DISTINCT {name} FROM ledger WHERE {name} IN :values AND position > :since")
    asked = {"values": list(values), "since": since}
    return set(connection.scalars(statement.bindparams(bindparam("values", expanding=True)), asked))


def _unfolded(row: Any) -> Iterator[Told]:
    """The messages kept in a row, the last one first."""
    told = [(row.step, row.causation_step, row.type, msgspec.json.decode(row.body))]
    told += [(step, row.step, type_, fields) for step, type_, fields in msgspec.json.decode(row.facts or "[]")]
    for step, cause, type_, fields in reversed(told):
        yield Told(
            row.position, row.correlation_id, step, cause, type_, row.sku, fields, row.actor, as_moment(row.recorded_at)
        )

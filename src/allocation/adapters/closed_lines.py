"""Deletes closed lines from the database and adds their totals to the openings, in one transaction.

Their products are locked as writers lock them, so that a line cannot change between the last check and its deletion. A
group that was read before and changes such a line cannot be written, and is handled again; other groups do not notice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import URL

from allocation.adapters.connection import OwnConnection, Statements, numbers
from allocation.adapters.database import is_sqlite
from allocation.domain.lines import part_id, part_of
from allocation.service_layer.proving.retention import AgeKey, Cascade, ClosedLine, LedgerRow, Removal, Tidied, plan
from allocation.service_layer.writing.store import as_moment

OLDEST = """
    SELECT closed_at, orderid, sku FROM order_lines
    WHERE closed_at IS NOT NULL AND closed_at < :until AND (closed_at, orderid, sku) > (:closed_at, :orderid, :sku)
    ORDER BY closed_at, orderid, sku LIMIT :limit
"""
LOCK = "SELECT sku FROM products WHERE sku IN {texts} ORDER BY sku {for_update}"
LINES = """
    SELECT line.orderid, line.sku, line.qty, line.batchref, line.closed, coalesce(line.part, 0), line.rest
    FROM {rows} AS wanted CROSS JOIN order_lines AS line
    WHERE line.orderid = wanted.fields ->> 0 AND line.sku = wanted.fields ->> 1 AND line.closed IS NOT NULL
"""
THERE = """
    SELECT line.orderid, line.sku FROM {rows} AS wanted CROSS JOIN order_lines AS line
    WHERE line.orderid = wanted.fields ->> 0 AND line.sku = wanted.fields ->> 1
"""
# Found by the order alone: there is an index of the product too, and a popular one has millions of rows.
LEDGER = """
    SELECT position, correlation_id, step, type, sku, orderid, body, facts, recorded_at
    FROM {texts} AS wanted CROSS JOIN ledger WHERE ledger.orderid = wanted.value ORDER BY position
"""
NEWEST = "SELECT max(position) FROM ledger"
DELIVERIES = "SELECT correlation_id, step FROM deliveries WHERE correlation_id IN {texts}"
SHORTENED = "SELECT correlation_id, remaining, bare FROM shortened WHERE correlation_id IN {texts}"
WHOLE = "SELECT correlation_id, max(step) + 1 FROM messages WHERE correlation_id IN {texts} GROUP BY correlation_id"

REMOVE_LINES = """
    DELETE FROM order_lines WHERE (orderid, sku) IN (SELECT gone.fields ->> 0, gone.fields ->> 1 FROM {rows} AS gone)
"""
REMOVE_MESSAGES = "DELETE FROM ledger WHERE position IN {numbers}"
BARE = "UPDATE ledger SET orderid = NULL, facts = NULL WHERE position IN {numbers}"
REMOVE_BARE = "DELETE FROM ledger WHERE correlation_id IN {texts} AND step = 0"
OPEN_PRODUCTS = """
    INSERT INTO openings (sku, version_number, position, recorded_at)
    SELECT new.fields ->> 0, CAST(new.fields ->> 1 AS bigint), CAST(new.fields ->> 2 AS bigint),
        CAST(new.fields ->> 3 AS {moment})
    FROM {rows} AS new WHERE true
    ON CONFLICT (sku) DO UPDATE SET
        version_number = openings.version_number + excluded.version_number,
        position = CASE WHEN excluded.position > openings.position
            THEN excluded.position ELSE openings.position END,
        recorded_at = CASE WHEN excluded.recorded_at > openings.recorded_at
            THEN excluded.recorded_at ELSE openings.recorded_at END
"""
OPEN_BATCHES = """
    INSERT INTO batch_openings (sku, batchref, shipped_quantity)
    SELECT new.fields ->> 0, new.fields ->> 1, CAST(new.fields ->> 2 AS bigint) FROM {rows} AS new WHERE true
    ON CONFLICT (sku, batchref) DO UPDATE
    SET shipped_quantity = batch_openings.shipped_quantity + excluded.shipped_quantity
"""
SHORTEN = """
    INSERT INTO shortened (correlation_id, remaining, bare)
    SELECT new.fields ->> 0, CAST(new.fields ->> 1 AS bigint), CAST(new.fields ->> 2 AS boolean)
    FROM {rows} AS new WHERE true
    ON CONFLICT (correlation_id) DO UPDATE SET remaining = excluded.remaining, bare = excluded.bare
"""
FORGET = "DELETE FROM shortened WHERE correlation_id IN {texts}"


class SqlClosedLines:
    """The closed lines of one database."""

    def __init__(self, url: URL) -> None:
        self._connection = OwnConnection(url)
        self._is_sqlite = is_sqlite(url)

    async def remove(
        self, until: datetime, after: AgeKey, limit: int, *, dry_run: bool
    ) -> tuple[Tidied, AgeKey | None]:
        def remove(statements: Statements) -> tuple[Tidied, AgeKey | None]:
            oldest = self._oldest(statements, until, after, limit)
            tidied, removal = _planned(statements, oldest, until) if oldest else (Tidied(), Removal())
            if removal.lines and not dry_run:
                _carry_out(statements, removal)
                tidied.messages = removal.messages
            return tidied, oldest[-1] if len(oldest) == limit else None

        return await self._connection.run_in_transaction(remove)

    async def close(self) -> None:
        await self._connection.close()

    def _oldest(self, statements: Statements, until: datetime, after: AgeKey, limit: int) -> Sequence[AgeKey]:
        values: dict[str, Any] = after._asdict() | {"until": until}
        if self._is_sqlite:  # which keeps moments as text
            values |= {name: values[name].isoformat() for name in ("until", "closed_at")}
        rows = statements.rows(OLDEST, **values, limit=limit)
        return [AgeKey(as_moment(closed_at), orderid, sku) for closed_at, orderid, sku in rows]


def _planned(statements: Statements, places: Sequence[AgeKey], until: datetime) -> tuple[Tidied, Removal]:
    """Lock the products of these lines, and plan the deletion."""
    locked = {sku for (sku,) in statements.rows(LOCK, texts=_listed({place.sku for place in places}))}
    wanted = [(place.orderid, place.sku) for place in places if place.sku in locked]
    lines = _lines(statements, wanted)
    rows = _rows_about(statements, lines)
    newest = statements.rows(NEWEST)[0][0]  # is kept: SQLite would reuse its position
    quiet = {
        line: rows[line.orderid, line.sku]
        for line in lines
        if all(row.recorded_at < until and row.position < newest for row in rows[line.orderid, line.sku])
    }
    ids = {row.correlation_id for about in quiet.values() for row in about}
    owed = set(statements.rows(DELIVERIES, texts=_listed(ids)))
    free = {
        line: about
        for line, about in quiet.items()
        if owed.isdisjoint((row.correlation_id, step) for row in about for step, _, _ in row.told())
    }
    removal = plan(free, lambda ids: _cascades(statements, ids))
    gone = len(removal.lines)
    return Tidied(gone, 0, len(quiet) - len(free), len(free) - gone), removal


def _lines(statements: Statements, wanted: Sequence[tuple[str, str]]) -> Sequence[ClosedLine]:
    """The closed lines. A split line is kept as long as its next part, whose messages have their cause in it."""
    following: dict[ClosedLine, tuple[str, str] | None] = {}
    for *values, part, rest in statements.rows(LINES, rows=_listed(wanted)):
        line = ClosedLine._make(values)
        following[line] = (part_id(part_of(line.orderid, part), part + 1), line.sku) if rest else None
    there = set(statements.rows(THERE, rows=_listed(filter(None, following.values()))))
    return [line for line, part in following.items() if part not in there]


def _rows_about(statements: Statements, lines: Sequence[ClosedLine]) -> Mapping[tuple[str, str], Sequence[LedgerRow]]:
    rows: defaultdict[tuple[str, str], list[LedgerRow]] = defaultdict(list)
    for values in statements.rows(LEDGER, texts=_listed({line.orderid for line in lines})):
        row = LedgerRow._make((*values[:-1], as_moment(values[-1])))
        rows[row.orderid, row.sku].append(row)
    return rows


def _cascades(statements: Statements, ids: Sequence[str]) -> Mapping[str, Cascade]:
    shortened = statements.rows(SHORTENED, texts=_listed(ids))
    known = {id_: Cascade(id_, remaining, bool(bare)) for id_, remaining, bare in shortened}
    whole = statements.rows(WHOLE, texts=_listed(id_ for id_ in ids if id_ not in known))
    return known | {id_: Cascade(id_, messages) for id_, messages in whole}


def _carry_out(statements: Statements, removal: Removal) -> None:
    openings = removal.openings.items()
    products = [(sku, each.version_number, each.position, _told(each.recorded_at)) for sku, each in openings]
    batches = [(sku, ref, qty) for sku, each in openings for ref, qty in each.shipped.items()]
    statements.do(REMOVE_LINES, rows=_listed((line.orderid, line.sku) for line in removal.lines))
    statements.do(REMOVE_MESSAGES, numbers=numbers(removal.gone))
    statements.do(BARE, numbers=numbers(removal.bared))
    statements.do(REMOVE_BARE, texts=_listed(removal.unneeded))
    statements.do(OPEN_PRODUCTS, rows=_listed(products))
    statements.do(OPEN_BATCHES, rows=_listed(batches))
    statements.do(SHORTEN, rows=_listed(removal.shortened))
    statements.do(FORGET, texts=_listed(removal.ended))


def _listed(values: Iterable[Any]) -> str:
    return json.dumps(list(values))


def _told(moment: datetime | None) -> str:
    assert moment is not None  # noqa: S101 - every opening has rows
    return moment.isoformat()

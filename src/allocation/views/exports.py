"""Whole tables, page by page along a unique key: all rows once, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

from allocation.domain.lines import NO_DAY, Today, own_priority, part_of, state_of
from allocation.service_layer.messages import message_id
from allocation.views.figures import COLUMNS, IS_EXPIRED, LINE_ETA
from allocation.views.lines import lateness
from allocation.views.paging import days_of, typed

PAGE_ROWS = 5_000

Row = dict[str, Any]


class Table(NamedTuple):
    """The columns of an export, and the query for its rows, read along a unique, ascending ``key``.

    The key's values are where to begin: below those of every row.
    """

    columns: Sequence[str]
    select: str
    key: Mapping[str, str | int]
    where: str = "TRUE"


_LINES = f"""
    SELECT orderid, sku, qty, batchref, position, closed, priority, need_by, expires_at, part, eta FROM (
        SELECT lines.*, {LINE_ETA} AS eta FROM order_lines AS lines
        LEFT JOIN batches AS place ON place.sku = lines.sku AND place.ref = lines.batchref
    ) AS placed
"""  # noqa: S608 - a constant
TABLES: Mapping[str, Table] = {
    "batches": Table(
        (
            *("ref", "sku", "eta", "purchased_quantity", "allocated_quantity", "available_quantity"),
            *("shipped_quantity", "location", "expires_on", "quarantine"),
            *("on_hand_quantity", "incoming_quantity", "blocked_quantity", "overdue_quantity"),
            *("expired", "eta_unknown", "delivery", "inspect_quantity"),
        ),
        f"SELECT ref, sku, eta, {COLUMNS}, location, expires_on, quarantine, {IS_EXPIRED} AS expired,"  # noqa: S608
        " delivery, inspect_quantity FROM batches",
        {"sku": "", "ref": ""},
    ),
    "allocations": Table(
        (
            *("orderid", "sku", "qty", "batchref", "state", "need_by", "priority", "expires_at", "part_of"),
            *("late", "late_days"),
        ),
        _LINES,
        {"orderid": "", "sku": ""},
        "batchref IS NOT NULL",
    ),
    "backorders": Table(
        ("orderid", "sku", "qty", "position", "need_by", "priority", "part_of", "late", "late_days"),
        _LINES,
        {"sku": "", "position": 0},
        "batchref IS NULL AND closed IS NULL",
    ),
    "ledger": Table(
        (
            *("position", "id", "correlation_id", "causation_id"),
            *("type", "sku", "orderid", "actor", "recorded_at", "body", "result"),
        ),
        "SELECT * FROM messages",
        {"position": 0, "place": 0},
        "position >= :position",
    ),
}


def pages(connection: Connection, table: Table, today: Today) -> Iterator[list[Row]]:
    """The rows in the order of their key; each row has the table's columns. Figures are those of today."""
    names = ", ".join(table.key)
    values = ", ".join(f":{name}" for name in table.key)
    statement = typed(
        f"{table.select} WHERE {table.where} AND ({names}) > ({values}) ORDER BY {names} LIMIT {PAGE_ROWS}"
    )
    after = dict(table.key)
    while page := [dict(row) for row in connection.execute(statement, {**after, **days_of(today)}).mappings()]:
        after = {name: page[-1][name] for name in table.key}
        yield [_told(row, table.columns, today) for row in page]


def _told(row: Row, columns: Sequence[str], today: Today) -> Row:
    """The row in its public form: ids instead of steps, times in UTC, no day where nobody knows it."""
    if "step" in row:
        correlation_id, cause = row["correlation_id"], row["causation_step"]
        row["id"] = message_id(correlation_id, row["step"])
        row["causation_id"] = None if cause is None else message_id(correlation_id, cause)
        row["body"], row["result"] = _json(row["body"]), _json(row["result"])
    if "closed" in row:
        row["state"] = state_of(row["batchref"], row["closed"], row["priority"])
        row["priority"] = own_priority(row["priority"])
        row["part_of"] = part_of(row["orderid"], row["part"]) if (row["part"] or 0) > 1 else None
        found = lateness(row["batchref"], row["closed"], row["need_by"], row["eta"], today)
        row["late"], row["late_days"] = found.late, found.late_days
    if "expired" in row:
        row["expired"], row["eta_unknown"] = bool(row["expired"]), row["eta"] == NO_DAY
        row["eta"] = None if row["eta_unknown"] else row["eta"]
    return {name: _iso(row[name]) if isinstance(row[name], date) else row[name] for name in columns}


def _json(value: str | None) -> msgspec.Raw | None:
    return None if value is None else msgspec.Raw(value.encode())


def _iso(value: date) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value.isoformat()

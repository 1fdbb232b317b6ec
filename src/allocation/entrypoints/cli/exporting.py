"""``allocation export``: whole tables as CSV or JSON lines, as they are at one moment, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from allocation.config import Settings
from allocation.domain.lines import own_priority, part_of, state_of
from allocation.entrypoints.cli.exits import DONE, log_to_stderr
from allocation.entrypoints.cli.kinds import Format, What
from allocation.entrypoints.cli.reading import read
from allocation.service_layer.messages import message_id

PAGE_ROWS = 5_000


class Query(NamedTuple):
    """What is selected of a table and told as ``columns``, read page by page along a unique, ascending ``key``.

    The key's values are where to begin: below those of every row.
    """

    columns: Sequence[str]
    select: str
    key: Mapping[str, str | int]
    where: str = "TRUE"


QUERIES: Mapping[What, Query] = {
    What.BATCHES: Query(
        (
            *("ref", "sku", "eta", "purchased_quantity", "allocated_quantity", "available_quantity"),
            *("shipped_quantity", "location", "expires_on", "quarantine"),
        ),
        "SELECT *, purchased_quantity - allocated_quantity AS available_quantity FROM batches",
        {"sku": "", "ref": ""},
    ),
    What.ALLOCATIONS: Query(
        ("orderid", "sku", "qty", "batchref", "state", "need_by", "priority", "expires_at", "part_of"),
        "SELECT * FROM order_lines",
        {"orderid": "", "sku": ""},
        "batchref IS NOT NULL",
    ),
    What.BACKORDERS: Query(
        ("orderid", "sku", "qty", "position", "need_by", "priority", "part_of"),
        "SELECT * FROM order_lines",
        {"sku": "", "position": 0},
        "batchref IS NULL AND closed IS NULL",
    ),
    What.LEDGER: Query(
        (
            *("position", "id", "correlation_id", "causation_id"),
            *("type", "sku", "orderid", "actor", "recorded_at", "body", "result"),
        ),
        "SELECT * FROM messages",
        {"position": 0, "place": 0},
        "position >= :position",
    ),
}

Row = dict[str, Any]
Encode = Callable[[Sequence[Row]], bytes]


class OutputFailed(Exception):
    """The rows could be read, but not written to where they belong."""


def export(settings: Settings, what: What, format_: Format, output: Path | None) -> int:
    """Write all rows to the file, or to standard output; return the exit code."""
    log_to_stderr()
    try:
        with _opened(output) as file:
            asyncio.run(read(settings, write_all, QUERIES[what], _encoder(format_, QUERIES[what].columns), file))
    except OutputFailed as failed:
        if isinstance(failed.__cause__, BrokenPipeError):  # whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        raise failed.__cause__ or failed from None
    return DONE


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """A file gets its name when it is complete, so that half an export is never taken for a whole one."""
    if output is None:
        yield sys.stdout.buffer
        return
    unfinished = output.with_name(f"{output.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


def write_all(connection: Connection, query: Query, encode: Encode, file: BinaryIO) -> None:
    """Write the rows page by page; the reader's connection sees all of them as of the same moment."""
    _write(file, encode([]))
    for page in _pages(connection, query):
        _write(file, encode(page))


def _write(file: BinaryIO, rows: bytes) -> None:
    try:
        file.write(rows)
        file.flush()
    except OSError as error:
        raise OutputFailed from error


def _pages(connection: Connection, query: Query) -> Iterator[list[Row]]:
    names = ", ".join(query.key)
    values = ", ".join(f":{name}" for name in query.key)
    statement = text(
        f"{query.select} WHERE {query.where} AND ({names}) > ({values}) ORDER BY {names} LIMIT {PAGE_ROWS}"
    )
    after = dict(query.key)
    while page := [dict(row) for row in connection.execute(statement, after).mappings()]:
        after = {name: page[-1][name] for name in query.key}
        yield [_told(row, query.columns) for row in page]


def _told(row: Row, columns: Sequence[str]) -> Row:
    """The row as it is told outside: ids instead of steps, times in UTC."""
    if "step" in row:
        correlation_id, cause = row["correlation_id"], row["causation_step"]
        row["id"] = message_id(correlation_id, row["step"])
        row["causation_id"] = None if cause is None else message_id(correlation_id, cause)
        row["body"], row["result"] = _json(row["body"]), _json(row["result"])
    if "closed" in row:
        row["state"] = state_of(row["batchref"], row["closed"], row["priority"])
        row["priority"] = own_priority(row["priority"])
        row["part_of"] = part_of(row["orderid"], row["part"]) if (row["part"] or 0) > 1 else None
    return {name: _iso(row[name]) if isinstance(row[name], date) else row[name] for name in columns}


def _json(value: str | None) -> msgspec.Raw | None:
    return None if value is None else msgspec.Raw(value.encode())


def _iso(value: date) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value.isoformat()


def _encoder(format_: Format, columns: Sequence[str]) -> Encode:
    return msgspec.json.Encoder().encode_lines if format_ is Format.JSONL else CsvEncoder(columns)


class CsvEncoder:
    """Rows as CSV, with a header before the first ones, or alone if there are none."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._begun = False

    def __call__(self, rows: Sequence[Row]) -> bytes:
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        if not self._begun:
            writer.writerow(self._columns)
            self._begun = True
        writer.writerows([_text(value) for value in row.values()] for row in rows)
        return written.getvalue().encode()


def _text(value: Any) -> Any:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else value

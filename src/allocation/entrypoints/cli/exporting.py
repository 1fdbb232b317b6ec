"""``allocation export``: whole tables as CSV or JSON lines, as they are at one moment, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from sqlalchemy import Connection

from allocation.config import Settings
from allocation.domain.lines import Today
from allocation.entrypoints.cli.exits import DONE
from allocation.entrypoints.cli.options import Format, What
from allocation.entrypoints.cli.reading import read, today_of
from allocation.views.exports import TABLES, Row, Table, pages

Encode = Callable[[Sequence[Row]], bytes]


class OutputFailed(Exception):
    """The rows could be read, but not written to where they belong."""


def export(settings: Settings, what: What, format_: Format, output: Path | None) -> int:
    """Write all rows to the file, or to standard output; return the exit code."""
    table = TABLES[what]
    try:
        with _opened(output) as file:
            asyncio.run(read(settings, write_all, table, today_of(settings), _encoder(format_, table.columns), file))
    except OutputFailed as failed:
        if isinstance(failed.__cause__, BrokenPipeError):  # the reader closed the pipe early
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


def write_all(connection: Connection, table: Table, today: Today, encode: Encode, file: BinaryIO) -> None:
    """Write the rows page by page; the reader's connection sees all of them as of the same moment."""
    _write(file, encode([]))
    for page in pages(connection, table, today):
        _write(file, encode(page))


def _write(file: BinaryIO, rows: bytes) -> None:
    try:
        file.write(rows)
        file.flush()
    except OSError as error:
        raise OutputFailed from error


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
    if isinstance(value, bool):
        return "true" if value else "false"
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else value

"""Reads files of events, JSON lines or CSV, a chunk at a time, and gives every line the id of its message.

The id of a line is a hash of all lines up to it. So a file that is imported again, as a whole, in part or with lines
added at its end, has the same ids for the same lines, and lines that are in the ledger already are not applied again.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import BinaryIO, NamedTuple

from allocation.domain.errors import InvalidMessage, Refusal
from allocation.domain.events import BatchCreated, Event
from allocation.domain.fields import cleaned
from allocation.entrypoints.intake.texts import event_from_texts
from allocation.service_layer.messages import Message, check_key, decode_typed, field_rules
from allocation.service_layer.writing.stream import parse_line

ACTOR = "import"
CHUNK_BYTES = 1024 * 1024
CHUNK_ROWS = 5_000
MAX_LINE_BYTES = 1024 * 1024
BOM = b"\xef\xbb\xbf"
ID = "id"  # the member or column of the sender's own message id
ETA, ETA_UNKNOWN = "eta", "eta_unknown"  # the columns of a batch's ETA
ON_HAND, UNKNOWN = "on-hand", "unknown"
EMPTY_ETAS = (ON_HAND, UNKNOWN)


class Line(NamedTuple):
    """A line of a file. ``message`` is None if it holds none."""

    number: int
    text: bytes
    message: Message | None


Item = tuple[Line, Message | Refusal]


class Fingerprint:
    """The ids of the lines of one file. Another label gives the same lines other ids.

    An id begins with the number of the line, so that ids grow along the file: in random order every line would touch
    another page of the ledger's index.
    """

    def __init__(self, label: str) -> None:
        self._hash = blake2b(f"{label}\n".encode(errors="surrogateescape"), digest_size=8)
        self._file = ""  # the beginning of its ids
        self._count = 0

    def add(self, line: bytes) -> str:
        self._hash.update(line)
        self._hash.update(b"\n")
        digest = self._hash.hexdigest()
        if not self._count:
            self._file = f"import-{digest[:8]}"
        self._count += 1
        return f"{self._file}-{self._count:08}-{digest}"


async def read_json_lines(file: BinaryIO, label: str, actor: str = ACTOR) -> AsyncIterator[Iterator[Item]]:
    """The events of a file with one JSON object a line; empty lines are skipped."""
    fingerprint = Fingerprint(label)
    number = 1
    async for lines in _chunks(file):
        yield _json_items(lines, number, fingerprint, actor)
        number += len(lines)


def _json_items(lines: Sequence[bytes], first_number: int, fingerprint: Fingerprint, actor: str) -> Iterator[Item]:
    for number, line in enumerate(lines, first_number):
        text = line.strip()
        if not text:
            continue
        id_ = fingerprint.add(text)
        try:
            message = _message(text, id_, actor)
        except InvalidMessage as refusal:
            yield Line(number, text, None), refusal
        else:
            yield Line(number, text, message), message


def _message(text: bytes, id_: str, actor: str) -> Message:
    if len(text) > MAX_LINE_BYTES:
        raise InvalidMessage(f"The line has more than {MAX_LINE_BYTES} bytes", "Put each event on a line of its own.")
    try:
        return Message(decode_typed(text), id_, actor, keyed=True)
    except InvalidMessage:
        own = parse_line(text, actor, clean=True)  # allows an id and white space, and otherwise says the same again
        return own if own.keyed else own._replace(id=id_, keyed=True)


async def _chunks(file: BinaryIO) -> AsyncIterator[list[bytes]]:
    """The lines of a file, many at a time, read beside the event loop. Of an overlong line only the beginning."""
    rest = b""
    first = True
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        if first:
            chunk, first = chunk.removeprefix(BOM), False
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()[: MAX_LINE_BYTES + 1]
        if lines:
            lines[0] = lines[0][: MAX_LINE_BYTES + 1]  # only this line may have begun in another chunk
            yield lines
    if rest:
        yield [rest]


async def read_csv(
    file: BinaryIO,
    kind: type[Event],
    label: str,
    names: Sequence[str] | None = None,
    *,
    actor: str = ACTOR,
    empty_eta: str | None = None,
) -> AsyncIterator[Iterator[Item]]:
    """The events, all of one kind, of a CSV file whose header names their fields, and ``id`` if senders chose ids.

    ``names`` replace those of the header; a column whose name is empty is left out. Raises `InvalidMessage` for names
    that do not fit the event. ``empty_eta`` is the meaning of a batch without an ETA in a file that has ETAs, one of
    `EMPTY_ETAS`; without it such a row is refused.
    """
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        rows = _csv_rows(text)
        header = await asyncio.to_thread(next, rows, None)
        columns = _checked_header(kind, [] if header is None else header.cells, names)
        if has_empty_etas(kind, columns) and empty_eta is None and text.seekable():
            if not await asyncio.to_thread(_has_etas, rows, columns.index(ETA)):
                empty_eta = ON_HAND
            text.seek(0)
            rows = _csv_rows(text)
            next(rows)
        about = _About(kind, columns, actor, empty_eta)
        fingerprint = Fingerprint(f"{label}\n{kind.__name__}\n{','.join(columns)}")
        while chunk := await asyncio.to_thread(lambda: list(islice(rows, CHUNK_ROWS))):
            yield _csv_items(chunk, about, fingerprint)


def has_empty_etas(kind: type[Event] | None, columns: Sequence[str]) -> bool:
    """Whether rows of such a file may leave the ETA of a batch empty."""
    return kind is BatchCreated and ETA in columns


def csv_header(file: BinaryIO) -> Sequence[str]:
    """The cells of the first row of a CSV file; none if it cannot be read."""
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="") as text:
        header = next(_csv_rows(text), None)
    return [] if header is None else [cell.strip() for cell in header.cells]


class _Row(NamedTuple):
    number: int
    cells: list[str]
    error: str = ""


class _About(NamedTuple):
    """The kind and the fields of the rows, their sender, and the meaning of an empty ETA."""

    kind: type[Event]
    columns: Sequence[str]
    actor: str
    empty_eta: str | None


def _has_etas(rows: Iterator[_Row], column: int) -> bool:
    return any(len(row.cells) > column and cleaned(row.cells[column]) for row in rows)


def _csv_rows(text: io.TextIOWrapper) -> Iterator[_Row]:
    reader = csv.reader(text, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            yield _Row(number, next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            yield _Row(number, [], str(error))


def _checked_header(kind: type[Event], cells: Sequence[str], names: Sequence[str] | None) -> list[str]:
    columns = [cell.strip() for cell in cells] if names is None else list(names)
    rules = {rule.name: rule for rule in field_rules(kind)}
    cure = f"{kind.__name__} has {', '.join(rules)}; the first row names the columns."
    for name in columns if names is None else filter(None, columns):
        if name not in rules and name != ID:
            raise InvalidMessage(f"The CSV header names {name!r}", cure)
        if columns.count(name) > 1:
            raise InvalidMessage(f"The CSV header names {name!r} twice", cure)
    for name, rule in rules.items():
        if rule.required and name not in columns:
            raise InvalidMessage(f"The CSV header does not name {name!r}", cure)
    return columns


def _csv_items(rows: Sequence[_Row], about: _About, fingerprint: Fingerprint) -> Iterator[Item]:
    for row in rows:
        if not row.cells and not row.error:
            continue
        text = _as_csv(row.cells)
        id_ = fingerprint.add(text)
        try:
            message = _csv_message(row, about, id_)
        except InvalidMessage as refusal:
            yield Line(row.number, text, None), refusal
        else:
            yield Line(row.number, text, message), message


def _csv_message(row: _Row, about: _About, id_: str) -> Message:
    if row.error:
        raise InvalidMessage(f"Not valid CSV: {row.error}", "Put cells with commas or quotes between double quotes.")
    if len(row.cells) != len(about.columns):
        raise InvalidMessage(
            f"{len(row.cells)} cells under a header of {len(about.columns)}", "Give each column its cell."
        )
    texts = {name: cleaned(cell) for name, cell in zip(about.columns, row.cells, strict=True) if name}
    own = texts.pop(ID, "")
    if has_empty_etas(about.kind, about.columns) and not texts[ETA] and not texts.get(ETA_UNKNOWN):
        texts |= _empty_eta(about.empty_eta)
    return Message(event_from_texts(about.kind, texts), check_key(own) if own else id_, about.actor, keyed=True)


def _empty_eta(meaning: str | None) -> dict[str, str]:
    """The field for the meaning of an empty ETA; raises `InvalidMessage` if nobody gave it."""
    if meaning is None:
        raise InvalidMessage(
            "The row has no ETA, and other rows of the file have one",
            "Set eta_unknown to true if the day is unknown, or to false if the stock is in the warehouse."
            " Or say once for the file how to read an empty ETA (--empty-eta).",
        )
    return {ETA_UNKNOWN: "true"} if meaning == UNKNOWN else {}


def _as_csv(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue().encode(errors="surrogateescape")

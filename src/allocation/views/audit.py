"""Reads the rows and the ledger for `proving.audit`, product by product, as of one moment and in bounded memory.

The database sorts, on disk if there are many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from allocation.service_layer.messages import message_id
from allocation.service_layer.proving.audit import ProductRows, Report, audit
from allocation.service_layer.proving.books import BOOKED, Difference, Fact, Opening
from allocation.service_layer.writing.store import BatchRow, LineRow, ProductRow, as_moment
from allocation.views.facts import ASKED_FOR_MORE

PAGE_ROWS = 2_000

BOOKED_TYPES = ", ".join(f"'{kind.__name__}'" for kind in BOOKED)
# {sku} is the column in the order of its code points, as Python compares texts, and spelled so that rows are sorted
# rather than looked up one by one in the order of an index.
PRODUCTS = "SELECT sku, version_number, waiting_lines, rules, retired FROM products ORDER BY {sku}"
BATCHES = f"SELECT {', '.join(BatchRow._fields)} FROM batches ORDER BY {{sku}}"  # noqa: S608 - names of our own
LINES = f"SELECT {', '.join(LineRow._fields)} FROM order_lines ORDER BY {{sku}}, {{orderid}}"  # noqa: S608
MESSAGES = (
    "SELECT position, sku, type, orderid, body FROM messages"  # noqa: S608 - names of our own
    f" WHERE type IN ({BOOKED_TYPES}) OR {ASKED_FOR_MORE}"
    " ORDER BY {sku}, {orderid} NULLS FIRST, position, place"
)
OPENINGS = "SELECT sku, version_number, position, recorded_at FROM openings ORDER BY {sku}"
BATCH_OPENINGS = "SELECT batchref, sku, shipped_quantity FROM batch_openings ORDER BY {sku}"
# Steps are numbered without gaps, so a missing message is noticed. Facts kept in a row count as messages. For a cascade
# without its closed lines, `shortened` has the number of remaining messages.
GAPS = """
    SELECT found.correlation_id, number, coalesce(remaining, steps) FROM (
        SELECT correlation_id, count(*) AS number, max(step) + 1 AS steps FROM messages GROUP BY 1
    ) AS found LEFT JOIN shortened ON shortened.correlation_id = found.correlation_id
    WHERE number <> coalesce(remaining, steps)
"""
SPELLED = {
    "sqlite": {"sku": "+sku", "orderid": "+orderid"},
    "postgresql": {"sku": 'sku COLLATE "C"', "orderid": 'orderid COLLATE "C"'},
}
LAST_MESSAGE = "SELECT sku, position FROM messages WHERE correlation_id = :id ORDER BY step DESC LIMIT 1"
# The last message of a row that changed the books, or the row's own message.
MESSAGE_OF = (
    "SELECT correlation_id, step, type, actor, recorded_at FROM messages"  # noqa: S608 - names of our own
    f" WHERE position = :position AND (place = 0 OR type IN ({BOOKED_TYPES})) ORDER BY place DESC LIMIT 1"
)
LAST_MESSAGE_OF_LINE = "SELECT max(position) FROM messages WHERE orderid = :orderid AND sku = :sku"

Row = Sequence[Any]
Progress = Callable[[int, int], None]


class Cause(NamedTuple):
    """The last message about the subject of a difference."""

    id: str
    type: str
    actor: str
    recorded_at: datetime


class Found(NamedTuple):
    """A difference and, if known, the last message about it."""

    difference: Difference
    cause: Cause | None


def audit_all(connection: Connection, progress: Progress = lambda *_: None) -> tuple[Report, Sequence[Found]]:
    """The report, and the first differences with their causes.

    ``progress`` is called regularly with the number of lines seen and their total.
    """
    report = Report()
    total: int = connection.exec_driver_sql("SELECT count(*) FROM order_lines").scalar_one()
    progress(0, total)
    for rows in _products(connection, lambda seen: progress(seen, total)):
        audit(rows, report)
    for correlation_id, found, expected in _rows(connection, GAPS):
        sku, position = connection.execute(text(LAST_MESSAGE), {"id": correlation_id}).one()
        report.add(Difference("ledger", sku, correlation_id, f"{found} messages", f"{expected} messages", position))
    progress(total, total)
    return report, [Found(each, _cause(connection, each)) for each in report.differences]


def _products(connection: Connection, progress: Callable[[int], None]) -> Iterator[ProductRows]:
    """Every product with any row at all."""
    products = groupby(_rows(connection, PRODUCTS), key=itemgetter(0))
    batches = groupby(_rows(connection, BATCHES), key=itemgetter(1))
    lines = groupby(_rows(connection, LINES, progress), key=itemgetter(1))
    messages = groupby(_rows(connection, MESSAGES), key=itemgetter(1))
    openings = groupby(_rows(connection, OPENINGS), key=itemgetter(0))
    taken = groupby(_rows(connection, BATCH_OPENINGS), key=itemgetter(1))
    for sku, groups in _side_by_side(products, batches, lines, messages, openings, taken):
        own, of_batches, of_lines, of_messages, of_opening, of_taken = groups
        yield ProductRows(
            sku,
            next(map(ProductRow._make, own), None),
            [_batch(row) for row in of_batches],
            map(_line, of_lines),
            map(Fact._make, of_messages),
            _opening(of_opening, of_taken),
        )


def _rows(connection: Connection, query: str, progress: Callable[[int], None] = lambda _: None) -> Iterator[Row]:
    """The rows, fetched page by page; reports the number of fetched rows."""
    statement = query.format_map(SPELLED[connection.dialect.name])
    result = connection.exec_driver_sql(statement, execution_options={"yield_per": PAGE_ROWS})
    fetched = 0
    for page in result.partitions(PAGE_ROWS):
        fetched += len(page)
        progress(fetched)
        yield from page


Groups = Iterator[tuple[str, Iterator[Row]]]


def _side_by_side(*streams: Groups) -> Iterator[tuple[str, Sequence[Iterable[Row]]]]:
    """Each SKU that any stream has, in order, with its rows of each."""
    heads = [next(stream, None) for stream in streams]
    while any(heads):
        sku = min(head[0] for head in heads if head is not None)
        yield sku, [head[1] if head is not None and head[0] == sku else () for head in heads]
        heads = [
            next(stream, None) if head is not None and head[0] == sku else head
            for head, stream in zip(heads, streams, strict=True)
        ]


def _opening(rows: Iterable[Row], taken: Iterable[Row]) -> Opening:
    shipped = {ref: qty for ref, _, qty in taken}
    _, version_number, position, recorded_at = next(iter(rows), (None, 0, 0, None))
    return Opening(version_number, shipped, position, recorded_at and as_moment(recorded_at))


def _batch(row: Row) -> BatchRow:
    batch = BatchRow._make(row)
    return batch._replace(
        eta=_day(batch.eta),
        initial_eta=_day(batch.initial_eta),
        expires_on=_day(batch.expires_on),
        last_eta=_day(batch.last_eta),
        counted_at=batch.counted_at and as_moment(batch.counted_at),
    )


def _line(row: Row) -> LineRow:
    line = LineRow._make(row)
    if line.need_by is None and line.expires_at is None:  # as of most
        return line
    return line._replace(need_by=_day(line.need_by), expires_at=line.expires_at and as_moment(line.expires_at))


def _day(value: str | date | None) -> date | None:
    return date.fromisoformat(value) if isinstance(value, str) else value


def _cause(connection: Connection, difference: Difference) -> Cause | None:
    position = difference.position
    if position is None:
        about = {"orderid": difference.name, "sku": difference.sku}
        position = connection.scalar(text(LAST_MESSAGE_OF_LINE), about)
    row = connection.execute(text(MESSAGE_OF), {"position": position}).one_or_none()
    if row is None:
        return None
    correlation_id, step, type_, actor, recorded_at = row
    return Cause(message_id(correlation_id, step), type_, actor, as_moment(recorded_at))

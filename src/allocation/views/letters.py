"""The deliveries that were given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from allocation.domain.errors import UnknownDeadLetter
from allocation.service_layer.delivering.dead_letters import seconds
from allocation.service_layer.messages import message_id
from allocation.service_layer.writing.store import as_moment
from allocation.views.paging import DEFAULT_PAGE, MAX_POSITION, AnyRow, page_of


class DeadLetter(msgspec.Struct):
    """A delivery that was given up: its message, the number of attempts, and the last error."""

    number: int
    effect: str
    sku: str
    id: str
    correlation_id: str
    type: str
    attempts: int
    error: str
    died_at: datetime


class DeadLetterDetail(DeadLetter):
    """A dead letter with the cause and the body of its message, and the stack of the last attempt."""

    causation_id: str | None
    body: msgspec.Raw
    stack: str


class DeadLetters(msgspec.Struct):
    """Dead letters, oldest delivery first."""

    dead_letters: list[DeadLetter]
    next_after: int | None


def dead_letters(
    connection: Connection,
    *,
    effect: str | None = None,
    sku: str | None = None,
    older_than: str | None = None,
    after: int = 0,
    limit: int = DEFAULT_PAGE,
) -> DeadLetters:
    """A page of the dead letters: all, or only those with the given values."""
    values: dict[str, Any] = {"effect": effect, "sku": sku}
    values = {name: value for name, value in values.items() if value is not None}
    conditions = ["state = 'dead'", "number > :after", *(f"{name} = :{name}" for name in values)]
    if older_than is not None:
        conditions.append("settled_at < :before")
        before = datetime.now(UTC) - timedelta(seconds=seconds(older_than))
        values["before"] = before.isoformat() if connection.dialect.name == "sqlite" else before
    asked_for = f"{_DEAD_LETTERS} WHERE {' AND '.join(conditions)} ORDER BY number"
    rows, more = page_of(connection, asked_for, limit, after=after, **values)
    return DeadLetters([DeadLetter(*_died(row)) for row in rows], rows[-1].number if more else None)


def dead_letter(connection: Connection, number: str) -> DeadLetterDetail:
    """One dead letter; raises `UnknownDeadLetter`."""
    if not (number.isascii() and number.isdecimal() and int(number) <= MAX_POSITION):
        raise UnknownDeadLetter(number)
    statement = text(f"{_DEAD_LETTER} WHERE state = 'dead' AND number = :number")
    found = connection.execute(statement, {"number": int(number)}).one_or_none()
    if found is None:
        raise UnknownDeadLetter(number)
    cause = None if found.causation_step is None else message_id(found.correlation_id, found.causation_step)
    return DeadLetterDetail(*_died(found), cause, msgspec.Raw(found.body.encode()), found.stack)


def _died(row: AnyRow) -> tuple[int, str, str, str, str, str, int, str, datetime]:
    number, effect, sku, correlation_id, step, type_, attempts, error, died_at, *_ = row
    id_ = message_id(correlation_id, step)
    return number, effect, sku, id_, correlation_id, type_, attempts, error, as_moment(died_at)


_DEAD_COLUMNS = "number, effect, sku, correlation_id, step, type, attempts, error, settled_at"
_DEAD_LETTERS = f"SELECT {_DEAD_COLUMNS} FROM deliveries"  # noqa: S608 - a constant
_DEAD_LETTER = f"""
    SELECT {_DEAD_COLUMNS}, body, stack, (
        SELECT causation_step FROM messages
        WHERE messages.correlation_id = deliveries.correlation_id AND messages.step = deliveries.step
    ) AS causation_step FROM deliveries
"""  # noqa: S608 - a constant

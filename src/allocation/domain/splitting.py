"""Splits a line that no batch can take whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from allocation.domain.batches import BatchSource
from allocation.domain.fields import MAX_TEXT_LENGTH
from allocation.domain.lines import MAX_PARTS, OrderLine
from allocation.domain.rules import Choice, Room


def parts_of(
    line: OrderLine, choice: Choice[BatchSource], room: Room, is_free: Callable[[str], bool]
) -> Iterator[tuple[OrderLine, BatchSource | None]]:
    """A line or its parts, each with its batch; the last part has none if it must wait.

    While no batch can take the whole rest, a part takes the free stock of the first batch. The free quantities of the
    choice are reduced. ``is_free`` says whether an order id is unused, so that a part can have it.
    """
    while True:
        batch = choice.of(line)
        piece = choice.piece(line) if batch is None and can_be_split(line, is_free) else None
        if piece is None:
            break
        room.take(piece.batch.key, piece.qty)
        rest = line.qty - piece.qty
        yield replace(line, qty=piece.qty, rest=rest), piece.batch
        line = replace(line, orderid=line.next_part, qty=rest, part=line.part + 1)
    if batch is not None:
        room.take(batch.key, line.qty)
    yield line, batch


def can_be_split(line: OrderLine, is_free: Callable[[str], bool]) -> bool:
    """Whether the line is the last part, may be split, and there is a free order id for the next part."""
    if not 0 < line.part < MAX_PARTS or line.rest or len(line.next_part) > MAX_TEXT_LENGTH:
        return False
    return is_free(line.next_part)

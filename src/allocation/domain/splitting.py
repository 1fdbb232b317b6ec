"""What a line is split into that no batch takes whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from allocation.domain.batches import Batch
from allocation.domain.fields import MAX_TEXT_LENGTH
from allocation.domain.lines import MAX_PARTS, OrderLine
from allocation.domain.rules import Choice


def parts_of(
    line: OrderLine, choice: Choice[Batch], room: dict[str, int], is_free: Callable[[str], bool]
) -> Iterator[tuple[OrderLine, Batch | None]]:
    """A line, or what it is split into, each with its batch; the last has none if it is to wait.

    As long as no batch takes all of it, it leaves behind what the first batch has. The room, which the choice is made
    from, is used up. ``is_free`` says whether nothing has an order id, so that a part may.
    """
    while True:
        batch = choice.of(line)
        piece = choice.piece(line) if batch is None and can_be_split(line, is_free) else None
        if piece is None:
            break
        room[piece.batch.reference] -= piece.qty
        rest = line.qty - piece.qty
        yield replace(line, qty=piece.qty, rest=rest), piece.batch
        line = replace(line, orderid=line.next_part, qty=rest, part=line.part + 1)
    if batch is not None:
        room[batch.reference] -= line.qty
    yield line, batch


def can_be_split(line: OrderLine, is_free: Callable[[str], bool]) -> bool:
    """Whether it is the last part of one that may be split, and there is a name for the next."""
    if not 0 < line.part < MAX_PARTS or line.rest or len(line.next_part) > MAX_TEXT_LENGTH:
        return False
    return is_free(line.next_part)

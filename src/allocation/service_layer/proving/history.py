"""A product or an order as it was at a moment: the messages recorded until then, booked one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from allocation.domain.events import Held, Split
from allocation.service_layer.messages import recall
from allocation.service_layer.proving.books import NOTHING_GONE, BookedLine, Books, Fact, Opening


class PastProduct:
    """A product's books, its lines, and the position each line was given when it was taken. It remembers every line."""

    def __init__(self, sku: str, facts: Iterable[Fact], opening: Opening = NOTHING_GONE) -> None:
        """``facts`` are those of the product, in the order of the ledger, as far as its opening at least."""
        self.sku = sku
        self.books = Books(sku, opening)
        self.lines: dict[str, BookedLine] = {}
        self.positions: dict[str, int] = {}
        self.holds: set[str] = set()  # which of the lines are holds
        for fact in facts:
            self._book(fact)

    def waiting(self) -> list[tuple[str, BookedLine]]:
        """The waiting lines by order id, oldest first."""
        return self.lines_on(None)

    def lines_on(self, ref: str | None) -> list[tuple[str, BookedLine]]:
        """The lines that hold stock of a batch, shipped or not, or those that wait, by order id, oldest first."""
        found = [
            (orderid, line)
            for orderid, line in self.lines.items()
            if line.batchref == ref and (ref is not None or line.closed is None)
        ]
        return sorted(found, key=lambda each: self.positions[each[0]])

    def _book(self, fact: Fact) -> None:
        if fact.orderid is None:
            self.books.book(fact)
            return
        line = self.books.book(fact, self.lines.get(fact.orderid))
        if fact.type == Held.__name__:
            self.holds.add(fact.orderid)
        if fact.type == Split.__name__:  # a part is told of behind others that its message called, who may be younger
            cut = recall(fact.type, fact.body)
            assert isinstance(cut, Split)  # noqa: S101 - as its type says
            self.positions[cut.next_part] = cut.position
        if line is not None:
            self.lines[fact.orderid] = line
            self.positions.setdefault(fact.orderid, self.books.version_number)


def past_order(facts: Iterable[Fact]) -> Mapping[tuple[str, str], BookedLine]:
    """Lines by SKU and order id. ``facts`` are those of an order and of its parts, in the order of the ledger."""
    books: dict[str, Books] = {}
    lines: dict[tuple[str, str], BookedLine] = {}
    for fact in facts:
        assert fact.orderid is not None  # noqa: S101 - as they are about lines
        of_line = fact.sku, fact.orderid
        line = books.setdefault(fact.sku, Books(fact.sku)).book(fact, lines.get(of_line))
        if line is not None:
            lines[of_line] = line
    return lines


def parts_cut_off(facts: Iterable[Fact]) -> list[str]:
    """The order ids of the parts that were cut off."""
    events = (recall(fact.type, fact.body) for fact in facts if fact.type == Split.__name__)
    return [event.next_part for event in events if isinstance(event, Split)]

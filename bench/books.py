"""After each run the books must balance; a run that does not is no measurement."""

from dataclasses import dataclass

from bench.stores import Database


class BooksDoNotBalance(Exception):
    """The run is discarded: its speed was not honestly earned."""


@dataclass(frozen=True, slots=True)
class Books:
    """Two queries on a contender's own schema.

    `totals` answers one row: lines that hold stock, and their quantity.
    `wrong_batches` counts the batches that are oversold or whose counter differs from their lines.
    """

    totals: str
    wrong_batches: str

    def check(self, database: Database, accepted: int, in_flight: int = 0) -> None:
        """Every accepted order of one piece is in the books, once.

        When the load generator hangs up, up to `in_flight` orders may have been booked without being counted by it.
        """
        lines, quantity = (int(number) for number in database.row(self.totals))
        (wrong,) = database.row(self.wrong_batches)
        if wrong:
            raise BooksDoNotBalance(f"{wrong} batches are oversold or miscounted")
        if not accepted <= lines <= accepted + in_flight:
            raise BooksDoNotBalance(f"{accepted} orders were accepted, {lines} are in the books")
        if quantity != lines:
            raise BooksDoNotBalance(f"{lines} lines of one piece hold {quantity} pieces")

"""The rows that both stores write."""

from collections.abc import Iterator

from bench.plan import SKUS

ROWS_PER_COMMIT = 1_000
Row = tuple[str, str, int, str]


def groups(rows: int) -> Iterator[list[Row]]:
    """(orderid, sku, qty, batchref), in groups of one commit each."""
    for first in range(0, rows, ROWS_PER_COMMIT):
        yield [_row(number) for number in range(first, min(first + ROWS_PER_COMMIT, rows))]


def _row(number: int) -> Row:
    item = number % SKUS + 1
    return f"order-{number}", f"SKU-{item}", 1, f"batch-{item}-1"

"""The figures of stock in SQL: the twin of `allocation.domain.figures`. Every sum and every list is made of these.

The statements ask for ``:today``, the day of the business, and the late ones for ``:overdue``, too: see
`allocation.views.paging.days_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam

from allocation.domain.figures import Figures, Shelf
from allocation.domain.lines import Today
from allocation.views.paging import days_of, with_days

_ARRIVED = "CASE WHEN eta IS NULL THEN purchased_quantity ELSE coalesce(arrived_quantity, 0) END"
_IS_BLOCKED = "(quarantine IS NOT NULL OR expires_on < :today)"
_INSPECTED = "inspect_quantity"
_ON_HAND = f"({_ARRIVED}) - shipped_quantity + {_INSPECTED}"
_INCOMING = f"purchased_quantity - ({_ARRIVED})"
_FREE = "purchased_quantity - allocated_quantity"
_FREE_ON_HAND = f"""CASE WHEN eta IS NULL THEN {_FREE} WHEN arrived_quantity IS NULL THEN 0
    WHEN arrived_quantity - arrived_allocated < {_FREE} THEN arrived_quantity - arrived_allocated ELSE {_FREE} END"""

# By the names of `Figures`, in their order.
EXPRESSIONS: Final[Mapping[str, str]] = {
    "purchased_quantity": f"purchased_quantity + {_INSPECTED}",
    "allocated_quantity": "allocated_quantity - shipped_quantity",
    "available_quantity": f"CASE WHEN {_IS_BLOCKED} THEN 0 ELSE {_FREE} END",
    "on_hand_quantity": _ON_HAND,
    "incoming_quantity": _INCOMING,
    "blocked_quantity": f"CASE WHEN {_IS_BLOCKED} THEN {_ON_HAND} ELSE {_INSPECTED} END",
    "overdue_quantity": f"CASE WHEN eta < :today THEN {_INCOMING} ELSE 0 END",
    "shipped_quantity": "shipped_quantity",
}
# By the names of `Shelf`, in their order.
_SHELF: Final[Mapping[str, str]] = {
    "on_hand_allocated": f"({_ARRIVED}) - shipped_quantity - ({_FREE_ON_HAND})",
    "on_hand_available": _FREE_ON_HAND,
    "incoming_allocated": f"{_INCOMING} - ({_FREE} - ({_FREE_ON_HAND}))",
    "incoming_available": f"{_FREE} - ({_FREE_ON_HAND})",
}

# The figures of a row of `batches`.
COLUMNS: Final = ", ".join(f"{expression} AS {name}" for name, expression in EXPRESSIONS.items())
IS_EXPIRED: Final = "coalesce(expires_on < :today, FALSE)"
IS_OVERDUE: Final = f"eta < :today AND {_INCOMING} > 0"
# The same for the batches of one product: no index of days can be asked for it, which has those of all products.
HAS_OVERDUE: Final = f"{EXPRESSIONS['overdue_quantity']} > 0"
HAS_BLOCKED: Final = f"{EXPRESSIONS['blocked_quantity']} > 0"
# Whether a row has stock that can be promised; ``has_room`` first, as the index has these rows alone.
IS_AVAILABLE: Final = f"has_room AND NOT coalesce({_IS_BLOCKED}, FALSE)"


def _sum(expression: str) -> str:
    return f"CAST(coalesce(sum({expression}), 0) AS BIGINT)"


# The sums over rows of `batches`: those of `Figures`, then those of `Shelf`.
SUMS: Final = ", ".join(
    [
        *map(_sum, EXPRESSIONS.values()),
        *(_sum(f"CASE WHEN {_IS_BLOCKED} THEN 0 ELSE {expression} END") for expression in _SHELF.values()),
    ]
)


# Of a line and its batch: whether its stock is of the part that has arrived, the ETA of its stock, and its day.
HAS_ARRIVED: Final = "lines.arrived AND place.arrived_quantity IS NOT NULL"
LINE_ETA: Final = f"CASE WHEN {HAS_ARRIVED} THEN NULL ELSE place.eta END"
_DAY = f"""CASE WHEN place.eta IS NULL OR ({HAS_ARRIVED}) THEN :today
    WHEN place.eta >= :today THEN place.eta ELSE :overdue END"""
# Open lines that are late, as `allocation.domain.lines.is_late` says it; found by an index of lines with a need-by day.
LATE: Final = (
    "FROM order_lines AS lines LEFT JOIN batches AS place ON place.sku = lines.sku AND place.ref = lines.batchref"
    f" WHERE lines.closed IS NULL AND lines.need_by IS NOT NULL AND lines.need_by < {_DAY}"
)


class Total(NamedTuple):
    """The stock of several batches."""

    figures: Figures = Figures()
    shelf: Shelf = Shelf()


def total_of(sums: Sequence[int]) -> Total:
    """The values of `SUMS`."""
    count = len(EXPRESSIONS)
    return Total(Figures(*sums[:count]), Shelf(*sums[count:]))


def totals_of(connection: Connection, skus: Sequence[str], today: Today) -> Mapping[str, Total]:
    """The stock of each of these products, as far as they have batches."""
    if not skus:
        return {}
    rows = connection.execute(_TOTALS, {"skus": list(skus), **days_of(today)})
    return {sku: total_of(sums) for sku, *sums in rows}


_TOTALS = with_days(f"SELECT sku, {SUMS} FROM batches WHERE sku IN :skus GROUP BY sku").bindparams(  # noqa: S608
    bindparam("skus", expanding=True)
)

"""The facts of the ledger, as the books take them: by index, and only those about a product, an order or a line.

They are read up to a moment: up to the last message recorded by then. Where the clocks of processes disagree, that is
still a state there was. Positions and times of different products may cross, because they are written side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Connection, Row, Text, bindparam, text

from allocation.service_layer.proving.books import BOOKED, Fact

PAGE_ROWS = 2_000
NAMES_AT_ONCE = 500

# The terms that an order line was asked for with matter to the books where they are unusual. This is that condition on
# the ledger, in SQL: the body names the optional fields if any is set; a line with the name of a part may be a part.
ASKED_FOR_MORE: Final = (
    "type = 'AllocationRequired' AND orderid IS NOT NULL"
    " AND (body LIKE '%\"need_by\"%' OR substr(orderid, length(orderid) - 3) LIKE '%/%')"
)


class LedgerPlace(NamedTuple):
    """The place of a message in the ledger; facts that are kept in one row share its position."""

    position: int
    place: int


def product_facts(connection: Connection, sku: str, moment: datetime, least: int = 0) -> Iterator[Fact]:
    """The facts of the product until then, and in any case up to the position ``least``, in order."""
    by_then = "sku = :sku AND (recorded_at <= :moment OR position <= :least)"
    return _facts(connection, f"sku = :sku AND position <= ({_UNTIL} {by_then})", moment, sku=sku, least=least)


def order_facts(connection: Connection, orderid: str, moment: datetime) -> Iterator[Fact]:
    """The facts of the order's lines until then, by SKU and in order."""
    by_then = "other.orderid = :orderid AND other.sku = messages.sku AND recorded_at <= :moment"
    return _facts(connection, f"orderid = :orderid AND position <= ({_UNTIL} {by_then})", moment, orderid=orderid)


def batch_facts(connection: Connection, sku: str, moment: datetime) -> Iterator[Fact]:
    """The facts of the product's batches until then, in order, without those of its lines."""
    until = f"{_UNTIL} sku = :sku AND recorded_at <= :moment"
    return _facts(connection, f"sku = :sku AND orderid IS NULL AND position <= ({until})", moment, sku=sku)


def facts_before(connection: Connection, sku: str, place: LedgerPlace, most: int) -> list[Fact]:
    """The first ``most`` messages that changed the product before that place, in order."""
    asked = {"sku": sku, "position": place.position, "place": place.place, "most": most}
    return [Fact._make(row) for row in connection.execute(_BEFORE, asked)]


def line_facts_before(connection: Connection, sku: str, orderids: Sequence[str], position: int) -> Iterator[Fact]:
    """The facts of these lines of a product before that position, by line and in order."""
    for begin in range(0, len(orderids), NAMES_AT_ONCE):
        asked = {"sku": sku, "position": position, "orderids": orderids[begin : begin + NAMES_AT_ONCE]}
        yield from map(Fact._make, connection.execute(_OF_LINES_BEFORE, asked))


def batch_facts_before(connection: Connection, sku: str, position: int) -> Iterator[Fact]:
    """The facts of the product's batches before that position, in order, without those of its lines."""
    rows = connection.execute(_OF_BATCHES_BEFORE, {"sku": sku, "position": position})
    return map(Fact._make, rows)


def were_inbound(connection: Connection, refs: Iterable[str]) -> Mapping[str, str]:
    """The SKUs of those batches that have, had or were bought with an ETA; the others never had one."""
    return {row.ref: row.sku for row in connection.execute(_INBOUND, {"refs": list(refs)})}


def sku_of_batch(connection: Connection, ref: str) -> str | None:
    """The SKU of a batch, which never changes, or None if there never was such a batch."""
    sku: str | None = connection.scalar(text("SELECT sku FROM batches WHERE ref = :ref"), {"ref": ref})
    return sku


def line_positions(connection: Connection, sku: str, orderids: Sequence[str]) -> Mapping[str, int]:
    """The positions that lines of a product have, by order id."""
    found: dict[str, int] = {}
    for begin in range(0, len(orderids), NAMES_AT_ONCE):
        asked = {"sku": sku, "orderids": orderids[begin : begin + NAMES_AT_ONCE]}
        found |= {row.orderid: row.position for row in connection.execute(_POSITIONS, asked)}
    return found


def _facts(connection: Connection, where: str, moment: datetime, **values: Any) -> Iterator[Fact]:
    statement = text(f"{_FACTS} WHERE {_BOOKED} AND {where} ORDER BY sku, position, place").bindparams(_TYPES)
    utc = moment.astimezone(UTC)
    until: object = utc.isoformat() if connection.dialect.name == "sqlite" else utc
    rows: Iterable[Row[Any]] = connection.execute(
        statement, {**values, "moment": until}, execution_options={"yield_per": PAGE_ROWS}
    )
    return map(Fact._make, rows)


_FACTS = "SELECT position, sku, type, orderid, body FROM messages"
_BOOKED = f"(type IN :types OR ({ASKED_FOR_MORE}))"
_TYPES: BindParameter[Any] = bindparam("types", [kind.__name__ for kind in BOOKED], expanding=True)
_UNTIL = "SELECT max(other.position) FROM messages AS other WHERE"
_BEFORE = text(
    f"{_FACTS} WHERE sku = :sku AND {_BOOKED} AND position <= :position AND (position < :position OR place < :place)"
    " ORDER BY position, place LIMIT :most"
).bindparams(_TYPES)
_OF_LINES_BEFORE = text(
    f"{_FACTS} WHERE sku = :sku AND orderid IN :orderids AND {_BOOKED} AND position < :position"
    " ORDER BY orderid, position, place"
).bindparams(_TYPES, bindparam("orderids", type_=Text, expanding=True))
_OF_BATCHES_BEFORE = text(
    f"{_FACTS} WHERE sku = :sku AND orderid IS NULL AND {_BOOKED} AND position < :position ORDER BY position, place"
).bindparams(_TYPES)
_INBOUND = text(
    "SELECT ref, sku FROM batches WHERE ref IN :refs"
    " AND (initial_eta IS NOT NULL OR eta IS NOT NULL OR last_eta IS NOT NULL OR created_as IS NOT NULL)"
).bindparams(bindparam("refs", type_=Text, expanding=True))
_POSITIONS = text("SELECT orderid, position FROM order_lines WHERE orderid IN :orderids AND sku = :sku").bindparams(
    bindparam("orderids", type_=Text, expanding=True)
)

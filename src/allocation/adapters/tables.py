"""The tables, the same in every database. Migrations create them; a test proves that the two agree."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Dialect,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    column,
    event,
    table,
    text,
)
from sqlalchemy.types import TypeEngine

from allocation.service_layer.writing.store import as_moment


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC: ``timestamptz`` on PostgreSQL, ISO 8601 text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        return value.isoformat() if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | str | None, dialect: Dialect) -> datetime | None:
        return as_moment(value) if value is not None else None


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Numbers itself. On SQLite only a column of type INTEGER does.
RowNumber = BigInteger().with_variant(Integer, "sqlite")
# Rows that are updated often get room on their page, so that no index has to follow. A statement of its own, since
# SQLAlchemy 2.0 has no word for it in `Table`.
ROOMY = DDL("ALTER TABLE %(table)s SET (fillfactor = 70)").execute_if(dialect="postgresql")  # type: ignore[no-untyped-call]


def _partial_index(name: str, *columns: Column[Any], where: str, unique: bool = False) -> Index:
    """An index that holds only these rows: others do not pay for it, and a statement has to say the same to use it."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


products = Table(
    "products",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("version_number", BigInteger, nullable=False),
    Column("waiting_lines", BigInteger, nullable=False),
    Column("rules", Text),  # JSON; null: the usual ones
    Column("retired", Boolean),  # true: it takes no new lines
    CheckConstraint("waiting_lines >= 0", name="waiting_lines"),
    sqlite_with_rowid=False,
)

batches = Table(
    "batches",
    metadata,
    Column("ref", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("eta", Date),
    Column("purchased_quantity", BigInteger, nullable=False),
    Column("allocated_quantity", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("initial_quantity", BigInteger, nullable=False),
    Column("initial_eta", Date),
    # A column of its own: an index that depends on the counters would have to follow each of their changes.
    Column("has_room", Boolean, Computed("allocated_quantity < purchased_quantity", persisted=True), nullable=False),
    Column("shipped_quantity", BigInteger, nullable=False, server_default=text("0")),  # part of the allocated quantity
    Column("location", Text),
    Column("expires_on", Date),
    Column("quarantine", Text),  # the reason
    Column("delivery", Text),
    # Only while a batch is in parts: the quantity that has arrived, and how much of it is allocated, shipped included.
    Column("arrived_quantity", BigInteger),
    Column("arrived_allocated", BigInteger),
    # In inspection: in the warehouse, and no part of the purchased quantity until it is released.
    Column("inspect_quantity", BigInteger, nullable=False, server_default=text("0")),
    Column("last_eta", Date),  # of a batch that has arrived
    Column("counted_at", UtcDateTime),
    Column("created_as", Text),  # JSON of its creation, if it was corrected or transferred since
    PrimaryKeyConstraint("sku", "ref"),
    UniqueConstraint("ref"),
    CheckConstraint("allocated_quantity BETWEEN 0 AND purchased_quantity", name="never_oversold"),
    CheckConstraint("shipped_quantity BETWEEN 0 AND allocated_quantity", name="never_overshipped"),
    CheckConstraint("arrived_quantity BETWEEN 0 AND purchased_quantity", name="arrived_quantity"),
    CheckConstraint("arrived_allocated BETWEEN shipped_quantity AND arrived_quantity", name="arrived_allocated"),
    CheckConstraint("inspect_quantity >= 0", name="inspect_quantity"),
)
for _table in (products, batches):
    event.listen(_table, "after_create", ROOMY)
# The batches read to allocate a line, however many exhausted batches the product has.
_partial_index("ix_batches_with_room", batches.c.sku, where="has_room")
_partial_index("ix_batches_delivery", batches.c.delivery, where="delivery IS NOT NULL")
_partial_index("ix_batches_expiring", batches.c.expires_on, batches.c.ref, where="expires_on IS NOT NULL")
_partial_index("ix_batches_due", batches.c.eta, batches.c.ref, where="eta IS NOT NULL")

order_lines = Table(
    "order_lines",
    metadata,
    Column("orderid", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("qty", BigInteger, nullable=False),
    Column("batchref", Text),
    Column("position", BigInteger, nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    Column("need_by", Date),
    Column("expires_at", UtcDateTime),  # of a hold
    Column("closed", Text),  # how it ended; null: it is open
    Column("closed_at", UtcDateTime),
    Column("part", SmallInteger),  # part number of a line that may be split; null: it stays whole
    Column("rest", BigInteger),  # quantity in the following parts; null: no following part
    Column("arrived", Boolean),  # true: while its batch is in parts, it has stock of the part that has arrived
    PrimaryKeyConstraint("orderid", "sku"),
    CheckConstraint("qty > 0", name="qty"),
    sqlite_with_rowid=False,
)
Index("ix_order_lines_of_batch", order_lines.c.batchref, order_lines.c.position)
_partial_index(
    "ix_order_lines_waiting",
    order_lines.c.sku,
    order_lines.c.position,
    order_lines.c.qty,
    where="batchref IS NULL AND closed IS NULL",
)
# By kind, to see whether any of them fits, however many lines of each kind there are.
_partial_index(
    "ix_order_lines_waiting_kinds",
    order_lines.c.sku,
    order_lines.c.need_by,
    order_lines.c.qty,
    where="batchref IS NULL AND closed IS NULL",
)
# These indexes have only the few lines with such a value, so that other lines do not pay for them.
_partial_index(
    "ix_order_lines_to_split",
    order_lines.c.sku,
    order_lines.c.position,
    where="batchref IS NULL AND closed IS NULL AND part IS NOT NULL AND rest IS NULL",
)
_partial_index(
    "ix_order_lines_by_priority",
    order_lines.c.sku,
    order_lines.c.batchref,
    order_lines.c.priority,
    order_lines.c.position,
    where="closed IS NULL AND priority <> 0",
)
_partial_index(
    "ix_order_lines_needed", order_lines.c.sku, order_lines.c.need_by, where="closed IS NULL AND need_by IS NOT NULL"
)
_partial_index(
    "ix_order_lines_late",
    order_lines.c.need_by,
    order_lines.c.sku,
    order_lines.c.orderid,
    where="need_by IS NOT NULL AND batchref IS NULL AND closed IS NULL",
)
# A hold is known by its id alone, over all products.
_partial_index("uq_order_lines_holdid", order_lines.c.orderid, unique=True, where="expires_at IS NOT NULL")
_partial_index("ix_order_lines_expiring", order_lines.c.expires_at, where="closed IS NULL AND expires_at IS NOT NULL")
# By age, to delete old closed lines.
_partial_index("ix_order_lines_closed", order_lines.c.closed_at, where="closed_at IS NOT NULL")

# The totals of deleted lines: the number of changes of their product, and the quantity shipped from a batch. All of
# their messages had positions up to this one, and were recorded up to this time.
openings = Table(
    "openings",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("version_number", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)
batch_openings = Table(
    "batch_openings",
    metadata,
    Column("sku", Text, nullable=False),
    Column("batchref", Text, nullable=False),
    Column("shipped_quantity", BigInteger, nullable=False),
    PrimaryKeyConstraint("sku", "batchref"),
)
# The cascades with deleted messages, and the number of remaining messages of each. ``bare``: the first message is kept
# for the others, without the data of its own line.
shortened = Table(
    "shortened",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("remaining", BigInteger, nullable=False),
    Column("bare", Boolean, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("position", RowNumber, Identity(), primary_key=True),
    Column("correlation_id", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("causation_step", Integer),
    Column("type", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("orderid", Text),
    Column("body", Text, nullable=False),
    Column("result", Text),
    Column("actor", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("facts", Text),
    UniqueConstraint("correlation_id", "step"),
)
Index("ix_ledger_sku", ledger.c.sku, ledger.c.position)
# The messages about stock alone, which are few.
_partial_index("ix_ledger_stock", ledger.c.sku, ledger.c.position, where="orderid IS NULL")
_partial_index("ix_ledger_orderid", ledger.c.orderid, ledger.c.position, where="orderid IS NOT NULL")

deliveries = Table(
    "deliveries",
    metadata,
    Column("number", RowNumber, Identity(), primary_key=True),
    Column("correlation_id", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("effect", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),  # or done, dead, dropped: settled
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", UtcDateTime),
    Column("error", Text),
    Column("stack", Text),
    Column("settled_at", UtcDateTime),
    UniqueConstraint("correlation_id", "step", "effect"),
)
# The only index of deliveries that a commit pays for. The others have only failed or kept deliveries.
_partial_index("ix_deliveries_pending", deliveries.c.effect, deliveries.c.number, where="state = 'pending'")
_partial_index(
    "ix_deliveries_held",
    deliveries.c.effect,
    deliveries.c.sku,
    deliveries.c.number,
    where="next_attempt_at IS NOT NULL",
)
_partial_index(
    "ix_deliveries_dead_lane", deliveries.c.effect, deliveries.c.sku, deliveries.c.number, where="state = 'dead'"
)
_partial_index("ix_deliveries_dead", deliveries.c.number, where="state = 'dead'")
_partial_index("ix_deliveries_settled", deliveries.c.state, deliveries.c.settled_at, where="state <> 'pending'")

# The last day whose beginning is done: one row, or none.
clock = Table(
    "clock",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("day", Date, nullable=False),
    CheckConstraint("number = 1", name="one"),
)

# The relay that delivers a partition, the end of its lease, and the number of changes of the holder.
leases = Table(
    "leases",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("holder", Text),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", UtcDateTime),
)

# The relays that are alive, so that each takes its fair share.
relays = Table(
    "relays",
    metadata,
    Column("name", Text, primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("event_types", Text, nullable=False),  # a JSON list, sorted; empty: all facts
    Column("secrets", Text, nullable=False),  # a JSON list of pairs: the secret and when it ends, the current one first
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("disabled_reason", Text, nullable=False),
    UniqueConstraint("url", "event_types"),
)

# The products for the next mail that lists all of a day: each with the first cascade since the last such mail that left
# a line of it without stock.
digest = Table(
    "digest",
    metadata,
    Column("due_at", UtcDateTime, nullable=False),
    Column("sku", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    PrimaryKeyConstraint("due_at", "sku"),
)

# A view: the ledger message by message, each row followed by the facts kept in it. ``kept_step`` is the step of that
# row, and ``place`` the message's index in it.
messages = table(
    "messages",
    column("position", BigInteger),
    column("correlation_id", Text),
    column("kept_step", Integer),
    column("place", Integer),
    column("step", Integer),
    column("causation_step", Integer),
    column("type", Text),
    column("sku", Text),
    column("orderid", Text),
    column("body", Text),
    column("result", Text),
    column("actor", Text),
    column("recorded_at", UtcDateTime),
)

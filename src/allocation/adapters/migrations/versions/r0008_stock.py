"""Stock as the warehouse knows it: batches that arrive in parts, on a delivery, in inspection; retired products."""

from __future__ import annotations

import json
from datetime import date

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
# Spelled out, for only so can SQLite add a column with a constraint without copying the table.
COUNTERS = (
    ("arrived_quantity", "BIGINT", "arrived_quantity BETWEEN 0 AND purchased_quantity"),
    ("arrived_allocated", "BIGINT", "arrived_allocated BETWEEN shipped_quantity AND arrived_quantity"),
    ("inspect_quantity", "BIGINT DEFAULT 0 NOT NULL", "inspect_quantity >= 0"),
)


def upgrade() -> None:
    op.add_column("products", sa.Column("retired", sa.Boolean))
    op.add_column("batches", sa.Column("delivery", sa.Text))
    for name, kind, check in COUNTERS:
        op.execute(f"ALTER TABLE batches ADD COLUMN {name} {kind}\n CONSTRAINT ck_batches_{name} CHECK ({check})")
    op.add_column("batches", sa.Column("last_eta", sa.Date))
    op.add_column("batches", sa.Column("counted_at", MOMENT))
    op.add_column("batches", sa.Column("created_as", sa.Text))
    op.add_column("order_lines", sa.Column("arrived", sa.Boolean))
    where = sa.text("orderid IS NULL")
    op.create_index("ix_ledger_stock", "ledger", ["sku", "position"], postgresql_where=where, sqlite_where=where)
    where = sa.text("batchref IS NULL AND closed IS NULL")
    kinds = ("ix_order_lines_waiting_kinds", "order_lines", ["sku", "need_by", "qty"])
    op.create_index(*kinds, postgresql_where=where, sqlite_where=where)
    where = sa.text("delivery IS NOT NULL")
    op.create_index("ix_batches_delivery", "batches", ["delivery"], postgresql_where=where, sqlite_where=where)
    _fill_last_etas()


def _fill_last_etas() -> None:
    """The ETA that each batch had when it arrived: as it was changed last, otherwise as it was created with."""
    op.execute("UPDATE batches SET last_eta = initial_eta WHERE eta IS NULL")
    batches = sa.table("batches", sa.column("ref"), sa.column("last_eta", sa.Date))
    connection = op.get_bind()
    told = "SELECT body FROM messages WHERE type = 'BatchEtaChanged' ORDER BY position, place"
    for (body,) in connection.execute(sa.text(told)).all():
        changed = json.loads(body)
        has_arrived = sa.and_(batches.c.ref == changed["ref"], batches.c.last_eta.is_not(None))
        eta = date.fromisoformat(changed["eta"])
        connection.execute(sa.update(batches).where(has_arrived).values(last_eta=eta))

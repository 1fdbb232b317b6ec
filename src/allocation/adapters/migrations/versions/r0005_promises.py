"""The whole life of a promise: needed by a day, held, shipped, returned; and of a batch: quarantined, expired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
# Spelled out, for only so can SQLite add a column with a constraint without copying the table.
SHIPPED_QUANTITY = """
    ALTER TABLE batches ADD COLUMN shipped_quantity BIGINT DEFAULT 0 NOT NULL
    CONSTRAINT ck_batches_never_overshipped CHECK (shipped_quantity BETWEEN 0 AND allocated_quantity)
"""
INDEXES = {
    "ix_order_lines_waiting": (["sku", "position", "qty"], "batchref IS NULL AND closed IS NULL"),
    "ix_order_lines_by_priority": (["sku", "batchref", "priority", "position"], "closed IS NULL AND priority <> 0"),
    "ix_order_lines_needed": (["sku", "need_by"], "closed IS NULL AND need_by IS NOT NULL"),
    "ix_order_lines_expiring": (["expires_at"], "closed IS NULL AND expires_at IS NOT NULL"),
}


def upgrade() -> None:
    op.add_column("products", sa.Column("rules", sa.Text))
    op.execute(SHIPPED_QUANTITY)
    op.add_column("batches", sa.Column("location", sa.Text))
    op.add_column("batches", sa.Column("expires_on", sa.Date))
    op.add_column("batches", sa.Column("quarantine", sa.Text))
    op.add_column("order_lines", sa.Column("priority", sa.SmallInteger, server_default=sa.text("0"), nullable=False))
    op.add_column("order_lines", sa.Column("need_by", sa.Date))
    op.add_column("order_lines", sa.Column("expires_at", MOMENT))
    op.add_column("order_lines", sa.Column("closed", sa.Text))
    op.drop_index("ix_order_lines_waiting", "order_lines")
    for name, (columns, condition) in INDEXES.items():
        where = sa.text(condition)
        op.create_index(name, "order_lines", columns, postgresql_where=where, sqlite_where=where)
    where = sa.text("expires_at IS NOT NULL")
    op.create_index(
        "uq_order_lines_holdid", "order_lines", ["orderid"], unique=True, postgresql_where=where, sqlite_where=where
    )

"""Closed lines may go: when they were closed, what they came to, and which cascades are shorter for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
CLOSED_AT = """
    UPDATE order_lines SET closed_at = (
        SELECT max(recorded_at) FROM ledger
        WHERE ledger.orderid = order_lines.orderid AND ledger.sku = order_lines.sku
    ) WHERE closed IS NOT NULL
"""


def upgrade() -> None:
    op.add_column("order_lines", sa.Column("closed_at", MOMENT))
    op.execute(CLOSED_AT)
    where = sa.text("closed_at IS NOT NULL")
    op.create_index("ix_order_lines_closed", "order_lines", ["closed_at"], postgresql_where=where, sqlite_where=where)
    op.create_table(
        "openings",
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("version_number", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sku", name="pk_openings"),
    )
    op.create_table(
        "batch_openings",
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("batchref", sa.Text, nullable=False),
        sa.Column("shipped_quantity", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sku", "batchref", name="pk_batch_openings"),
    )
    op.create_table(
        "shortened",
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("remaining", sa.BigInteger, nullable=False),
        sa.Column("bare", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("correlation_id", name="pk_shortened"),
    )

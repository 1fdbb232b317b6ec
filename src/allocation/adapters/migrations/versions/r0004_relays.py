"""Deliveries remember their attempts and may be dead letters; relays share them by leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
INDEXES = {
    "ix_deliveries_pending": (["effect", "number"], "state = 'pending'"),
    "ix_deliveries_held": (["effect", "sku", "number"], "next_attempt_at IS NOT NULL"),
    "ix_deliveries_dead_lane": (["effect", "sku", "number"], "state = 'dead'"),
    "ix_deliveries_dead": (["number"], "state = 'dead'"),
    "ix_deliveries_settled": (["state", "settled_at"], "state <> 'pending'"),
}


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("state", sa.Text, server_default="pending", nullable=False))
    op.add_column("deliveries", sa.Column("attempts", sa.Integer, server_default=sa.text("0"), nullable=False))
    op.add_column("deliveries", sa.Column("next_attempt_at", MOMENT))
    op.add_column("deliveries", sa.Column("error", sa.Text))
    op.add_column("deliveries", sa.Column("stack", sa.Text))
    op.add_column("deliveries", sa.Column("settled_at", MOMENT))
    for name, (columns, condition) in INDEXES.items():
        where = sa.text(condition)
        op.create_index(name, "deliveries", columns, postgresql_where=where, sqlite_where=where)
    op.create_table(
        "leases",
        sa.Column("partition", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.PrimaryKeyConstraint("partition", name="pk_leases"),
    )
    op.create_table(
        "relays",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_relays"),
    )

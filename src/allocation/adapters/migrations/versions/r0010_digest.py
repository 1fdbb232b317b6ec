"""The products for the next mail that lists all of a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "digest",
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("due_at", "sku", name="pk_digest"),
    )

"""Lines that may be split: which part of its line one is, and what was cut off it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("order_lines", sa.Column("part", sa.SmallInteger))
    op.add_column("order_lines", sa.Column("rest", sa.BigInteger))
    where = sa.text("batchref IS NULL AND closed IS NULL AND part IS NOT NULL AND rest IS NULL")
    op.create_index(
        "ix_order_lines_to_split", "order_lines", ["sku", "position"], postgresql_where=where, sqlite_where=where
    )

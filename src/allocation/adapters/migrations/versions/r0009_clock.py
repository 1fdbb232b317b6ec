"""Days that pass: the last one that is done, and indexes of what a day brings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

INDEXES = (
    ("ix_batches_expiring", "batches", ["expires_on", "ref"], "expires_on IS NOT NULL"),
    ("ix_batches_due", "batches", ["eta", "ref"], "eta IS NOT NULL"),
    (
        "ix_order_lines_late",
        "order_lines",
        ["need_by", "sku", "orderid"],
        "need_by IS NOT NULL AND batchref IS NULL AND closed IS NULL",
    ),
)


def upgrade() -> None:
    op.create_table(
        "clock",
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_clock"),
        sa.CheckConstraint("number = 1", name="ck_clock_one"),
    )
    for name, table, columns, where in INDEXES:
        condition = sa.text(where)
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)

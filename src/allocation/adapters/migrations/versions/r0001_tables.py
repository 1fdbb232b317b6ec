"""The first tables: products, batches, order lines, the ledger and its deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    _create_products()
    _create_batches()
    _create_order_lines()
    _create_ledger()
    _create_deliveries()


def _make_roomy(table: str) -> None:
    """Leave room on each page of PostgreSQL, so that an updated row stays on it and no index has to follow."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 70)")


def _create_products() -> None:
    op.create_table(
        "products",
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("version_number", sa.BigInteger, nullable=False),
        sa.Column("waiting_lines", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sku", name="pk_products"),
        sa.CheckConstraint("waiting_lines >= 0", name="ck_products_waiting_lines"),
        sqlite_with_rowid=False,
    )
    _make_roomy("products")


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("ref", sa.Text, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("eta", sa.Date),
        sa.Column("purchased_quantity", sa.BigInteger, nullable=False),
        sa.Column("allocated_quantity", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("initial_quantity", sa.BigInteger, nullable=False),
        sa.Column("initial_eta", sa.Date),
        sa.Column(
            "has_room",
            sa.Boolean,
            sa.Computed("allocated_quantity < purchased_quantity", persisted=True),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("sku", "ref", name="pk_batches"),
        sa.UniqueConstraint("ref", name="uq_batches_ref"),
        sa.CheckConstraint(
            "allocated_quantity BETWEEN 0 AND purchased_quantity",
            name="ck_batches_never_oversold",
        ),
    )
    _make_roomy("batches")
    with_room = sa.text("has_room")
    op.create_index("ix_batches_with_room", "batches", ["sku"], postgresql_where=with_room, sqlite_where=with_room)


def _create_order_lines() -> None:
    op.create_table(
        "order_lines",
        sa.Column("orderid", sa.Text, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("qty", sa.BigInteger, nullable=False),
        sa.Column("batchref", sa.Text),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("orderid", "sku", name="pk_order_lines"),
        sa.CheckConstraint("qty > 0", name="ck_order_lines_qty"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_order_lines_of_batch", "order_lines", ["batchref", "position"])
    waiting = sa.text("batchref IS NULL")
    op.create_index(
        "ix_order_lines_waiting",
        "order_lines",
        ["sku", "position", "qty"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )


def _create_ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("position", ROW_NUMBER, sa.Identity(), nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("causation_step", sa.Integer),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("orderid", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("result", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_ledger"),
        sa.UniqueConstraint("correlation_id", "step", name="uq_ledger_correlation_id_step"),
    )
    op.create_index("ix_ledger_sku", "ledger", ["sku", "position"])
    of_an_order = sa.text("orderid IS NOT NULL")
    op.create_index(
        "ix_ledger_orderid",
        "ledger",
        ["orderid", "position"],
        postgresql_where=of_an_order,
        sqlite_where=of_an_order,
    )


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("number", ROW_NUMBER, sa.Identity(), nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_deliveries"),
        sa.UniqueConstraint("correlation_id", "step", "effect", name="uq_deliveries_correlation_id_step_effect"),
    )

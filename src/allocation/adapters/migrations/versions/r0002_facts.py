"""Facts are kept in the row of their cause, the ledger is read by a view, and a delivery has all it needs with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# One element for the row itself, then its facts, each of them [step, type, body].
ELEMENTS = "'[null' || coalesce(',' || substr(kept.facts, 2), ']')"
UNFOLDED = {
    "sqlite": {
        "elements": f"JOIN json_each({ELEMENTS}) AS told",
        "place": "told.key",
        "step": "json_extract(told.value, '$[0]')",
        "type": "json_extract(told.value, '$[1]')",
        "body": "json_extract(told.value, '$[2]')",
    },
    "postgresql": {
        "elements": (
            f"CROSS JOIN LATERAL json_array_elements(({ELEMENTS})::json) WITH ORDINALITY AS told (value, number)"
        ),
        "place": "(told.number - 1)",
        "step": "CAST(told.value ->> 0 AS integer)",
        "type": "told.value ->> 1",
        "body": "told.value ->> 2",
    },
}
MESSAGES = """
    CREATE VIEW messages AS SELECT
        kept.position,
        kept.correlation_id,
        kept.step AS kept_step,
        {place} AS place,
        CASE WHEN {place} = 0 THEN kept.step ELSE {step} END AS step,
        CASE WHEN {place} = 0 THEN kept.causation_step ELSE kept.step END AS causation_step,
        CASE WHEN {place} = 0 THEN kept.type ELSE {type} END AS type,
        kept.sku,
        kept.orderid,
        CASE WHEN {place} = 0 THEN kept.body ELSE {body} END AS body,
        CASE WHEN {place} = 0 THEN kept.result END AS result,
        kept.actor,
        kept.recorded_at
    FROM ledger AS kept {elements}
"""
FILL = """
    UPDATE deliveries SET (type, body) = (
        SELECT ledger.type, ledger.body FROM ledger
        WHERE ledger.correlation_id = deliveries.correlation_id AND ledger.step = deliveries.step
    )
"""


def upgrade() -> None:
    op.add_column("ledger", sa.Column("facts", sa.Text))
    op.execute(MESSAGES.format_map(UNFOLDED[op.get_context().dialect.name]))
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.add_column(sa.Column("type", sa.Text))
        deliveries.add_column(sa.Column("body", sa.Text))
    op.execute(FILL)
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.alter_column("type", nullable=False)
        deliveries.alter_column("body", nullable=False)

"""The way through the products that have waiting lines, in SQL: one by one, however many lines each has."""

from __future__ import annotations

from sqlalchemy import Connection

# The index that holds nothing but waiting lines. SQLite would take the one by batch instead, and read all of them for
# each product; other databases choose by themselves.
_INDEX = "INDEXED BY ix_order_lines_waiting"


def steps(bounds: str = "sku > ''", *, descending: bool = False) -> str:
    """The beginning of a statement: ``steps`` has the SKUs within these bounds in order, and NULL at the end."""
    end, beyond = ("max", "<") if descending else ("min", ">")
    return f"""
        WITH RECURSIVE steps (sku) AS (
            SELECT {end}(sku) FROM order_lines {_INDEX} WHERE batchref IS NULL AND closed IS NULL AND {bounds}
            UNION ALL
            SELECT (SELECT {end}(later.sku) FROM order_lines AS later {_INDEX}
                WHERE later.batchref IS NULL AND later.closed IS NULL AND later.sku {beyond} steps.sku)
            FROM steps WHERE steps.sku IS NOT NULL
        )
    """


def spelled(statement: str, connection: Connection) -> str:
    """The statement as this database understands it."""
    return statement if connection.dialect.name == "sqlite" else statement.replace(_INDEX, "")

"""SQL is in the read models and in the adapters only; elsewhere SQLAlchemy gives nothing but names of types."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "allocation"
ROOMS = ("adapters", "console_views", "views")
ELSEWHERE = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in ROOMS)
STATEMENT = re.compile(r"\b(SELECT\s|INSERT INTO\s|UPDATE \w+\s+SET\s|DELETE FROM\s|ORDER BY\s|WHERE\s)")
TYPES = {"Connection", "URL"}


def sql_in(source: str) -> Iterator[str]:
    """What has to do with SQL: statements, and what is imported from SQLAlchemy and is no type."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value):
            yield node.value
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "sqlalchemy")
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "sqlalchemy":
            yield from (alias.name for alias in node.names if alias.name not in TYPES)


@pytest.mark.parametrize("module", ELSEWHERE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_read_models_and_adapters_have_sql(module: Path) -> None:
    assert not list(sql_in(module.read_text()))


@pytest.mark.parametrize(
    "planted",
    [
        'NAMED = "SELECT 1 FROM products WHERE sku = :name"',
        'def f(table): return f"DELETE FROM {table}"',
        "import sqlalchemy as sa",
        "from sqlalchemy import Connection, text",
        "def f():\n    from sqlalchemy.sql import column",
    ],
)
def test_sql_is_noticed(planted: str) -> None:
    assert list(sql_in(planted))

"""Shared by all pages of rows: their length, and conversion of values that databases store differently."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, Date, Executable, Row, TextClause, bindparam, text

from allocation.domain.lines import Today

DEFAULT_PAGE = 100
MAX_PAGE = 1_000
MAX_COUNTED = 1_000
MAX_POSITION = 2**63 - 1

AnyRow = Row[*tuple[Any, ...]]


def page_of(connection: Connection, statement: str, limit: int, **values: Any) -> tuple[Sequence[AnyRow], bool]:
    """At most ``limit`` rows, and whether there are more."""
    rows = connection.execute(typed(f"{statement} LIMIT :limit"), {**values, "limit": limit + 1}).all()
    return rows[:limit], len(rows) > limit


def days_of(today: Today) -> dict[str, date]:
    """The values of a statement that asks for the days."""
    return {"today": today.day, "overdue": today.overdue}


def with_days(statement: str) -> TextClause:
    """The statement, told where it asks for the days: SQLite keeps them as text."""
    asked = [bindparam(name, type_=Date) for name in ("today", "overdue") if f":{name}" in statement]
    return text(statement).bindparams(*asked)


def typed(statement: str) -> Executable:
    """The statement, told where it has days and moments: SQLite keeps them as text."""
    told = with_days(statement)
    if ":in_the_warehouse" in statement:
        told = told.bindparams(bindparam("in_the_warehouse", date.min, Date))
    days = {name: Date for name in ("eta", "expires_on", "need_by") if name in statement}
    return told.columns(**days)

"""Dead letters in the database: rows of ``deliveries`` that wait for somebody, and keep their place in their lane."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import URL

from allocation.adapters.connection import OwnConnection, Statements, numbers
from allocation.service_layer.delivering.dead_letters import Chosen, Which, seconds, values_of

COUNT = "SELECT effect, count(*) FROM deliveries WHERE state = 'dead'{and_chosen} GROUP BY effect ORDER BY effect"
RETRY = "UPDATE deliveries SET state = 'pending', settled_at = NULL, attempts = 0 WHERE state = 'dead'{and_chosen}"
DROP = "UPDATE deliveries SET state = 'dropped', settled_at = {now} WHERE state = 'dead'{and_chosen}"
CONDITIONS = {
    "effect": " AND effect = :effect",
    "sku": " AND sku = :sku",
    "older_than": " AND settled_at < {later}",
    "number": " AND number IN {numbers}",
}


class SqlDeadLetters:
    """A retry or a drop is one statement in one transaction, so it is done whole or not at all."""

    def __init__(self, url: URL) -> None:
        self._connection = OwnConnection(url)

    async def retry(self, which: Which, *, dry_run: bool = False) -> Chosen:
        return await self._change(RETRY, which, dry_run=dry_run)

    async def drop(self, which: Which, *, dry_run: bool = False) -> Chosen:
        return await self._change(DROP, which, dry_run=dry_run)

    async def close(self) -> None:
        await self._connection.close()

    async def _change(self, statement: str, which: Which, *, dry_run: bool) -> Chosen:
        given = values_of(which)
        conditions = "".join(CONDITIONS[name] for name in given)
        values: dict[str, Any] = {name: given[name] for name in given if name in {"effect", "sku"}}
        if which.older_than is not None:
            values["seconds"] = -float(seconds(which.older_than))
        if which.number is not None:
            values["numbers"] = numbers([which.number])

        def change(statements: Statements) -> Chosen:
            chosen = dict(statements.rows(COUNT.replace("{and_chosen}", conditions), **values))
            if not dry_run:
                statements.do(statement.replace("{and_chosen}", conditions), **values)
            return Chosen(sum(chosen.values()), chosen, dry_run)

        return await self._connection.run_in_transaction(change)

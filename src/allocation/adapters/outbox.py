"""The deliveries in the database and the leases on them, as one relay sees them."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.engine import URL

from allocation.adapters.connection import OwnConnection, Statements, numbers
from allocation.service_layer.delivering.effects import Delivery
from allocation.service_layer.delivering.leases import PARTITIONS, Lease, partition_of, share
from allocation.service_layer.delivering.relay import Failure, Leased, Results
from allocation.service_layer.writing.store import StoreUnavailable, as_moment

RELAY_MEMORY_S = 3_600.0  # how long the row of a relay that died stays
ALL_PARTITIONS = numbers(range(PARTITIONS))

# By the index of the pending ones from one effect's first row to the next effect's: never along a backlog. Only pending
# ones have a next attempt, and an index of their own: with ``state`` asked for as well, that of all would be taken.
WAITING = """
    WITH RECURSIVE pending (effect) AS (
        SELECT min(effect) FROM deliveries WHERE state = 'pending'
        UNION ALL
        SELECT (SELECT min(later.effect) FROM deliveries AS later
            WHERE later.state = 'pending' AND later.effect > pending.effect)
        FROM pending WHERE pending.effect IS NOT NULL
    )
    SELECT pending.effect, (
        SELECT count(*) FROM deliveries AS held WHERE held.effect = pending.effect AND held.next_attempt_at > {now}
    ) FROM pending WHERE pending.effect IS NOT NULL
"""
# Each row looks up by index whether its lane waits: a join would be planned for empty tables. One clock reading serves
# all rows: otherwise a lane whose pause ends during the read would be entered in its middle. The effect is queried as a
# range of one value, and sorted: only the index of pending deliveries has that order. With ``effect = :effect`` the
# primary key has it too, and the database might read all kept deliveries along it.
DUE = """
    WITH clock AS MATERIALIZED (SELECT {now} AS now)
    SELECT number, correlation_id, step, effect, sku, type, body, attempts, (
        SELECT recorded_at FROM ledger WHERE ledger.correlation_id = owed.correlation_id AND ledger.step = 0
    ) FROM deliveries AS owed
    WHERE owed.state = 'pending' AND owed.effect >= :effect AND owed.effect <= :effect
        AND {partition} {is_one_of_numbers}
        AND (
            SELECT held.number FROM deliveries AS held
            WHERE held.effect = owed.effect AND held.sku = owed.sku AND held.number <= owed.number
                AND held.next_attempt_at > (SELECT now FROM clock) LIMIT 1
        ) IS NULL
"""
UNLESS_DEAD = """
        AND (
            SELECT dead.number FROM deliveries AS dead
            WHERE dead.effect = owed.effect AND dead.sku = owed.sku AND dead.number < owed.number
                AND dead.state = 'dead' LIMIT 1
        ) IS NULL
"""
OLDEST = " ORDER BY owed.effect, owed.number LIMIT :limit"

DONE = "DELETE FROM deliveries WHERE number IN {numbers} AND state = 'pending'"
KEPT = (
    "UPDATE deliveries SET state = 'done', settled_at = {now}, next_attempt_at = NULL"
    " WHERE number IN {numbers} AND state = 'pending'"
)
FAILED = (
    "UPDATE deliveries SET attempts = :attempts, next_attempt_at = {later}, error = :error, stack = :stack"
    " WHERE number IN {numbers} AND state = 'pending'"
)
GIVEN_UP = (
    "UPDATE deliveries SET attempts = :attempts, next_attempt_at = NULL, error = :error, stack = :stack,"
    " state = 'dead', settled_at = {now} WHERE number IN {numbers} AND state = 'pending'"
)
TIDY = (
    "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries"
    " WHERE state <> 'pending' AND state = :state AND settled_at < {later} ORDER BY settled_at LIMIT :limit)"
)

ALIVE = (
    "INSERT INTO relays (name, expires_at) VALUES (:me, {later})"
    " ON CONFLICT (name) DO UPDATE SET expires_at = excluded.expires_at"
)
RELAYS = "SELECT name FROM relays WHERE expires_at > {now}"
GONE = "DELETE FROM relays WHERE name = :me"
FORGET_RELAYS = "DELETE FROM relays WHERE expires_at < {later}"
NEW_LEASE = "INSERT INTO leases (partition, epoch) VALUES (:partition, 0) ON CONFLICT DO NOTHING"
LEASES = (
    "SELECT partition, holder, epoch, holder IS NULL OR expires_at <= {now} FROM leases"
    " WHERE partition IN {numbers} ORDER BY partition {for_update}"
)
HOLD = "UPDATE leases SET holder = :me, epoch = :epoch, expires_at = {later} WHERE partition = :partition"
RELEASE = "UPDATE leases SET holder = NULL, expires_at = NULL WHERE partition IN {numbers} AND holder = :me"
FENCE = "SELECT partition, epoch FROM leases WHERE holder = :me ORDER BY partition {for_share}"


class Outbox:
    """The deliveries of one database. ``name`` tells the relay from every other; None makes one up."""

    def __init__(self, url: URL, name: str | None = None) -> None:
        self._connection = OwnConnection(url)
        self._me = name or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._known = False  # whether the others may know of us

    async def waiting(self) -> Mapping[str, int]:
        rows = await self._connection.run(lambda statements: statements.rows(WAITING))
        return dict(rows)

    async def due(
        self, effect: str, partitions: Collection[int], limit: int, *, dead_letters_hold: bool
    ) -> Sequence[Delivery]:
        statement = f"{DUE}{UNLESS_DEAD if dead_letters_hold else ''}{OLDEST}"
        rows = await self._connection.run(
            lambda statements: statements.rows(statement, effect=effect, numbers=numbers(partitions), limit=limit)
        )
        return [Delivery._make((*row[:8], row[8] and as_moment(row[8]))) for row in rows]

    async def lease(self, in_use: Collection[int], lease_s: float) -> Leased:
        self._known = True
        return await self._connection.run_in_transaction(lambda statements: self._share(statements, in_use, lease_s))

    def _share(self, statements: Statements, in_use: Collection[int], lease_s: float) -> Leased:
        statements.do(ALIVE, me=self._me, seconds=lease_s)
        leases = _locked(statements)
        relays = {self._me, *(name for (name,) in statements.rows(RELAYS))}
        plan = share(leases, relays, self._me, in_use)
        epochs = {**plan.kept, **plan.taken}
        for partition, epoch in epochs.items():
            statements.do(HOLD, me=self._me, partition=partition, epoch=epoch, seconds=lease_s)
        statements.do(RELEASE, me=self._me, numbers=numbers(plan.released))
        if plan.taken:
            statements.do(FORGET_RELAYS, seconds=-RELAY_MEMORY_S)
        return Leased(epochs, epochs.keys() - plan.draining)

    async def release(self) -> None:
        def release(statements: Statements) -> None:
            statements.do(RELEASE, me=self._me, numbers=ALL_PARTITIONS)
            statements.do(GONE, me=self._me)

        await self._connection.run_in_transaction(release)
        self._known = False

    async def settle(self, epochs: Mapping[int, int], results: Results, *, keep_done: bool) -> int:
        def settle(statements: Statements) -> int:
            ours = self._still_ours(statements, epochs)
            done = [each.number for each in results.done if partition_of(each.sku) in ours]
            failures = [each for each in results.failures if partition_of(each.delivery.sku) in ours]
            if done:
                statements.do(KEPT if keep_done else DONE, numbers=numbers(done))
            for failure in failures:
                _write_down(statements, failure)
            return len(done) + len(failures)

        return await self._connection.run_in_transaction(settle) if results.done or results.failures else 0

    def _still_ours(self, statements: Statements, epochs: Mapping[int, int]) -> Collection[int]:
        """Of these partitions; their leases stay locked, so that nobody takes one over before this is committed."""
        held = statements.rows(FENCE, me=self._me)
        return {partition for partition, epoch in held if epochs.get(partition) == epoch}

    async def tidy(self, states: Collection[str], older_than_s: float, limit: int) -> int:
        def tidy(statements: Statements) -> int:
            return sum(statements.do(TIDY, state=state, seconds=-older_than_s, limit=limit) for state in states)

        return await self._connection.run(tidy)

    async def close(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # the leases end by themselves
            if self._known:
                await self.release()
        await self._connection.close()


def _locked(statements: Statements) -> Sequence[Lease]:
    """All leases, locked; a database that has none yet gets them."""
    rows = statements.rows(LEASES, numbers=ALL_PARTITIONS)
    if len(rows) < PARTITIONS:
        for partition in range(PARTITIONS):
            statements.do(NEW_LEASE, partition=partition)
        rows = statements.rows(LEASES, numbers=ALL_PARTITIONS)
    return [Lease(partition, holder, epoch, bool(free)) for partition, holder, epoch, free in rows]


def _write_down(statements: Statements, failure: Failure) -> None:
    delivery, attempts, error, stack, retry_in_s = failure
    values = {"numbers": numbers([delivery.number]), "attempts": attempts, "error": error, "stack": stack}
    if retry_in_s is None:
        statements.do(GIVEN_UP, **values)
    else:
        statements.do(FAILED, **values, seconds=retry_in_s)

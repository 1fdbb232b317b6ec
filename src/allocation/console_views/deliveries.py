"""Effects: their pending deliveries, how long these have waited, and their dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from allocation.console_views.overview import MOST_COUNTED
from allocation.service_layer.writing.store import as_moment


class EffectRow(NamedTuple):
    """An effect. Counting stops at `MOST_COUNTED`.

    ``oldest`` is the recorded time of the oldest pending delivery's message. ``held`` is the number of deliveries that
    wait for their next attempt, and ``trouble`` the last error of the oldest of them.
    """

    effect: str
    pending: int
    held: int
    dead: int
    oldest: datetime | None
    trouble: str | None


def effects(connection: Connection, declared: Iterable[str]) -> Sequence[EffectRow]:
    """All present effects, and every effect with deliveries, by name."""
    pending = set(connection.scalars(text(_WITH_PENDING)))
    dead = set(connection.scalars(text(_WITH_DEAD)))
    return [_effect(connection, effect) for effect in sorted({*declared, *pending, *dead})]


_WITH_PENDING = """
    WITH RECURSIVE pending (effect) AS (
        SELECT min(effect) FROM deliveries WHERE state = 'pending'
        UNION ALL
        SELECT (SELECT min(later.effect) FROM deliveries AS later
            WHERE later.state = 'pending' AND later.effect > pending.effect)
        FROM pending WHERE pending.effect IS NOT NULL
    ) SELECT effect FROM pending WHERE effect IS NOT NULL
"""
_WITH_DEAD = _WITH_PENDING.replace("'pending'", "'dead'")
_COUNT = f"SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE {{}} LIMIT {MOST_COUNTED + 1}) AS counted"
_PENDING = "effect = :effect AND state = 'pending'"
_HELD = "effect = :effect AND next_attempt_at IS NOT NULL"
_DEAD = "effect = :effect AND state = 'dead'"
_OLDEST = f"""
    SELECT (
        SELECT recorded_at FROM ledger WHERE ledger.correlation_id = owed.correlation_id AND ledger.step = 0
    ) FROM deliveries AS owed WHERE {_PENDING} ORDER BY number LIMIT 1
"""
_TROUBLE = f"SELECT error FROM deliveries WHERE {_HELD} ORDER BY number LIMIT 1"


def _effect(connection: Connection, effect: str) -> EffectRow:
    about = {"effect": effect}
    pending, held, dead = (_count(connection, state, about) for state in (_PENDING, _HELD, _DEAD))
    oldest = connection.execute(text(_OLDEST), about).scalar_one_or_none()
    trouble = connection.execute(text(_TROUBLE), about).scalar_one_or_none() if held else None
    return EffectRow(effect, pending, held, dead, as_moment(oldest) if oldest else None, trouble)


def _count(connection: Connection, state: str, about: Mapping[str, str]) -> int:
    counted: int = connection.execute(text(_COUNT.format(state)), about).scalar_one()
    return counted

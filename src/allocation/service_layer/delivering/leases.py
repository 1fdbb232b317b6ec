"""Who delivers what: the SKUs are divided into partitions, and a relay delivers those that it has a lease on.

A lease ends by itself when its holder does not renew it. Every new holder raises its epoch, and whatever is written for
a partition is written under an epoch: a holder that slept while another one took over can write nothing any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

PARTITIONS: Final = 8  # more relays than these have nothing to do; databases hash alike, so it is not to be changed


def partition_of(sku: str) -> int:
    """The same for a SKU for ever, in every process and database."""
    return hashlib.sha256(sku.encode()).digest()[0] % PARTITIONS


class Lease(NamedTuple):
    """Who delivers a partition. ``holder`` is None, or may be replaced, if ``free``."""

    partition: int
    holder: str | None
    epoch: int
    free: bool


class Plan(NamedTuple):
    """What becomes of the leases: by partition, those a relay keeps or takes, with the epoch it has them under."""

    kept: Mapping[int, int]
    taken: Mapping[int, int]
    released: Sequence[int]
    draining: Collection[int]  # kept until what is under way in them is settled, and to be released then


def share(leases: Sequence[Lease], relays: Collection[str], me: str, in_use: Collection[int]) -> Plan:
    """A fair share for each of the relays that are alive, as few as possible changing hands.

    What is above the share is released, but for the partitions ``in_use``: those drain first.
    """
    mine = sorted((lease for lease in leases if lease.holder == me), key=lambda lease: lease.partition not in in_use)
    number = _fair_number(relays, me)
    surplus = mine[number:]
    released = [lease.partition for lease in surplus if lease.partition not in in_use]
    kept = {lease.partition: lease.epoch for lease in mine if lease.partition not in released}
    free = [lease for lease in leases if lease.free and lease.holder != me]
    taken = {lease.partition: lease.epoch + 1 for lease in free[: max(number - len(mine), 0)]}
    return Plan(kept, taken, released, {lease.partition for lease in surplus} - set(released))


def _fair_number(relays: Collection[str], me: str) -> int:
    each, rest = divmod(PARTITIONS, len(relays))
    return each + (sorted(relays).index(me) < rest)

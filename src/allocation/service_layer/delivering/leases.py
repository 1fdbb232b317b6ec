"""Shares deliveries between relays: SKUs are divided into partitions, and a relay delivers the partitions it leases.

A lease ends if its holder does not renew it. Every new holder increments its epoch, and every write for a partition
checks the epoch: a holder that slept while another one took over can no longer write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

PARTITIONS: Final = 8  # further relays are idle; databases compute the same hash, so never change it


def partition_of(sku: str) -> int:
    """The partition of a SKU. It never changes, and is the same in every process and database."""
    return hashlib.sha256(sku.encode()).digest()[0] % PARTITIONS


class Lease(NamedTuple):
    """The lease of a partition. If ``free``, there is no ``holder``, or it may be replaced."""

    partition: int
    holder: str | None
    epoch: int
    free: bool


class Plan(NamedTuple):
    """A relay's new leases: the epochs of the partitions that it keeps or takes, by partition."""

    kept: Mapping[int, int]
    taken: Mapping[int, int]
    released: Sequence[int]
    draining: Collection[int]  # kept until their deliveries under way are settled, then released


def share(leases: Sequence[Lease], relays: Collection[str], me: str, in_use: Collection[int]) -> Plan:
    """A fair share for each living relay, with as few partitions as possible changing hands.

    Partitions above the share are released; those ``in_use`` drain first.
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

"""How relays share the partitions: fairly, and with as few as possible changing hands."""

from __future__ import annotations

from collections import Counter

import pytest

from allocation.service_layer.delivering.leases import PARTITIONS, Lease, Plan, partition_of, share


def leases(*holders: str | None) -> list[Lease]:
    """A name in capitals is a holder whose lease has ended."""
    given = [*holders, *[None] * (PARTITIONS - len(holders))]
    return [
        Lease(number, holder and holder.lower(), 7, holder is None or holder.isupper())
        for number, holder in enumerate(given)
    ]


def plan(held: list[Lease], relays: str, in_use: set[int] | None = None) -> Plan:
    return share(held, set(relays), "a", in_use or set())


def test_the_partition_of_a_sku_is_the_same_for_ever() -> None:
    assert [partition_of(sku) for sku in ("CHAIR", "TABLE", "SOFA", "ÉTAGÈRE", "椅子")] == [2, 2, 6, 7, 5]


def test_skus_spread_over_all_partitions() -> None:
    numbers = Counter(partition_of(f"SKU-{number}") for number in range(8_000))
    assert sorted(numbers) == list(range(PARTITIONS))
    assert min(numbers.values()) > 850


def test_a_relay_alone_takes_all_under_new_epochs() -> None:
    assert plan(leases(), "a").taken == dict.fromkeys(range(PARTITIONS), 8)


def test_what_is_held_is_kept_under_its_epoch() -> None:
    assert plan(leases(*"aaaaaaaa"), "a") == Plan(dict.fromkeys(range(PARTITIONS), 7), {}, [], set())


def test_a_lease_of_ours_that_nobody_took_goes_on() -> None:
    assert plan(leases(*"AAAAAAAA"), "a").kept == dict.fromkeys(range(PARTITIONS), 7)


def test_leases_that_last_are_left_alone_and_those_that_ended_are_taken() -> None:
    assert plan(leases(*"bbbbBBBB"), "ab").taken == dict.fromkeys(range(4, 8), 8)


def test_a_newcomer_gets_its_share_from_whoever_has_more() -> None:
    assert plan(leases(*"aaaaaaaa"), "ab").released == [4, 5, 6, 7]


def test_what_is_under_way_drains_before_it_is_released() -> None:
    found = plan(leases(*"aaaaaaaa"), "ab", in_use=set(range(PARTITIONS)))
    assert (found.released, found.draining) == ([], {4, 5, 6, 7})
    assert set(found.kept) == set(range(PARTITIONS))


@pytest.mark.parametrize("relays", ["ab", "abc", "abcdefgh", "abcdefghij"])
def test_shares_differ_by_one_at_most_and_cover_everything(relays: str) -> None:
    held = leases()
    for _ in range(2):
        for relay in relays:
            found = share(held, set(relays), relay, set())
            for partition in found.taken:
                held[partition] = Lease(partition, relay, 8, free=False)
    numbers = Counter(lease.holder for lease in held)
    assert None not in numbers
    assert max(numbers.values()) - min(numbers.values()) <= 1

"""What a group reads, and what it writes to be sure that nobody was there in between."""

from __future__ import annotations

from allocation.adapters.memory import MemorySession, MemoryTables
from allocation.domain.events import AllocationRequired, BatchQuantityChanged, Event
from allocation.service_layer.writing.ahead import ReadAhead
from allocation.service_layer.writing.group import GroupUnitOfWork, wanted_by
from allocation.service_layer.writing.store import Changes, Loaded, ProductVersion, Wanted
from allocation.testing.store import MOMENT, SKU, batch, ledger, line, product
from tests.builders import message


def changes_by(event: Event, key: str | None = None) -> Changes:
    """What a message changes of a product with a batch, a line on it, and a message with that key."""
    known = ledger("known")._replace(type="AllocationRequired", body=f'{{"orderid":"o1","sku":"{SKU}","qty":1}}')
    tables = MemoryTables(
        {SKU: product(version=2)},
        {"b1": batch(allocated=1)},
        {("o1", SKU): line("o1")},
        {"known": [(known, MOMENT)]},
    )
    uow = GroupUnitOfWork(MemorySession(tables), MOMENT)
    asked = message(event, key)
    uow.load(wanted_by([asked], check_ids=False))
    uow.handle(asked)
    return uow.changes()


def test_what_a_message_found_as_it_should_be_has_to_stay_so_until_it_is_written() -> None:
    same_version = [ProductVersion(SKU, 2, 0, loaded_version=2)]
    for event in (BatchQuantityChanged("b1", 10), AllocationRequired("o1", SKU, 1)):
        changes = changes_by(event)
        assert (changes.products, changes.batches, changes.lines) == (same_version, [], [])


def test_a_repeat_answered_from_the_ledger_does_not_mind_what_others_do() -> None:
    changes = changes_by(AllocationRequired("o1", SKU, 1), "known")
    assert (changes.products, changes.messages) == ([], [])


def test_a_message_read_after_it_was_written_and_before_that_is_known_counts_once() -> None:
    row, fact = ledger("m1"), ledger("m1", 1)
    ahead = ReadAhead(Loaded(messages=[row, fact]), Changes(MOMENT, messages=[row, fact, ledger("m2")]))
    assert ahead.load(Wanted(message_ids={"m1"})).messages == [row, fact]

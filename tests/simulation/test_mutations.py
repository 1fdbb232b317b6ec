"""Breaks the code in one place at a time, and sees the simulation find it."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest
from sqlalchemy.util import await_only

from allocation.adapters import outbox
from allocation.adapters.memory import MemorySession
from allocation.adapters.outbox import Outbox
from allocation.domain import events, standing
from allocation.domain.model import Batch, OrderLine, Product, Promise
from allocation.domain.state import DayOf
from allocation.domain.stock import Arrived
from allocation.service_layer import messagebus
from allocation.service_layer.delivering import relay
from allocation.service_layer.delivering.effects import Delivery
from allocation.service_layer.delivering.relay import Relay, Results
from allocation.service_layer.messages import Message
from allocation.service_layer.writing import ahead, group, ledger, products, rows, writer
from allocation.service_layer.writing.group import GroupUnitOfWork, handle_each
from allocation.service_layer.writing.products import StoredProducts
from allocation.service_layer.writing.store import Changes, Loaded, Wanted
from allocation.service_layer.writing.warm import WarmProducts
from allocation.service_layer.writing.writer import Writer
from tests.simulation.plan import told
from tests.simulation.search import search

SEEDS = 10_000

Mutation = Callable[[pytest.MonkeyPatch], None]


def lost_event(patch: pytest.MonkeyPatch) -> None:
    """Nobody calls the lines that wait when stock appears."""
    patch.setattr(Product, "_call_lines", lambda *_: None)


def lines_freed_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    """The lines freed are called newest first."""
    patch.setattr(Product, "_service_key", lambda _, line: (-line.priority, -line.position))


def oldest_lines_freed(patch: pytest.MonkeyPatch) -> None:
    """A batch cut short gives up what it promised first."""
    lines_to_lose = Batch.lines_to_lose

    def mutated(self: Batch) -> Iterator[OrderLine]:
        return reversed(list(lines_to_lose(self)))

    patch.setattr(Batch, "lines_to_lose", mutated)


def skipped_version(patch: pytest.MonkeyPatch) -> None:
    """A line that is served does not change the product's version."""

    placed = standing.placed

    def mutated(product: standing.Evolving, before: Promise | None, fact: Any) -> Promise:
        version = product.version_number
        after = placed(product, before, fact)
        if before is not None and before.is_waiting:
            product.version_number = version
        return after

    patch.setitem(cast("dict[Any, Any]", standing.LINES), events.Allocated, mutated)


def waiting_counter_not_decremented(patch: pytest.MonkeyPatch) -> None:
    end_waiting = Product.end_waiting

    def mutated(self: Product, line: OrderLine) -> None:
        end_waiting(self, line)
        self.begin_waiting(line)

    patch.setattr(Product, "end_waiting", mutated)


def version_not_checked(patch: pytest.MonkeyPatch) -> None:
    """The store writes whatever it is given, however old."""
    check = MemorySession._check

    def mutated(self: MemorySession, changes: Changes) -> None:
        check(self, dataclasses.replace(changes, products=[]))

    patch.setattr(MemorySession, "_check", mutated)


def unchanged_products_not_guarded(patch: pytest.MonkeyPatch) -> None:
    """A message that changes nothing does not mind what others do to its product."""
    write_to = StoredProducts.write_to

    def mutated(self: StoredProducts, changes: Changes) -> None:
        write_to(self, changes)
        changes.products = [row for row in changes.products if row.version_number != row.loaded_version]

    patch.setattr(StoredProducts, "write_to", mutated)


def answered_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    async def mutated(*_: object) -> bool:
        return True

    patch.setattr(Writer, "_has_landed", mutated)


def refused_write_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """Whatever a write raises is forgotten."""
    write = Writer._write

    async def mutated(self: Writer, changes: Changes) -> None:
        try:
            await write(self, changes)
        except Exception:  # noqa: BLE001 - that is the fault
            return

    patch.setattr(Writer, "_write", mutated)


def following_group_not_done_again(patch: pytest.MonkeyPatch) -> None:
    """What was handled on a group that failed is dropped."""
    commit = Writer._commit

    async def mutated(self: Writer, messages: Sequence[Message], *, check_ids: bool = False) -> Any:
        return await commit(self, messages, check_ids=True) if check_ids else []

    answer = Writer._answer

    def none_for_none(self: Writer, entries: Any, outcomes: Any) -> None:
        if outcomes:
            answer(self, entries, outcomes)

    patch.setattr(Writer, "_commit", mutated)
    patch.setattr(Writer, "_answer", none_for_none)


def applied_twice_after_a_lost_commit(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether a lost commit happened, and the store takes the same message twice."""
    check = MemorySession._check

    def mutated(self: MemorySession, changes: Changes) -> None:
        check(self, dataclasses.replace(changes, messages=[]))

    patch.setattr(MemorySession, "_check", mutated)
    patch.setattr(writer, "wanted_by", lambda messages, **_: group.wanted_by(messages, check_ids=False))


def refused_handled_again(patch: pytest.MonkeyPatch) -> None:
    """After a commit that nobody learnt of, who was refused is handled on what came after."""
    patch.setattr(writer, "handle_again", lambda messages, uow, _: handle_each(messages, uow))


def outcome_not_recalled(patch: pytest.MonkeyPatch) -> None:
    """A repeated key is handled as if it were new."""
    patch.setattr(GroupUnitOfWork, "_recall_outcomes", lambda *_: None)


def outcome_recalled_in_part(patch: pytest.MonkeyPatch) -> None:
    """A repeat is told what its message did, but for the last thing."""
    recall_outcomes = GroupUnitOfWork._recall_outcomes

    def mutated(self: GroupUnitOfWork, rows: Any) -> None:
        recall_outcomes(self, rows)
        for id_, outcome in self._outcomes.items():
            self._outcomes[id_] = outcome._replace(raised=outcome.raised[:-1])

    patch.setattr(GroupUnitOfWork, "_recall_outcomes", mutated)


def delivery_not_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(group, "fold", lambda *arguments: (ledger.fold(*arguments)[0], []))


def answers_mixed_up(patch: pytest.MonkeyPatch) -> None:
    answer = Writer._answer

    def mutated(self: Writer, entries: Any, outcomes: Sequence[Any]) -> None:
        answer(self, entries, outcomes[::-1])

    patch.setattr(Writer, "_answer", mutated)


def torn_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit leaves out the last of the lines it moves."""
    write = MemorySession._write

    def mutated(self: MemorySession, changes: Changes) -> None:
        write(self, dataclasses.replace(changes, lines=changes.lines[:-1]))

    patch.setattr(MemorySession, "_write", mutated)


def read_twice(patch: pytest.MonkeyPatch) -> None:
    """A group's messages count twice when they are read after they were written, and it is not known yet."""
    with_changes = ahead._with

    def mutated(changes: Changes, read: Loaded, wanted: Wanted) -> Loaded:
        found = with_changes(changes, read, wanted)
        found.messages = [*read.messages, *(row for row in changes.messages if row[0] in wanted.message_ids)]
        return found

    patch.setattr(ahead, "_with", mutated)


def unwritten_products_kept(patch: pytest.MonkeyPatch) -> None:
    """Products stay as a group made them that was never written, until another process makes the same version."""
    patch.setattr(WarmProducts, "clear", lambda _: None)
    patch.setattr(WarmProducts, "forget", lambda *_: None)


def lines_of_the_flight_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A line is not known while it is being written, and the store takes the same line twice."""
    with_changes = ahead._with

    def mutated(changes: Changes, read: Loaded, wanted: Wanted) -> Loaded:
        return with_changes(dataclasses.replace(changes, new_lines=[], lines=[]), read, wanted)

    check = MemorySession._check

    def careless(self: MemorySession, changes: Changes) -> None:
        check(self, dataclasses.replace(changes, new_lines=[]))

    patch.setattr(ahead, "_with", mutated)
    patch.setattr(MemorySession, "_check", careless)


def handled_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """The newest message of a group is handled first."""
    take = Writer._take
    patch.setattr(Writer, "_take", lambda self, before: take(self, before)[::-1])


def raised_last_first(patch: pytest.MonkeyPatch) -> None:
    """The bus handles what was raised last before what was raised first."""

    class Stack(deque[Any]):
        def popleft(self) -> Any:
            return self.pop()

    patch.setattr(messagebus, "deque", Stack)


def marked_before_it_is_done(patch: pytest.MonkeyPatch) -> None:
    """What is read to be told is written down as told at once."""
    run_page = Relay._run_page

    def mutated(self: Relay, page: Sequence[Delivery], epochs: Mapping[int, int]) -> Results:
        await_only(self._outbox.settle(epochs, Results([*page]), keep_done=False))
        return run_page(self, page, epochs)

    patch.setattr(Relay, "_run_page", mutated)


def epoch_ignored(patch: pytest.MonkeyPatch) -> None:
    """Whoever has told writes that down, whoever has the lease by now."""
    patch.setattr(Outbox, "_still_ours", lambda _, __, epochs: epochs)


def followers_not_held_back(patch: pytest.MonkeyPatch) -> None:
    """A delivery that waits for its next attempt holds back itself alone."""
    patch.setattr(outbox, "DUE", outbox.DUE.replace("held.number <= owed.number", "held.number = owed.number"))


def dead_letters_never_hold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbox, "UNLESS_DEAD", "")


def newest_told_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbox, "OLDEST", outbox.OLDEST.replace("owed.number", "owed.number DESC"))


def lease_taken_from_its_holder(patch: pytest.MonkeyPatch) -> None:
    """A relay takes over leases that have not ended."""
    patch.setattr(outbox, "LEASES", outbox.LEASES.replace("holder IS NULL OR expires_at <= {now}", "1"))


def lease_never_taken_over(patch: pytest.MonkeyPatch) -> None:
    """A lease that nobody gave back is never free."""
    patch.setattr(outbox, "LEASES", outbox.LEASES.replace("OR expires_at <= {now}", ""))


def lease_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """A relay goes on with what it has read, however long it stood still."""
    patch.setattr(Relay, "_is_ours", lambda *_: True)


def target_down_is_an_attempt(patch: pytest.MonkeyPatch) -> None:
    """It is the fault of the message that its target is down."""

    class Never(Exception):
        pass

    patch.setattr(relay, "Unreachable", Never)


def unknown_outcome_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """An effect that failed is not tried again."""
    attempt = Relay._attempt

    def mutated(self: Relay, delivery: Delivery) -> None:
        attempt(self, delivery)

    patch.setattr(Relay, "_attempt", mutated)


def days_not_told(patch: pytest.MonkeyPatch) -> None:
    """A promise moves to another day, and nobody is told."""
    patch.setattr(Product, "_tell_day", lambda *_: None)


def only_quantities_of_batches_written(patch: pytest.MonkeyPatch) -> None:
    """What a batch has become besides (received, shipped from, in quarantine) is forgotten."""
    write = MemorySession._write

    def mutated(self: MemorySession, changes: Changes) -> None:
        batches = [*changes.batches, *changes.rewritten_batches]
        write(self, dataclasses.replace(changes, batches=batches, rewritten_batches=[]))

    patch.setattr(MemorySession, "_write", mutated)


def lines_of_unusual_priority_not_found(patch: pytest.MonkeyPatch) -> None:
    """Holds, pinned lines and those of a priority are not seen where they stand."""
    patch.setattr(MemorySession, "priorities", lambda *_: ())


def newest_line_served_first(patch: pytest.MonkeyPatch) -> None:
    """What has arrived of a batch goes to the lines that came last."""

    def mutated(self: Product, batch: Batch, arrived: Arrived) -> None:
        room = arrived.quantity - arrived.allocated_quantity
        for line in sorted(batch.lines_to_lose(), key=lambda line: -line.position):
            if not line.arrived and line.qty <= room:
                room -= line.qty
                self._serve([line], batch, arrived=True)

    patch.setattr(Product, "_serve_arrived", mutated)


def lines_served_not_counted(patch: pytest.MonkeyPatch) -> None:
    """What has arrived of a batch is not used up by the lines that get it."""
    patch.setattr(Arrived, "hold", lambda *_: None)


def rest_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What has not come with a receipt never comes."""
    received = standing.received

    def mutated(product: standing.Evolving, fact: events.BatchReceived) -> None:
        received(product, dataclasses.replace(fact, rest="closed", rest_eta=None))

    patch.setitem(cast("dict[Any, Any]", standing.STOCK), events.BatchReceived, mutated)


def lines_of_a_whole_batch_still_served_in_part(patch: pytest.MonkeyPatch) -> None:
    """All of a batch has come, or nothing of it, and lines say that they have stock of the part that had."""
    serve_again = Product._serve_again

    def mutated(self: Product, batch: Batch, fact: events.Event, day_of: DayOf, *, was_in_parts: bool) -> DayOf:
        return serve_again(self, batch, fact, day_of, was_in_parts=was_in_parts and batch.arrived is not None)

    patch.setattr(Product, "_serve_again", mutated)


def count_taken_for_one_of_now(patch: pytest.MonkeyPatch) -> None:
    """What came and left since a count is not reckoned with."""
    patch.setattr(StoredProducts, "moved", lambda *_: 0)


def one_batch_of_a_delivery_received(patch: pytest.MonkeyPatch) -> None:
    """A delivery has several batches of a product, and one of them stays due."""
    receive_delivery = Product.receive_delivery

    def mutated(self: Product, refs: Sequence[str], *solve: Any) -> None:
        receive_delivery(self, refs[:1], *solve)

    patch.setattr(Product, "receive_delivery", mutated)


def retired_product_sold(patch: pytest.MonkeyPatch) -> None:
    """That a product is retired is told, and forgotten."""
    patch.setattr(Product, "retire", lambda *_, retired: retired)


def parts_forgotten_between_groups(patch: pytest.MonkeyPatch) -> None:
    """A batch that is loaded is whole, whatever has arrived of it."""
    patch.setattr(
        products, "batch_of", lambda row, records: rows.batch_of(row._replace(arrived_quantity=None), records)
    )


MUTATIONS: Sequence[Mutation] = (
    lost_event,
    lines_freed_in_the_wrong_order,
    oldest_lines_freed,
    skipped_version,
    waiting_counter_not_decremented,
    version_not_checked,
    unchanged_products_not_guarded,
    answered_before_the_commit,
    refused_write_taken_for_done,
    following_group_not_done_again,
    applied_twice_after_a_lost_commit,
    refused_handled_again,
    outcome_not_recalled,
    outcome_recalled_in_part,
    delivery_not_written,
    answers_mixed_up,
    torn_commit,
    read_twice,
    unwritten_products_kept,
    lines_of_the_flight_forgotten,
    handled_out_of_order,
    raised_last_first,
    marked_before_it_is_done,
    epoch_ignored,
    followers_not_held_back,
    dead_letters_never_hold,
    newest_told_first,
    lease_taken_from_its_holder,
    lease_never_taken_over,
    lease_not_looked_at,
    target_down_is_an_attempt,
    unknown_outcome_taken_for_done,
    days_not_told,
    only_quantities_of_batches_written,
    lines_of_unusual_priority_not_found,
    newest_line_served_first,
    lines_served_not_counted,
    rest_forgotten,
    lines_of_a_whole_batch_still_served_in_part,
    count_taken_for_one_of_now,
    one_batch_of_a_delivery_received,
    retired_product_sold,
    parts_forgotten_between_groups,
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_fault_in_the_code_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    result = search(range(SEEDS), shorten=False)
    assert result.failure is not None, f"not found in {SEEDS} histories"


def test_the_history_found_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    version_not_checked(monkeypatch)
    failure = search(range(SEEDS)).failure
    assert failure is not None
    assert failure.found
    assert len(failure.history.sends) + len(failure.history.faults) <= 6, told(failure.history)

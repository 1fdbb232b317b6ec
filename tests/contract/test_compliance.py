"""The suites for others find what is wrong: stores and targets that break one promise each fail the test of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from allocation.adapters.memory import MemorySession
from allocation.domain.lines import Fit, Today
from allocation.domain.model import Miscount
from allocation.service_layer.delivering.effects import Unreachable
from allocation.service_layer.writing.store import Changes, LineRow, Loaded, StoreConflict, TimedRow, Wanted
from allocation.testing import EffectTargetCompliance, StoreCompliance
from allocation.testing.rows import SKU
from tests.contract.test_store import TestMemory as MemoryCompliance

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "write-a-store.md"


class Forgetful(MemorySession):
    def save(self, changes: Changes) -> None:
        super().save(dataclasses.replace(changes, deliveries=[]))


class Careless(MemorySession):
    def _check(self, changes: Changes) -> None:
        super()._check(dataclasses.replace(changes, products=[]))


class Trusting(MemorySession):
    def _check(self, changes: Changes) -> None:
        for row in changes.products:
            if self._tables.products[row.sku].version_number != row.loaded_version:
                raise StoreConflict(row.sku)


class Hasty(MemorySession):
    def save(self, changes: Changes) -> None:
        self._check(changes)
        self._write(changes)


class Generous(MemorySession):
    def load(self, wanted: Wanted) -> Loaded:
        found = super().load(wanted)
        found.batches = [row for row in self._tables.batches.values() if row.sku in wanted.skus]
        return found


class Backward(MemorySession):
    def waiting_lines(self, sku: str, after: int, fits: Sequence[Fit], priority: int = 0) -> Sequence[LineRow]:
        return super().waiting_lines(sku, after, fits, priority)[::-1]


class Patient(MemorySession):
    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        return super().late_lines(sku, today, fits, (), after)


class Landlocked(MemorySession):
    def miscounts(self, sku: str) -> Sequence[Miscount]:
        return [each._replace(shipped_excess=0) for each in super().miscounts(sku) if each.excess]


class Unaware(MemorySession):
    def miscounts(self, sku: str) -> Sequence[Miscount]:
        return ()


class Narrow(MemorySession):
    def delivered(self, delivery: str) -> Sequence[tuple[str, str]]:
        return [(sku, ref) for sku, ref in super().delivered(delivery) if self.batch(SKU, ref)]


class Talkative(MemorySession):
    def stock_told(self, sku: str) -> Sequence[TimedRow]:
        return super().told_before(sku, None)[::-1]


class Endless(MemorySession):
    def told_before(self, sku: str, position: int | None) -> Sequence[TimedRow]:
        return [timed for timed, _ in self._told(sku) if position is None or timed.position < position][::-1]


class Impatient(MemorySession):
    def late_lines(
        self, sku: str, today: Today, fits: Sequence[Fit], rewritten: Collection[str], after: tuple[int, int]
    ) -> Sequence[LineRow]:
        whole = {ref: row._replace(arrived_quantity=None) for ref, row in self._tables.batches.items()}
        tables = dataclasses.replace(self._tables, batches=whole)
        return MemorySession(tables).late_lines(sku, today, fits, rewritten, after)


class Lenient(MemorySession):
    def _check(self, changes: Changes) -> None:
        batches = [row._replace(arrived_quantity=None) for row in changes.rewritten_batches]
        super()._check(dataclasses.replace(changes, rewritten_batches=batches))


BROKEN: dict[type[MemorySession], Callable[[StoreCompliance], None]] = {
    Forgetful: StoreCompliance.test_what_was_saved_is_loaded,
    Careless: StoreCompliance.test_what_was_read_is_written_only_if_nobody_else_was_there_in_between,
    Trusting: StoreCompliance.test_what_must_be_unique_is_a_conflict_and_nothing_of_it_is_written,
    Hasty: StoreCompliance.test_work_that_raises_leaves_nothing,
    Generous: StoreCompliance.test_exhausted_batches_are_not_loaded_unless_named,
    Backward: StoreCompliance.test_waiting_lines_come_in_pages_oldest_first_none_too_large,
    Patient: StoreCompliance.test_late_lines_come_in_pages_by_priority_then_by_age,
    Landlocked: StoreCompliance.test_counters_are_compared_with_what_the_lines_of_the_product_add_up_to,
    Unaware: StoreCompliance.test_counters_are_compared_with_what_the_lines_of_the_product_add_up_to,
    Narrow: StoreCompliance.test_the_batches_of_a_delivery_are_found_with_their_products,
    Talkative: StoreCompliance.test_the_ledger_of_a_product_is_read_forwards_about_stock_and_backwards_in_whole,
    Endless: StoreCompliance.test_the_ledger_is_read_backwards_in_pages,
    Impatient: StoreCompliance.test_a_line_with_stock_of_the_arrived_part_of_a_batch_is_not_late,
    Lenient: StoreCompliance.test_what_can_never_be_true_is_refused_whatever_the_code_does,
}


@pytest.mark.parametrize(("session", "test"), BROKEN.items(), ids=lambda each: each.__name__)
def test_a_store_that_breaks_a_promise_fails_its_test(
    session: type[MemorySession], test: Callable[[StoreCompliance], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    test(MemoryCompliance())
    monkeypatch.setattr("allocation.adapters.memory.MemorySession", session)
    with pytest.raises(AssertionError):
        test(MemoryCompliance())


class Target(EffectTargetCompliance):
    """A list of texts, with what goes wrong in it."""

    def __init__(self, *, twice: bool = False, silent: bool = False, alarmed: bool = False) -> None:
        self.texts: list[str] = []
        self.error: Exception | None = None
        self.twice, self.silent, self.alarmed = twice, silent, alarmed

    def send(self, text: str) -> None:
        if self.error is None:
            self.texts += [text] * (1 + self.twice)
        elif not self.silent:
            raise self.error

    def seen(self) -> Sequence[str]:
        return self.texts

    def decline(self) -> None:
        self.error = Unreachable("no") if self.alarmed else ValueError("no")

    def take_down(self) -> None:
        self.error = Unreachable("down")

    def bring_back(self) -> None:
        self.error = None


BROKEN_TARGETS: dict[str, Callable[[EffectTargetCompliance], None]] = {
    "twice": EffectTargetCompliance.test_when_it_returns_it_is_done_once_and_in_order,
    "silent": EffectTargetCompliance.test_a_target_that_is_down_is_unreachable_and_comes_back,
    "alarmed": EffectTargetCompliance.test_what_is_declined_raises_and_is_no_trouble_of_the_target,
}


@pytest.mark.parametrize(("broken", "test"), BROKEN_TARGETS.items())
def test_a_target_that_breaks_a_promise_fails_its_test(
    broken: str, test: Callable[[EffectTargetCompliance], None]
) -> None:
    test(Target())
    with pytest.raises(AssertionError):
        test(Target(**{broken: True}))


def test_the_page_for_others_has_a_suite_that_passes() -> None:
    [block] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - a page of ours
    suite: StoreCompliance = names["TestMyStore"]()
    tests = [name for name in dir(suite) if name.startswith("test_")]
    assert len(tests) > 10
    for name in tests:
        getattr(suite, name)()

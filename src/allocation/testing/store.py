"""The contract of every store."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final, NoReturn, TypeVar

from allocation.domain.lines import Fit, Today
from allocation.service_layer.writing.store import (
    PAGE_SIZE,
    BatchRow,
    Changes,
    DeliveryRow,
    LineRow,
    Loaded,
    MessageRow,
    ProductRow,
    ProductVersion,
    Session,
    Store,
    StoreConflict,
    StoreUnavailable,
    Wanted,
)
from allocation.testing.effects import raised_by
from allocation.testing.rows import (
    IMPOSSIBLE,
    LINES,
    MOMENT,
    NOT_UNIQUE,
    REFS,
    SKU,
    Parts,
    batch,
    changed,
    delivery,
    held,
    ledger,
    line,
    product,
    up_to,
)

T = TypeVar("T")

TEXTS: Final = (
    *('quote"s', "it's", r"back\slash \n \u0041", "{a,b}", "NULL", "null", "a,b", "🛋 Ängström", " ", "%s $1 ?"),
    "".join(chr(0x20000 + 37 * number) for number in range(255)),  # four bytes each, and hard to compress
)
HUGE: Final = 1_000_000_000 * 1_000_000
GROUP: Final = 1_000  # messages that the writer may put into one group


class StoreUnderTest:
    """A store under test, and its content."""

    def __init__(self, suite: StoreCompliance, runner: asyncio.Runner) -> None:
        self._suite = suite
        self._runner = runner
        self.store = runner.run(suite.new_store())

    def run(self, work: Callable[[Session], T]) -> T:
        return self._runner.run(self.store.run(work))

    def save(self, **parts: Any) -> None:
        self.run(lambda session: session.save(Changes(MOMENT, **parts)))

    def write(self, **parts: Any) -> None:
        self._runner.run(self.store.write(Changes(MOMENT, **parts)))

    def load(self, **wanted: Any) -> Loaded:
        return self.run(lambda session: session.load(Wanted(**wanted)))

    def read(self, **wanted: Any) -> Loaded:
        return self._runner.run(self.store.read(Wanted(**wanted)))

    def priorities(self, sku: str, ref: str | None) -> set[int]:
        return set(self.run(lambda session: session.priorities(sku, ref)))

    def newest(self, before: int, priority: int) -> list[LineRow]:
        return list(self.run(lambda session: session.newest_lines(SKU, "b1", before, priority)))

    def waiting(self, after: int, fits: Sequence[Fit], priority: int = 0) -> list[LineRow]:
        return list(self.run(lambda session: session.waiting_lines(SKU, after, fits, priority)))

    def any_waiting(self, *fits: Fit) -> bool:
        return self.run(lambda session: session.any_waiting(SKU, fits))

    def late(self, today: Today, fits: Sequence[Fit], after: tuple[int, int], *rewritten: str) -> list[LineRow]:
        return list(self.run(lambda session: session.late_lines(SKU, today, fits, rewritten, after)))

    def ledger(self) -> list[tuple[str, int]]:
        return list(self._runner.run(self._suite.ledger(self.store)))

    def deliveries(self) -> list[DeliveryRow]:
        return list(self._runner.run(self._suite.deliveries(self.store)))

    def all(self) -> tuple[Any, ...]:
        """Everything that a test here may have saved."""
        found = self.load(skus={SKU, "LAMP"}, refs=REFS, lines=LINES)
        rows = [sorted(rows) for rows in (found.products, found.batches, found.lines)]
        return (*rows, self.ledger(), self.deliveries())

    def close(self) -> None:
        self._runner.run(self.store.close())


class StoreCompliance:
    """The contract of a store, as tests. A subclass says how to make an empty one, and how to look into it."""

    async def new_store(self) -> Store:
        """A store with nothing in it; each test asks for one."""
        raise NotImplementedError

    async def ledger(self, store: Store) -> Sequence[tuple[str, int]]:
        """The correlation id and step of every ledger row that is durable, in order."""
        raise NotImplementedError

    async def deliveries(self, store: Store) -> Sequence[DeliveryRow]:
        """Every delivery that is durable, in order."""
        raise NotImplementedError

    @contextlib.contextmanager
    def opened(self) -> Iterator[StoreUnderTest]:
        """An empty store, for tests of one's own too; closed in the end."""
        with asyncio.Runner() as runner:
            kept = StoreUnderTest(self, runner)
            try:
                yield kept
            finally:
                kept.close()

    def test_what_was_saved_is_loaded(self) -> None:
        eta, later = date(2026, 1, 31), date(2026, 2, 28)
        batches = [BatchRow("b1", SKU, eta, 9, 4, 1, 10, later), BatchRow("b2", SKU, None, HUGE, 0, 2, HUGE, None)]
        lines = [LineRow("o1", SKU, 4, "b1", 3), LineRow("o2", SKU, 50, None, 4)]
        with_fact = ledger("m1", 1)._replace(orderid="o2", facts='[[2,"OutOfStock",{"sku":"LAMP"}]]')
        messages = [ledger("m1"), with_fact, ledger("m2")]
        rows = {"new_batches": batches, "new_lines": lines, "messages": messages, "deliveries": [delivery("m1")]}
        with self.opened() as kept:
            kept.save(new_products=[product(version=4, waiting=1)], **rows)
            for load in (kept.load, kept.read):
                found = load(skus={SKU}, lines={("o1", SKU), ("o2", SKU), ("o3", SKU)}, message_ids={"m1", "m3"})
                assert found.products == [ProductRow(SKU, 4, 1)]
                assert sorted(found.batches) == batches
                assert sorted(found.lines) == lines
                assert sorted(map(_recalled, found.messages)) == [_recalled(row) for row in messages[:2]]
            assert kept.deliveries() == [delivery("m1")]

    def test_any_text_is_kept_as_it_is(self) -> None:
        with self.opened() as kept:
            for text in TEXTS:
                kept.save(
                    new_products=[product(text)],
                    new_batches=[batch(text, text)],
                    new_lines=[line(text, text, sku=text)],
                    messages=[MessageRow(text, 0, None, "X", text, text, text, text, text, text)],
                    deliveries=[delivery(text, sku=text)],
                )
                kept.save(batches=[batch(text, text, 10, 9)], lines=[line(text, None, sku=text)])
                found = kept.load(skus={text}, refs={text}, lines={(text, text)}, message_ids={text})
                assert (found.products, found.lines) == ([product(text)], [line(text, None, sku=text)])
                assert found.batches == [batch(text, text, allocated=9)]
                [row] = found.messages
                assert (row.correlation_id, row.sku, row.body, row.result, row.actor) == (text,) * 5

    def test_a_store_with_nothing_finds_nothing(self) -> None:
        with self.opened() as kept:
            for load in (kept.load, kept.read):
                found = load(skus={SKU}, refs={"b1"}, lines={("o1", SKU)}, message_ids={"m1"})
                assert (found.products, found.batches, found.lines, found.messages) == ([], [], [], [])
            assert kept.run(lambda session: session.batch(SKU, "b1")) is None
            assert kept.run(lambda session: session.line(SKU, "o1")) is None
            assert kept.run(lambda session: list(session.newest_lines(SKU, "b1", 99))) == []
            assert kept.waiting(0, [up_to(99)]) == []
            assert not kept.any_waiting(up_to(99))

    def test_counters_are_compared_with_what_the_lines_of_the_product_add_up_to(self) -> None:
        right, high = (batch(ref, allocated=9)._replace(shipped_quantity=4) for ref in ("right", "high"))
        others = [batch("low"), batch("full", allocated=10), batch("other", "OTHER", allocated=9)]
        shipped = [line("o1", "right", 4), line("o8", "left", 6)]
        held = [line("o2", "right", 5), line("o3", "high", 4), line("o4", "low", 6)]
        waits = [line("o5", None), line("o6", None), line("o7", "high", 5, sku="OTHER")]
        with self.opened() as kept:
            kept.save(
                new_products=[product(waiting=1), product("OTHER", waiting=1)],
                new_batches=[right, high, batch("left", allocated=6), *others],
                new_lines=[*held, *waits, *(each._replace(closed="shipped") for each in shipped)],
            )
            found = kept.run(lambda session: list(session.miscounts(SKU)))
            expected = {("high", 5, 4), ("low", -6, 0), ("full", 10, 0), ("left", 0, -6), (None, -1, 0)}
            assert (set(found), len(found)) == (expected, len(expected))
            assert set(kept.run(lambda session: list(session.miscounts("OTHER")))) == {("other", 9, 0), (None, 1, 0)}
            assert kept.run(lambda session: list(session.miscounts("UNKNOWN"))) == []

    def test_exhausted_batches_are_not_loaded_unless_named(self) -> None:
        full, named = batch("full", allocated=10), batch("named", allocated=10, position=2)
        open_, empty = batch("open", allocated=9, position=3), batch("empty", purchased=0, position=4)
        with self.opened() as kept:
            others = [product(), product("LAMP")]
            kept.save(new_products=others, new_batches=[full, named, open_, empty, batch("other", "LAMP")])
            for load in (kept.load, kept.read):
                assert load(skus={SKU}).batches == [open_]
                assert sorted(load(skus={SKU}, refs={"named", "open"}).batches) == [named, open_]

    def test_a_named_batch_brings_its_product_with_all_that_has_room(self) -> None:
        batches = [batch("full", allocated=10), batch("open", position=2), batch("other", "LAMP")]
        with self.opened() as kept:
            kept.save(new_products=[product(), product("LAMP")], new_batches=batches)
            for load in (kept.load, kept.read):
                found = load(refs={"full", "unknown"})
                assert found.products == [product()]
                assert sorted(found.batches) == batches[:2]

    def test_only_the_lines_asked_about_are_loaded(self) -> None:
        lines = [line("o1"), line("o2", position=3), line("o1", sku="LAMP")]
        with self.opened() as kept:
            kept.save(new_products=[product(), product("LAMP")], new_lines=lines)
            for load in (kept.load, kept.read):
                assert load(skus={SKU, "LAMP"}, lines={("o1", SKU), ("o2", "LAMP")}).lines == [line("o1")]
            assert kept.run(lambda session: session.line("LAMP", "o1")) == line("o1", sku="LAMP")
            assert kept.run(lambda session: session.line("LAMP", "o2")) is None

    def test_a_batch_is_looked_up_within_its_product(self) -> None:
        with self.opened() as kept:
            kept.save(new_products=[product()], new_batches=[batch("b1", allocated=10)])
            assert kept.run(lambda session: session.batch(SKU, "b1")) == batch("b1", allocated=10)
            assert kept.run(lambda session: session.batch("LAMP", "b1")) is None

    def test_the_newest_lines_of_a_batch_come_in_pages_newest_first(self) -> None:
        lines = [line(f"o{number}", "b1", position=number) for number in range(2, PAGE_SIZE + 12)]
        others = [line("waits", None, position=PAGE_SIZE + 20), line("elsewhere", "b2", position=PAGE_SIZE + 21)]
        with self.opened() as kept:
            kept.save(new_products=[product()], new_lines=[*lines, *others])
            first = kept.run(lambda session: list(session.newest_lines(SKU, "b1", PAGE_SIZE + 100)))
            second = kept.run(lambda session: list(session.newest_lines(SKU, "b1", first[-1].position)))
            assert len(first) == PAGE_SIZE
            assert [*first, *second] == lines[::-1]
            assert kept.run(lambda session: list(session.newest_lines(SKU, "b1", 2))) == []

    def test_waiting_lines_come_in_pages_oldest_first_none_too_large(self) -> None:
        lines = [line(f"o{number}", None, qty=1 + number % 3, position=number) for number in range(2, 2 * PAGE_SIZE)]
        others = [line("served", "b1", position=1), line("lamp", None, sku="LAMP", position=2)]
        small = [each for each in lines if each.qty < 3]  # noqa: PLR2004 - of one, two and three
        with self.opened() as kept:
            products = [product(waiting=len(lines)), product("LAMP", waiting=1)]
            kept.save(new_products=products, new_lines=[*lines, *others])
            first = kept.waiting(0, [up_to(2)])
            second = kept.waiting(first[-1].position, [up_to(2)])
            assert len(first) == PAGE_SIZE
            assert [*first, *second] == small

    def test_waiting_lines_that_may_be_split_come_however_large_unless_a_part_follows(self) -> None:
        with self.opened() as kept:
            lines = [
                _of("small", None, 0, 2),
                _of("whole", None, 0, 3)._replace(qty=9),
                _of("last", None, 0, 4)._replace(qty=9, part=2),
                _of("first", None, 0, 5)._replace(qty=9, part=1, rest=1),
                _of("urgent", None, 3, 6)._replace(qty=9, part=1),
                _of("ended", None, 0, 7)._replace(qty=9, part=1, closed="cancelled"),
                _of("next", None, 0, 8)._replace(part=1, rest=1),
            ]
            kept.save(new_products=[product(version=8, waiting=6)], new_lines=lines)
            assert [row.orderid for row in kept.waiting(0, [up_to(1)])] == ["small", "last", "next"]
            assert [row.orderid for row in kept.waiting(3, [up_to(8)])] == ["last", "next"]
            assert [row.orderid for row in kept.waiting(0, [up_to(9)])] == ["small", "whole", "last", "first", "next"]
            assert [row.orderid for row in kept.waiting(0, [up_to(1)], 3)] == ["urgent"]

    def test_waiting_lines_come_that_are_needed_before_the_day_of_a_large_enough_fit(self) -> None:
        first, second, third = (MOMENT.date() + timedelta(days) for days in range(3))
        with self.opened() as kept:
            lines = [
                _of("small-late", None, 0, 2)._replace(qty=2, need_by=third),
                _of("small-soon", None, 0, 3)._replace(qty=2, need_by=second),
                _of("large-late", None, 0, 4)._replace(qty=5, need_by=second),
                _of("large-soon", None, 0, 5)._replace(qty=5, need_by=first),
                _of("whenever", None, 0, 6)._replace(qty=5),
                _of("to-split", None, 0, 7)._replace(qty=9, need_by=second, part=1),
                _of("urgent", None, 3, 8)._replace(qty=4, need_by=first),
            ]
            fits = [Fit(5, first), Fit(2, second)]
            kept.save(new_products=[product(version=9, waiting=7)], new_lines=lines)
            found = [row.orderid for row in kept.waiting(0, fits)]
            assert found == ["small-soon", "large-soon", "whenever", "to-split"]
            assert [row.orderid for row in kept.waiting(0, fits, 3)] == ["urgent"]
            assert kept.waiting(0, [Fit(4, first)]) == []

    def test_whether_any_line_waits_that_fits(self) -> None:
        first, second, third = (MOMENT.date() + timedelta(days) for days in range(3))
        others = [
            _of("held", "b1", 0, 9)._replace(qty=1),
            _of("ended", None, 0, 10)._replace(qty=1, closed="cancelled"),
        ]
        cases = (
            (_of("dated", None, 0, 2)._replace(qty=4, need_by=second), Fit(4, second), [Fit(3, third), Fit(9, first)]),
            (_of("later", None, 3, 3)._replace(qty=4, need_by=third), Fit(4, third), [Fit(3, third), Fit(9, second)]),
            (_of("whenever", None, 0, 4)._replace(qty=4), Fit(4, first), [Fit(3, third)]),
            (_of("to-split", None, 0, 5)._replace(qty=9, need_by=second, part=1), Fit(1, second), [Fit(9, first)]),
        )
        with self.opened() as kept:
            kept.save(new_products=[product(version=11, waiting=1)], new_lines=others)
            for waits, fit, too_narrow in cases:
                kept.save(new_lines=[waits])
                assert kept.any_waiting(fit), waits
                assert kept.any_waiting(Fit(9, first), fit), waits
                assert not any(map(kept.any_waiting, too_narrow)), waits
                kept.save(lines=[waits._replace(closed="cancelled")])

    def test_late_lines_come_in_pages_by_priority_then_by_age(self) -> None:
        def needed(orderid: str, in_days: int, position: int, batchref: str = "late", **more: Any) -> LineRow:
            return line(orderid, batchref, position=position)._replace(need_by=day + timedelta(in_days), **more)

        day, today = MOMENT.date(), Today(MOMENT.date(), MOMENT.date() + timedelta(1))
        late = batch("late", purchased=9_999)._replace(eta=day + timedelta(9))
        early = batch("early", purchased=99, position=2)._replace(eta=day + timedelta(1))
        usual = [needed(f"o{number}", number % 9, 10 + number) for number in range(PAGE_SIZE + 10)]
        first = needed("urgent", 5, 9_999, priority=9)
        others = [
            *(needed("large", 5, 3, qty=7), needed("pinned", 5, 4, priority=10), needed("overdue", -1, 5)),
            *(needed("in-time", 9, 6), line("whenever", "late", position=7), line("waits", None, position=8)),
            *(needed("shipped", 5, 9, closed="shipped"), needed("early", 5, 10_000, "early")),
        ]
        with self.opened() as kept:
            kept.save(new_products=[product()], new_batches=[late, early], new_lines=[*usual, first, *others])
            fits, begin = [Fit(6, day)], (-10, 0)
            page = kept.late(today, fits, begin)
            after = (-page[-1].priority, page[-1].position)
            rest = kept.late(today, fits, after)
            assert len(page) == PAGE_SIZE
            assert [*page, *rest] == [first, *usual]
            soon = Today(day + timedelta(8), day + timedelta(9))
            assert kept.late(soon, fits, begin) == [each for each in usual if each.need_by == soon.day]
            assert kept.late(today, fits, after, "early") == [*rest, others[-1]]
            for in_time in ([Fit(6, soon.day)], [Fit(9, day + timedelta(20)), Fit(1, soon.day)]):
                assert kept.late(today, in_time, begin) == [each for each in usual if each.need_by == soon.day]
            assert kept.late(today, [Fit(0, day)], begin) == []

    def test_a_line_on_an_overdue_batch_is_late_if_it_is_needed_before_that_is_promised(self) -> None:
        day = MOMENT.date()
        overdue = batch("overdue")._replace(eta=day - timedelta(2))
        now = line("now", "overdue", position=3)._replace(need_by=day)
        soon = line("soon", "overdue", position=4)._replace(need_by=day + timedelta(2))
        with self.opened() as kept:
            kept.save(new_products=[product()], new_batches=[overdue], new_lines=[now, soon])

            def late(days: int) -> list[LineRow]:
                today = Today(day, day + timedelta(days))
                return kept.late(today, [Fit(6, day)], (-10, 0))

            assert [late(days) for days in range(4)] == [[], [now], [now], [now, soon]]

    def test_a_line_with_stock_of_the_arrived_part_of_a_batch_is_not_late(self) -> None:
        day, today = MOMENT.date(), Today(MOMENT.date(), MOMENT.date() + timedelta(1))
        whole = batch("whole", allocated=2)._replace(eta=day + timedelta(9))
        parts = whole._replace(ref="parts", position=2, arrived_quantity=3, arrived_allocated=1)
        lines = [
            line(f"{ref}-{arrived}", ref, position=position)._replace(need_by=day, arrived=arrived)
            for position, (ref, arrived) in enumerate(itertools.product(("whole", "parts"), (True, None)), start=3)
        ]
        with self.opened() as kept:
            kept.save(new_products=[product()], new_batches=[whole, parts], new_lines=lines)
            for rewritten in ([], ["parts"]):
                found = kept.late(today, [Fit(6, day)], (-10, 0), *rewritten)
                assert [row.orderid for row in found] == ["whole-True", "whole-None", "parts-None"]

    def test_the_batches_of_a_delivery_are_found_with_their_products(self) -> None:
        names = [
            ("b3", SKU, "po-1"),
            ("b1", SKU, "po-1"),
            ("b2", "LAMP", "po-1"),
            ("b4", SKU, "po-2"),
            ("b5", SKU, None),
        ]
        batches = [batch(ref, sku, 10, 10, n)._replace(delivery=name) for n, (ref, sku, name) in enumerate(names)]
        with self.opened() as kept:
            kept.save(new_products=[product(), product("LAMP")], new_batches=batches)
            found = kept.run(lambda session: list(session.delivered("po-1")))
            assert found == [(SKU, "b3"), (SKU, "b1"), ("LAMP", "b2")]
            assert kept.run(lambda session: list(session.delivered("po-9"))) == []

    def test_the_ledger_of_a_product_is_read_forwards_about_stock_and_backwards_in_whole(self) -> None:
        later = MOMENT + timedelta(seconds=1)
        about = [ledger(f"m{number}", sku=SKU if number % 3 else "LAMP") for number in range(9)]
        rows = [row._replace(orderid="o1", facts="[]") if number % 2 else row for number, row in enumerate(about)]
        with self.opened() as kept:
            kept.save(messages=rows[:5])
            kept.run(lambda session: session.save(Changes(later, messages=rows[5:])))
            backwards = kept.run(lambda session: list(session.told_before(SKU, None)))
            assert [row.recorded_at for row in backwards] == [later] * 3 + [MOMENT] * 3
            assert [row.facts for row in backwards] == [None, "[]", "[]", None, None, "[]"]
            assert sorted((row.position for row in backwards), reverse=True) == [row.position for row in backwards]
            assert kept.run(lambda session: list(session.told_before(SKU, backwards[1].position))) == backwards[2:]
            assert kept.run(lambda session: list(session.stock_told(SKU))) == [backwards[each] for each in (4, 3, 0)]
            assert {(row.type, row.body) for row in backwards} == {("OutOfStock", f'{{"sku":"{SKU}"}}')}
            for none in (lambda session: session.told_before("BED", None), lambda session: session.stock_told("BED")):
                assert list(kept.run(none)) == []

    def test_the_ledger_is_read_backwards_in_pages(self) -> None:
        with self.opened() as kept:
            kept.save(messages=[ledger(f"m{number}") for number in range(PAGE_SIZE + 10)])
            first = kept.run(lambda session: list(session.told_before(SKU, None)))
            second = kept.run(lambda session: list(session.told_before(SKU, first[-1].position)))
            assert (len(first), len(second)) == (PAGE_SIZE, 10)
            assert kept.run(lambda session: len(session.stock_told(SKU))) == PAGE_SIZE + 10

    def test_changes_of_known_rows_are_kept(self) -> None:
        with self.opened() as kept:
            kept.save(
                new_products=[product()], new_batches=[batch("b1"), batch("b2")], new_lines=[line("o1"), line("o2")]
            )
            kept.save(
                products=[changed(version=9, waiting=1)],
                batches=[batch("b1", purchased=7, allocated=7)],
                lines=[line("o1", None), line("o2", "b2")],
            )
            found = kept.load(skus={SKU}, refs={"b1"}, lines={("o1", SKU), ("o2", SKU)})
            assert found.products == [product(version=9, waiting=1)]
            assert sorted(found.batches) == [BatchRow("b1", SKU, None, 7, 7, 1, 10, None), batch("b2")]
            assert sorted(found.lines) == [line("o1", None), line("o2", "b2")]
            assert kept.load(skus={SKU}).batches == [batch("b2")]

    def test_every_column_of_every_row_is_kept(self) -> None:
        first, second = date(2026, 2, 28), date(2026, 3, 31)
        new = BatchRow("b1", SKU, first, 10, 6, 1, 10, first, 2, "OSLO", second, "wet", "po-1", 7, 5, 2, first, MOMENT)
        rewritten = new._replace(
            eta=None, purchased_quantity=9, allocated_quantity=5, shipped_quantity=3, location="LYON", expires_on=first,
            quarantine=None, delivery="po-2", arrived_quantity=None, arrived_allocated=None, inspect_quantity=0,
            last_eta=second, counted_at=MOMENT + timedelta(microseconds=1), created_as='["it\'s",1,null]',
        )  # fmt: skip
        hold = LineRow("h1", SKU, 4, "b1", 2, -1, None, MOMENT + timedelta(microseconds=1))
        lines = [hold, LineRow("o1", SKU, 2, "b1", 3, 10, first, None, "shipped", 3, 7, arrived=True)]
        later = [
            hold._replace(
                qty=3, batchref=None, priority=0, expires_at=MOMENT + timedelta(days=1), closed="expired", arrived=True
            ),
            lines[1]._replace(qty=1, batchref=None, priority=9, closed="returned", rest=None, arrived=None),
        ]
        wanted = {"refs": {"b1"}, "lines": {("o1", SKU)}, "holdids": {"h1"}}
        with self.opened() as kept:
            kept.save(
                new_products=[ProductRow(SKU, 3, 0, '{"safety_stock":1}', retired=True)],
                new_batches=[new],
                new_lines=lines,
            )
            for load in (kept.load, kept.read):
                found = load(**wanted)
                assert found.products == [ProductRow(SKU, 3, 0, '{"safety_stock":1}', retired=True)]
                assert (found.batches, sorted(found.lines)) == ([new], lines)
            kept.save(
                products=[ProductVersion(SKU, 4, 0, 3, '{"safety_stock":2}')],
                rewritten_batches=[rewritten],
                lines=later,
            )
            for load in (kept.load, kept.read):
                found = load(**wanted)
                assert found.products == [ProductRow(SKU, 4, 0, '{"safety_stock":2}')]
                assert (found.batches, sorted(found.lines)) == ([rewritten], later)
            kept.write(
                products=[ProductVersion(SKU, 5, 0, 4, retired=True)],
                batches=[rewritten._replace(purchased_quantity=8)],
            )
            found = kept.load(**wanted)
            assert (found.products, found.batches) == (
                [ProductRow(SKU, 5, 0, retired=True)],
                [rewritten._replace(purchased_quantity=8)],
            )

    def test_a_hold_is_found_by_its_id_alone_with_its_product(self) -> None:
        hold, ended = held("h1"), held("h2", sku="LAMP")._replace(batchref=None, closed="expired")
        with self.opened() as kept:
            kept.save(
                new_products=[product(), product("LAMP"), product("RUG")],
                new_batches=[batch(), batch("full", allocated=10)],
                new_lines=[hold, ended, line("h1", sku="RUG")],
            )
            for load in (kept.load, kept.read):
                found = load(holdids={"h1"})
                assert (found.products, found.batches, found.lines) == ([product()], [batch()], [hold])
                both = load(holdids={"h1", "h2", "h3"})
                assert sorted(both.products) == [product(), product("LAMP")]
                assert sorted(both.lines) == [hold, ended]
            assert kept.load(holdids={"h3"}).products == []

    def test_lines_come_by_priority_and_what_is_closed_in_no_page(self) -> None:
        lines = [
            _of(f"{ref}-{priority}-{name}", ref, priority, position)._replace(closed=closed)
            for ref in ("b1", None)
            for priority in (0, -1, 3, 10)
            for position, name, closed in ((2, "old", None), (3, "new", None), (4, "closed", "shipped"))
        ]
        only_closed = _of("o1", "b1", 5, 90)._replace(closed="shipped")
        with self.opened() as kept:
            kept.save(new_products=[product(), product("LAMP")], new_lines=[*lines, only_closed])
            assert kept.priorities(SKU, "b1") == kept.priorities(SKU, None) == {-1, 3, 10}
            assert kept.priorities(SKU, "b2") == kept.priorities("LAMP", None) == set()
            for priority in (0, -1, 3, 10):
                names = [f"b1-{priority}-new", f"b1-{priority}-old"]
                assert [row.orderid for row in kept.newest(99, priority)] == names
                assert [row.orderid for row in kept.newest(3, priority)] == names[1:]
                names = [f"None-{priority}-old", f"None-{priority}-new"]
                assert [row.orderid for row in kept.waiting(0, [up_to(9)], priority)] == names
                assert [row.orderid for row in kept.waiting(2, [up_to(9)], priority)] == names[1:]

    def test_lines_of_a_priority_come_in_pages_none_too_large(self) -> None:
        lines = [_of(f"o{number}", None, 3, number)._replace(qty=1 + number % 2) for number in range(2, 3 * PAGE_SIZE)]
        small = [each for each in lines if each.qty == 1]
        with self.opened() as kept:
            kept.save(new_products=[product(waiting=len(lines))], new_lines=lines)
            first = kept.waiting(0, [up_to(1)], 3)
            assert len(first) == PAGE_SIZE
            assert [*first, *kept.waiting(first[-1].position, [up_to(1)], 3)] == small

    def test_what_was_shipped_counts_and_what_ended_does_not(self) -> None:
        lines = [line("o1", "b1", 2), line("o2", "b1", 3)._replace(closed="shipped")]
        ended = [line("o3", None)._replace(closed="returned"), held("h1")._replace(batchref=None, closed="lost")]
        with self.opened() as kept:
            kept.save(
                new_products=[product(waiting=0)],
                new_batches=[batch(allocated=5)._replace(shipped_quantity=3)],
                new_lines=[*lines, *ended],
            )
            assert kept.run(lambda session: list(session.miscounts(SKU))) == []

    def test_the_ledger_keeps_the_order_of_messages_over_groups(self) -> None:
        groups = [[ledger(f"{group}-{number:03}", 0) for number in range(200)] for group in ("z", "a", "m")]
        with self.opened() as kept:
            for group in groups:
                kept.save(messages=group, deliveries=[delivery(row.correlation_id) for row in group])
            assert kept.ledger() == [row[:2] for group in groups for row in group]
            assert [row[:2] for row in kept.deliveries()] == kept.ledger()

    def test_what_must_be_unique_is_a_conflict_and_nothing_of_it_is_written(self) -> None:
        with self.opened() as kept:
            lines = [line("o1"), held("h0")]
            kept.save(new_products=[product()], new_batches=[batch()], new_lines=lines, messages=[ledger("m1")])
            before = kept.all()
            for what, parts in NOT_UNIQUE.items():
                for save in (kept.save, kept.write):
                    error = _raised(save, products=[changed(version=7)], messages=[ledger("innocent")], parts=parts)
                    assert isinstance(error, StoreConflict), f"{what}: {error!r}"
                    assert kept.all() == before, what
            kept.save(messages=[ledger("afterwards")])
            assert kept.ledger() == [("m1", 0), ("afterwards", 0)]

    def test_what_can_never_be_true_is_refused_whatever_the_code_does(self) -> None:
        with self.opened() as kept:
            kept.save(new_products=[product()], new_batches=[batch("b1")])
            before = kept.all()
            for what, parts in IMPOSSIBLE.items():
                for save in (kept.save, kept.write):
                    error = _raised(save, messages=[ledger("m1")], parts=parts)
                    assert error is not None, what
                    assert not isinstance(error, StoreConflict | StoreUnavailable), f"{what}: again cannot help"
                    assert kept.all() == before, what
            kept.save(messages=[ledger("afterwards")])

    def test_what_was_read_is_written_only_if_nobody_else_was_there_in_between(self) -> None:
        with self.opened() as kept:
            kept.save(new_products=[product(), product("LAMP")])
            kept.write(products=[changed(version=2, loaded=1)], new_batches=[batch("b1")], messages=[ledger("m1")])
            before = kept.all()
            for products in ([changed(version=3, loaded=1)], [changed("LAMP"), changed(version=2, loaded=1)]):
                late = {"products": products, "new_batches": [batch("b2")], "messages": [ledger("m2")]}
                for save in (kept.save, kept.write):
                    error = _raised(save, parts=late)
                    assert isinstance(error, StoreConflict), f"written over another's change: {error!r}"
                    assert kept.all() == before
            kept.write(products=[changed(version=2, loaded=2)], messages=[ledger("m3")])
            late = {"products": [changed(version=1, loaded=1)], "messages": [ledger("m4")]}
            assert isinstance(_raised(kept.write, parts=late), StoreConflict), "a version that stays is looked at too"
            assert kept.ledger() == [("m1", 0), ("m3", 0)]

    def test_a_change_of_a_line_that_is_gone_is_a_conflict(self) -> None:
        with self.opened() as kept:
            kept.save(new_products=[product()], new_lines=[line("o1")])
            before = kept.all()
            late = {"products": [changed()], "lines": [line("o1", None), line("gone")], "messages": [ledger("m1")]}
            for save in (kept.save, kept.write):
                error = _raised(save, parts=late)
                assert isinstance(error, StoreConflict), f"a line that was not there was changed: {error!r}"
                assert kept.all() == before

    def test_work_that_raises_leaves_nothing(self) -> None:
        def saves_and_fails(session: Session) -> NoReturn:
            session.save(Changes(MOMENT, new_products=[product()], messages=[ledger("m1")]))
            raise ZeroDivisionError("the work's own")

        with self.opened() as kept:
            before = kept.all()
            assert isinstance(raised_by(lambda: kept.run(saves_and_fails)), ZeroDivisionError)
            assert kept.all() == before
            kept.save(new_products=[product()], messages=[ledger("m1")])
            assert kept.load(skus={SKU}).products == [product()]

    def test_the_result_of_the_work_comes_back(self) -> None:
        with self.opened() as kept:
            assert kept.run(lambda _: "done") == "done"

    def test_a_thousand_messages_are_one_group(self) -> None:
        with self.opened() as kept:
            kept.save(
                new_products=[product(version=GROUP + 1)],
                new_batches=[batch("b1", purchased=GROUP, allocated=GROUP)],
                new_lines=[line(f"o{number}", position=2 + number) for number in range(GROUP)],
                messages=[ledger(f"m{number}") for number in range(GROUP)],
                deliveries=[delivery(f"m{number}") for number in range(GROUP)],
            )
            lines, ids = {(f"o{number}", SKU) for number in range(GROUP)}, {f"m{number}" for number in range(GROUP)}
            for load in (kept.load, kept.read):
                found = load(skus={SKU}, lines=lines, message_ids=ids)
                assert (len(found.lines), len(found.messages), found.batches) == (GROUP, GROUP, [])


def _raised(save: Callable[..., None], *, parts: Parts, **others: Any) -> Exception | None:
    return raised_by(lambda: save(**{**others, **parts}))


def _recalled(row: MessageRow) -> tuple[Any, ...]:
    """The part of a ledger row that a store must return; the rest is for readers of the ledger."""
    return (row.correlation_id, row.step, row.type, row.body, row.facts, row.result, row.actor)


def _of(orderid: str, batchref: str | None, priority: int, position: int) -> LineRow:
    return LineRow(orderid, SKU, 1, batchref, position, priority)

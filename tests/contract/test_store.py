"""What every store promises, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, NoReturn

import pytest

from allocation.service_layer.store import (
    PAGE_SIZE,
    BatchRow,
    Changes,
    LineRow,
    MessageRow,
    ProductRow,
    Session,
    StoreConflict,
    StoreUnavailable,
)
from tests.contract.conftest import MOMENT, Place
from tests.contract.rows import SKU, batch, changed, delivery, ledger, line, product

FUNNY_TEXTS = ['quote"s', "it's", r"back\slash \n \u0041", "{a,b}", "NULL", "null", "a,b", "🛋 Ängström", " ", "%s $1 ?"]
LONGEST = "".join(chr(0x20000 + 37 * number) for number in range(255))  # four bytes each, and hard to compress
HUGE = 1_000_000_000 * 1_000_000


def test_what_was_saved_is_loaded(place: Place) -> None:
    eta, later = date(2026, 1, 31), date(2026, 2, 28)
    batches = [BatchRow("b1", SKU, eta, 9, 4, 1, 10, later), BatchRow("b2", SKU, None, HUGE, 0, 2, HUGE, None)]
    lines = [LineRow("o1", SKU, 4, "b1", 3), LineRow("o2", SKU, 50, None, 4)]
    with_fact = ledger("m1", 1)._replace(orderid="o2", facts='[[2,"OutOfStock",{"sku":"LAMP"}]]')
    messages = [ledger("m1"), with_fact, ledger("m2")]
    place.save(
        new_products=[product(version=4, waiting=1)],
        new_batches=batches,
        new_lines=lines,
        messages=messages,
        deliveries=[delivery("m1")],
    )
    found = place.load(skus={SKU}, lines={("o1", SKU), ("o2", SKU), ("o3", SKU)}, message_ids={"m1", "m3"})
    assert found.products == [ProductRow(SKU, 4, 1)]
    assert sorted(found.batches) == batches
    assert sorted(found.lines) == lines
    in_part = [(*row[:2], row.type, *row[6:]) for row in found.messages]
    assert sorted(in_part) == [(row.correlation_id, row.step, *row[3:4], *row[6:]) for row in messages[:2]]
    assert place.contents().deliveries == [delivery("m1")]


@pytest.mark.parametrize("text", [*FUNNY_TEXTS, pytest.param(LONGEST, id="longest")])
def test_any_text_is_kept_as_it_is(place: Place, text: str) -> None:
    place.save(
        new_products=[product(text)],
        new_batches=[batch(text, text)],
        new_lines=[line(text, text, sku=text)],
        messages=[MessageRow(text, 0, None, "X", text, text, text, text, text, text)],
        deliveries=[delivery(text, sku=text)],
    )
    place.save(batches=[batch(text, text, 10, 9)], lines=[line(text, None, sku=text)])
    found = place.load(skus={text}, refs={text}, lines={(text, text)}, message_ids={text})
    assert (found.products, found.lines) == ([product(text)], [line(text, None, sku=text)])
    assert found.batches == [batch(text, text, allocated=9)]
    assert [(row.correlation_id, row.sku, row.body, row.result, row.actor) for row in found.messages] == [(text,) * 5]
    assert place.run(lambda session: session.batch(text, text)) == batch(text, text, allocated=9)


def test_a_store_with_nothing_finds_nothing(place: Place) -> None:
    found = place.load(skus={SKU}, refs={"b1"}, lines={("o1", SKU)}, message_ids={"m1"})
    assert (found.products, found.batches, found.lines, found.messages) == ([], [], [], [])
    assert place.run(lambda session: session.batch(SKU, "b1")) is None
    assert place.run(lambda session: session.line(SKU, "o1")) is None
    assert place.run(lambda session: list(session.newest_lines(SKU, "b1", 99))) == []
    assert place.run(lambda session: list(session.waiting_lines(SKU, 0, 99))) == []


def test_counters_are_compared_with_what_the_lines_of_the_product_add_up_to(place: Place) -> None:
    place.save(
        new_products=[product(waiting=1), product("OTHER", waiting=1)],
        new_batches=[
            batch("right", allocated=5),
            batch("high", allocated=9),
            batch("low"),
            batch("full", allocated=10),
            batch("other", "OTHER", allocated=9),
        ],
        new_lines=[
            line("o1", "right", 2),
            line("o2", "right", 3),
            line("o3", "high", 4),
            line("o4", "low", 6),
            line("o5", None),
            line("o6", None),
            line("o7", "high", 5, sku="OTHER"),
        ],
    )
    found = place.run(lambda session: list(session.miscounts(SKU)))
    assert set(found) == {("high", 5), ("low", -6), ("full", 10), (None, -1)}
    assert len(found) == 4
    assert set(place.run(lambda session: list(session.miscounts("OTHER")))) == {("other", 9), (None, 1)}
    assert place.run(lambda session: list(session.miscounts("UNKNOWN"))) == []


def test_exhausted_batches_are_not_loaded_unless_named(place: Place) -> None:
    full, named, open_, empty = (
        batch("full", allocated=10),
        batch("named", allocated=10, position=2),
        batch("open", allocated=9, position=3),
        batch("empty", purchased=0, position=4),
    )
    other = batch("other", "LAMP")
    place.save(new_products=[product(), product("LAMP")], new_batches=[full, named, open_, empty, other])
    assert place.load(skus={SKU}).batches == [open_]
    assert sorted(place.load(skus={SKU}, refs={"named", "open"}).batches) == [named, open_]


def test_a_named_batch_brings_its_product_with_all_that_has_room(place: Place) -> None:
    place.save(
        new_products=[product(), product("LAMP")],
        new_batches=[batch("full", allocated=10), batch("open", position=2), batch("other", "LAMP")],
    )
    found = place.load(refs={"full", "unknown"})
    assert found.products == [product()]
    assert sorted(found.batches) == [batch("full", allocated=10), batch("open", position=2)]


def test_only_the_lines_asked_about_are_loaded(place: Place) -> None:
    place.save(
        new_products=[product(), product("LAMP")],
        new_lines=[line("o1"), line("o2", position=3), line("o1", sku="LAMP")],
    )
    assert place.load(skus={SKU, "LAMP"}, lines={("o1", SKU), ("o2", "LAMP")}).lines == [line("o1")]
    assert place.run(lambda session: session.line("LAMP", "o1")) == line("o1", sku="LAMP")
    assert place.run(lambda session: session.line("LAMP", "o2")) is None


def test_a_batch_is_looked_up_within_its_product(place: Place) -> None:
    place.save(new_products=[product()], new_batches=[batch("b1", allocated=10)])
    assert place.run(lambda session: session.batch(SKU, "b1")) == batch("b1", allocated=10)
    assert place.run(lambda session: session.batch("LAMP", "b1")) is None


def test_the_newest_lines_of_a_batch_come_in_pages_newest_first(place: Place) -> None:
    lines = [line(f"o{number}", "b1", position=number) for number in range(2, PAGE_SIZE + 12)]
    others = [line("waits", None, position=PAGE_SIZE + 20), line("elsewhere", "b2", position=PAGE_SIZE + 21)]
    place.save(new_products=[product()], new_lines=[*lines, *others])
    first = place.run(lambda session: list(session.newest_lines(SKU, "b1", PAGE_SIZE + 100)))
    second = place.run(lambda session: list(session.newest_lines(SKU, "b1", first[-1].position)))
    assert len(first) == PAGE_SIZE
    assert [*first, *second] == lines[::-1]
    assert place.run(lambda session: list(session.newest_lines(SKU, "b1", 2))) == []


def test_waiting_lines_come_in_pages_oldest_first_none_too_large(place: Place) -> None:
    lines = [line(f"o{number}", None, qty=1 + number % 3, position=number) for number in range(2, 2 * PAGE_SIZE)]
    others = [line("served", "b1", position=1), line("lamp", None, sku="LAMP", position=2)]
    place.save(new_products=[product(waiting=len(lines)), product("LAMP", waiting=1)], new_lines=[*lines, *others])
    small = [each for each in lines if each.qty <= 2]
    first = place.run(lambda session: list(session.waiting_lines(SKU, 0, 2)))
    second = place.run(lambda session: list(session.waiting_lines(SKU, first[-1].position, 2)))
    assert len(first) == PAGE_SIZE
    assert [*first, *second] == small


def test_changes_of_known_rows_are_kept(place: Place) -> None:
    place.save(new_products=[product()], new_batches=[batch("b1"), batch("b2")], new_lines=[line("o1"), line("o2")])
    place.save(
        products=[changed(version=9, waiting=1)],
        batches=[batch("b1", purchased=7, allocated=7)],
        lines=[line("o1", None), line("o2", "b2")],
    )
    kept = place.contents()
    assert kept.products == [(SKU, 9, 1)]
    assert [row[3:5] for row in kept.batches] == [(7, 7), (10, 0)]
    assert [row[6] for row in kept.batches] == [10, 10]
    assert [row[3] for row in kept.lines] == [None, "b2"]
    assert place.load(skus={SKU}).batches == [batch("b2")]


def test_the_ledger_keeps_the_order_of_messages_over_groups(place: Place) -> None:
    groups = [[ledger(f"{group}-{number:03}", 0) for number in range(200)] for group in ("z", "a", "m")]
    for group in groups:
        place.save(messages=group)
    assert [row[0] for row in place.contents().ledger] == [row.correlation_id for group in groups for row in group]


NOT_UNIQUE: dict[str, dict[str, Any]] = {
    "product": {"new_products": [product()]},
    "batch": {"new_batches": [batch("b1")]},
    "batch of another product": {"new_products": [product("LAMP")], "new_batches": [batch("b1", "LAMP")]},
    "line": {"new_lines": [line("o1", None, qty=5, position=9)]},
    "message": {"messages": [ledger("innocent"), ledger("m1")]},
    "product twice": {"new_products": [product("LAMP"), product("LAMP")]},
    "batch twice": {"new_batches": [batch("b7"), batch("b7", "LAMP")]},
    "line twice": {"new_lines": [line("o7"), line("o7")]},
    "message twice": {"messages": [ledger("m2"), ledger("m2")]},
    "delivery twice": {"deliveries": [delivery("m2"), delivery("m2")]},
}


@pytest.mark.parametrize("parts", NOT_UNIQUE.values(), ids=NOT_UNIQUE)
def test_what_must_be_unique_is_a_conflict_and_nothing_of_it_is_written(place: Place, parts: dict[str, Any]) -> None:
    place.save(new_products=[product()], new_batches=[batch("b1")], new_lines=[line("o1")], messages=[ledger("m1")])
    before = place.contents()
    with pytest.raises(StoreConflict):
        place.save(**{"products": [changed(version=7)], "messages": [ledger("innocent")], **parts})
    assert place.contents() == before
    place.save(messages=[ledger("afterwards")])
    assert len(place.contents().ledger) == 2


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "oversold when new": {"new_batches": [batch("b2", purchased=10, allocated=11)]},
    "negative when new": {"new_batches": [batch("b2", allocated=-1)]},
    "oversold": {"batches": [batch("b1", purchased=10, allocated=11)]},
    "negative": {"batches": [batch("b1", purchased=-1, allocated=-1)]},
    "cut below what is allocated": {"batches": [batch("b1", purchased=3, allocated=4)]},
    "less than nobody waits": {"products": [changed(version=2, waiting=-1)]},
    "a line of nothing": {"new_lines": [line("o2", qty=0)]},
}


@pytest.mark.parametrize("parts", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_can_never_be_true_is_refused_whatever_the_code_does(place: Place, parts: dict[str, Any]) -> None:
    place.save(new_products=[product()], new_batches=[batch("b1")])
    before = place.contents()
    with pytest.raises(Exception, match=r"(?i)never_oversold|waiting_lines|qty") as refused:
        place.save(messages=[ledger("m1")], **parts)
    assert not isinstance(refused.value, StoreConflict | StoreUnavailable), "doing it again cannot help"
    assert place.contents() == before
    place.save(messages=[ledger("afterwards")])


def test_work_that_raises_leaves_nothing(place: Place) -> None:
    def saves_and_fails(session: Session) -> NoReturn:
        session.save(Changes(MOMENT, new_products=[product()], messages=[ledger("m1")]))
        raise ZeroDivisionError("the work's own")

    with pytest.raises(ZeroDivisionError, match="the work's own"):
        place.run(saves_and_fails)
    assert place.contents() == ([], [], [], [], [])
    place.save(new_products=[product()], messages=[ledger("m1")])
    assert place.contents().products == [(SKU, 1, 0)]


def test_the_result_of_the_work_comes_back(place: Place) -> None:
    work: Callable[[Session], str] = lambda _: "done"  # noqa: E731 - typed
    assert place.run(work) == "done"


def test_a_thousand_messages_are_one_group(place: Place) -> None:
    place.save(
        new_products=[product(version=1_001)],
        new_batches=[batch("b1", purchased=1_000, allocated=1_000)],
        new_lines=[line(f"o{number}", position=number) for number in range(2, 1_002)],
        messages=[ledger(f"m{number}") for number in range(1_000)],
        deliveries=[delivery(f"m{number}") for number in range(1_000)],
    )
    wanted = {(f"o{number}", SKU) for number in range(2, 1_002)}
    found = place.load(skus={SKU}, lines=wanted, message_ids={f"m{number}" for number in range(1_000)})
    assert (len(found.lines), len(found.messages), found.batches) == (1_000, 1_000, [])

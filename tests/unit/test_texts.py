"""Names and their limits: how a reference, a SKU or an order id may be written, wherever it enters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchQuarantined,
    Event,
    HoldExpired,
    LinePinned,
    LineShipped,
    RulesChanged,
    StockHeld,
)
from allocation.domain.fields import MAX_TEXT_LENGTH, cleaned
from allocation.entrypoints.intake.texts import event_from_texts
from allocation.service_layer.messages import (
    checked_message,
    decode,
    encode,
    from_fields,
    new_message,
    recall,
)
from allocation.service_layer.writing.stream import parse_line

COMPOSED, DECOMPOSED = "CAF\u00c9", "CAFE\u0301"
NO_SPACE = "sku takes no white space at its ends: send "
BAD_TEXTS = [
    ("BED ", 'sku is "BED "', NO_SPACE + '"BED".'),
    (" BED", 'sku is " BED"', NO_SPACE + '"BED".'),
    (f" {DECOMPOSED}", "sku is ' CAFE\\u0301'", NO_SPACE + '"CAF\u00c9".'),
    ("  ", 'sku is "  "', "sku takes more than white space."),
    (
        DECOMPOSED,
        "sku is 'CAFE\\u0301'",
        "sku takes composed characters (Unicode NFC): send 'CAF\\xc9'.",
    ),
    ("A\tB", "sku is 'A\\tB'", "sku takes 1 to 255 printable characters."),
    ("BED\u00a0", "sku is 'BED\\xa0'", "sku takes 1 to 255 printable characters."),
]
TYPED = '{"type":"LineShipped",'
WAYS: Mapping[str, Callable[[str], Event]] = {
    "http": lambda sku: decode(LineShipped, encode(LineShipped("o1", sku))),
    "bulk": lambda sku: parse_line(encode(LineShipped("o1", sku)).replace("{", TYPED, 1), "x").event,
    "object": lambda sku: from_fields(LineShipped, {"orderid": "o1", "sku": sku}),
    "command": lambda sku: event_from_texts(LineShipped, {"orderid": "o1", "sku": sku}),
    "python": lambda sku: new_message(LineShipped("o1", sku), "test").event,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("sku", "message", "cure"), BAD_TEXTS)
def test_a_name_that_looks_like_another_is_refused_with_the_cure(
    way: Callable[[str], Event], sku: str, message: str, cure: str
) -> None:
    with pytest.raises(InvalidMessage) as refused:
        way(sku)
    assert (refused.value.message, refused.value.cure) == (message, cure)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("sku", ["BED 1", COMPOSED, "\u684c\u5b50 7", "\u0301A", "A  B", "x" * MAX_TEXT_LENGTH])
def test_a_name_in_normal_form_is_taken_as_it_is(way: Callable[[str], Event], sku: str) -> None:
    assert way(sku) == LineShipped("o1", sku)


def test_words_in_a_reason_and_a_location_are_names_too() -> None:
    for event in (BatchQuarantined("b1", "damp "), BatchCreated("b1", "BED", 1, location=" LYON")):
        with pytest.raises(InvalidMessage, match='is "'):
            new_message(event, "test")


BAD_EVENTS: list[tuple[Any, str, str]] = [
    (BatchCreated("", "BED", 1), 'ref is ""', "ref takes 1 to 255 printable characters."),
    (BatchCreated("x" * 256, "BED", 1), f'ref is "{"x" * 59}\u2026', "ref takes 1 to 255 printable characters."),
    (BatchCreated("b\ud800", "BED", 1), "ref is 'b\\ud800'", "ref takes 1 to 255 printable characters."),
    (BatchCreated(b"b1", "BED", 1), 'ref is "YjE="', "ref takes 1 to 255 printable characters."),  # type: ignore[arg-type]
    (BatchCreated(None, "BED", 1), "ref is null", "ref takes 1 to 255 printable characters."),  # type: ignore[arg-type]
    (BatchCreated("b1", "BED", 0), "qty is 0", "qty takes a whole number from 1 to 1,000,000,000."),
    (BatchCreated("b1", "BED", 10**9 + 1), "qty is 1000000001", "qty takes a whole number from 1 to 1,000,000,000."),
    (BatchCreated("b1", "BED", 10**30), f"qty is {10**30}", "qty takes a whole number from 1 to 1,000,000,000."),
    (BatchCreated("b1", "BED", True), "qty is true", "qty takes a whole number from 1 to 1,000,000,000."),
    (BatchCreated("b1", "BED", 1.0), "qty is 1.0", "qty takes a whole number from 1 to 1,000,000,000."),  # type: ignore[arg-type]
    (
        BatchCreated("b1", "BED", 1, "2026-01-31"),  # type: ignore[arg-type]
        'eta is "2026-01-31"',
        "eta takes a date such as 2026-01-31, or null.",
    ),
    (
        BatchCreated("b1", "BED", 1, datetime(2026, 1, 31, tzinfo=UTC)),
        'eta is "2026-01-31T00:00:00Z"',
        "eta takes a date such as 2026-01-31, or null.",
    ),
    (
        StockHeld("cart", "BED", 1, datetime(2026, 1, 31)),  # noqa: DTZ001 - without its zone, which is refused
        'expires_at is "2026-01-31T00:00:00"',
        "expires_at takes a moment with its time zone, such as 2026-01-31T12:00:00Z.",
    ),
    (AllocationRequired("o1", "BED", 1, priority=10), "priority is 10", "priority takes a whole number from 0 to 9."),
    (AllocationRequired("o1", "BED", 1, split=1), "split is 1", "split takes true or false."),  # type: ignore[arg-type]
    (
        RulesChanged("BED", strategy="best"),
        'strategy is "best"',
        "strategy takes one of warehouse-first, first-expired, preferred-location, just-in-time, or null.",
    ),
]


@pytest.mark.parametrize(("event", "message", "cure"), BAD_EVENTS)
def test_an_event_made_in_python_has_the_same_limits(event: Event, message: str, cure: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        new_message(event, "test", "key")
    assert (refused.value.message, refused.value.cure) == (message, cure)


def test_an_event_made_in_python_is_passed_on_as_it_is() -> None:
    event = StockHeld("cart", COMPOSED, 1, datetime(2026, 1, 31, tzinfo=UTC))
    assert new_message(event, "test").event is event
    assert new_message(BatchCreated("b1", "BED", 1, date(2026, 1, 31)), "test", "key").id == "key"


def test_files_are_trimmed_and_normalised() -> None:
    line = '{"type": "AllocationRequired ", "orderid": " o1\\t", "sku": "CAFE\\u0301 ", "qty": 2,'
    line += ' "need_by": " 2026-01-31"}'
    assert parse_line(line, "import", clean=True).event == AllocationRequired("o1", COMPOSED, 2, date(2026, 1, 31))
    own = parse_line('{"type":"LineShipped","orderid":"o1 ","sku":"BED","id":" key "}', "import", clean=True)
    assert (own.event, own.id) == (LineShipped("o1", "BED"), " key "), "an id is the sender's own"


def test_trimming_does_not_mend_what_is_wrong_inside() -> None:
    with pytest.raises(InvalidMessage, match=r"^sku is 'A\\tB'$"):
        parse_line('{"type":"LineShipped","orderid":"o1","sku":" A\\tB "}', "import", clean=True)


def test_names_stored_by_earlier_versions_can_be_read_and_named() -> None:
    old = LineShipped(" o1", "BED ")
    assert recall("LineShipped", encode(old)) == old
    assert checked_message(HoldExpired("cart "), "clock").event == HoldExpired("cart ")
    texts = {"orderid": " o1", "sku": "BED ", "batchref": "b1", "reason": "tidy"}
    assert event_from_texts(LinePinned, texts, ["orderid", "sku"]) == LinePinned(" o1", "BED ", "b1", "tidy")
    with pytest.raises(InvalidMessage, match=r"^reason is"):
        event_from_texts(LinePinned, {**texts, "reason": " tidy"}, ["orderid", "sku"])
    with pytest.raises(InvalidMessage, match=r"^sku is"):
        event_from_texts(LinePinned, {**texts, "sku": "A\tB"}, ["orderid", "sku"])


def test_a_name_is_cleaned_once() -> None:
    assert cleaned(f"\t{DECOMPOSED}\u00a0") == COMPOSED
    assert cleaned("\u3000") == ""

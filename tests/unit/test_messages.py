from __future__ import annotations

import sys
from datetime import UTC, date, datetime

import pytest

from allocation.domain.errors import InvalidMessage
from allocation.domain.events import (
    AllocationRequired,
    BatchCounted,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    Event,
    LineReturned,
    OutOfStock,
    RulesChanged,
    StockAdjusted,
    StockHeld,
)
from allocation.service_layer.messages import (
    EVENTS,
    check_key,
    decode,
    decode_typed,
    encode,
    field_rules,
    incoming,
    incoming_types,
    message_id,
    new_message,
    recall,
    split_id,
)

TEXT = "takes 1 to 255 printable characters."
QTY = "qty takes a whole number from 1 to 1,000,000,000."
ETA = "eta takes a date such as 2026-01-31, or null."
HAS = (
    "ref, sku, qty, eta (optional), expires_on (optional), location (optional), delivery (optional), "
    "quarantine (optional), eta_unknown (optional)."
)
SEND = f"Send a JSON object with {HAS}"
ONE_PER_LINE = "Send one JSON object per line."
TYPES = f"Use one of {', '.join(incoming_types())}."
TOO_LONG = "x" * 256

BAD_BODIES = [
    ("", "Not valid JSON: Input data was truncated", SEND),
    ("nonsense", "Not valid JSON: JSON is malformed: invalid character (byte 4)", SEND),
    (b"\xff\xfe", "Not valid JSON: JSON is malformed: invalid character (byte 0)", SEND),
    ("[]", "Not a JSON object: []", SEND),
    ("null", "Not a JSON object: null", SEND),
    ("3", "Not a JSON object: 3", SEND),
    ('"text"', 'Not a JSON object: "text"', SEND),
    ("{}", "Missing field ref", f"Send ref: {TEXT.removeprefix('takes ')}"),
    ('{"ref":"b1"}', "Missing field sku", f"Send sku: {TEXT.removeprefix('takes ')}"),
    (
        '{"ref":"b1","sku":"RUG","qty":1,"x":"red"}',
        'Unknown field "x"',
        f"BatchCreated has {HAS}",
    ),
]

BAD_REFS = [
    ('""', 'ref is ""'),
    (f'"{TOO_LONG}"', f'ref is "{"x" * 59}…'),
    (r'"a\u0000b"', r"ref is 'a\x00b'"),
    (r'"a\nb"', r"ref is 'a\nb'"),
    (r'"\u007f"', r"ref is '\x7f'"),
    (r'"\u200b"', r"ref is '\u200b'"),
    ("7", "ref is 7"),
    ("null", "ref is null"),
    ('["b1"]', 'ref is ["b1"]'),
    ('{"a":1}', 'ref is {"a":1}'),
]

BAD_QUANTITIES = ["0", "-1", "1.5", "1.0", '"3"', "true", "null", "[]", "{}", "1000000001", "1" + "0" * 30]
BAD_DATES = ['"tomorrow"', '"2026-02-30"', '"2026-1-1"', '"2026-01-31T00:00:00Z"', "20260131", '""', "true", "[]"]

BAD_LINES = [
    ("", "Not valid JSON: Input data was truncated", ONE_PER_LINE),
    ("[]", "Not a JSON object: []", ONE_PER_LINE),
    ("{}", "Unknown event type null", TYPES),
    ('{"type":5}', "Unknown event type 5", TYPES),
    ('{"type":"Nope"}', 'Unknown event type "Nope"', TYPES),
    ('{"type":"Allocated","orderid":"o1"}', 'Unknown event type "Allocated"', TYPES),
    ('{"type":"BatchCreated"}', "Missing field ref", "Send ref: 1 to 255 printable characters."),
    ('{"type":"BatchCreated","ref":"b1","sku":"RUG","qty":true}', "qty is true", QTY),
    (r'{"type":"BatchCreated","ref":"\u0000","sku":"RUG","qty":1}', r"ref is '\x00'", f"ref {TEXT}"),
]


def body(ref: str = '"b1"', qty: str = "1", eta: str = "null") -> str:
    return f'{{"ref":{ref},"sku":"RUG","qty":{qty},"eta":{eta}}}'


def refusal(kind: type[Event], text: bytes | str) -> tuple[str, str]:
    with pytest.raises(InvalidMessage) as refused:
        decode(kind, text)
    return refused.value.message, refused.value.cure


@pytest.mark.parametrize(("text", "message", "cure"), BAD_BODIES)
def test_a_body_that_is_no_event_is_refused_with_the_cure(text: bytes | str, message: str, cure: str) -> None:
    assert refusal(BatchCreated, text) == (message, cure)


@pytest.mark.parametrize(("value", "message"), BAD_REFS)
def test_a_text_out_of_its_limits_is_named(value: str, message: str) -> None:
    assert refusal(BatchCreated, body(ref=value)) == (message, f"ref {TEXT}")


@pytest.mark.parametrize("value", BAD_QUANTITIES)
def test_a_quantity_out_of_its_limits_is_named(value: str) -> None:
    assert refusal(BatchCreated, body(qty=value)) == (f"qty is {value}", QTY)


@pytest.mark.parametrize("value", BAD_DATES)
def test_what_is_no_date_is_named(value: str) -> None:
    assert refusal(BatchCreated, body(eta=value)) == (f"eta is {value}", ETA)


@pytest.mark.parametrize("value", ["NaN", "1e400", "9" * 5_000, r'"\ud800"'])
def test_values_that_json_cannot_carry_are_refused(value: str) -> None:
    message, cure = refusal(BatchCreated, body(qty=value))
    assert message.startswith("Not valid JSON: ")
    assert cure == SEND


def test_a_count_may_be_zero_but_not_less() -> None:
    assert decode(BatchQuantityChanged, '{"ref":"b1","qty":0}') == BatchQuantityChanged("b1", 0)
    assert refusal(BatchQuantityChanged, '{"ref":"b1","qty":-1}') == (
        "qty is -1",
        "qty takes a whole number from 0 to 1,000,000,000.",
    )


@pytest.mark.parametrize("depth", [100, 500, 900, 1_000, 3_000, 200_000])
@pytest.mark.parametrize("shape", ['{{"ref":{},"sku":"RUG","qty":1}}', '{{"x":{}}}', "{}"])
def test_nesting_of_any_depth_is_refused(depth: int, shape: str) -> None:
    text = shape.format("[" * depth + "]" * depth)
    assert len(refusal(BatchCreated, text)[0]) < 200
    with pytest.raises(InvalidMessage):
        decode_typed(text)


def test_nesting_is_refused_with_little_stack_left_too() -> None:
    def deeper(left: int) -> tuple[str, str]:
        return deeper(left - 1) if left else refusal(BatchCreated, body(ref="[" * 90 + "]" * 90))

    assert deeper(sys.getrecursionlimit() // 2)[1] == f"ref {TEXT}"


@pytest.mark.parametrize(("text", "message", "cure"), BAD_LINES)
def test_a_line_that_is_no_event_is_refused_with_the_cure(text: str, message: str, cure: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        decode_typed(text)
    assert (refused.value.message, refused.value.cure) == (message, cure)


def test_limits_are_included() -> None:
    ref = "x" * 255
    assert decode(BatchCreated, body(ref=f'"{ref}"', qty="1000000000")) == BatchCreated(ref, "RUG", 1_000_000_000)


@pytest.mark.parametrize("text", ["ÅNGSTRÖM-LAMP", "桌子 7", 'quote"s and \\ back', "🛋", "a  b"])
def test_any_printable_text_is_taken_as_it_is(text: str) -> None:
    event = AllocationRequired(text, text, 1)
    assert decode(AllocationRequired, encode(event)) == event


@pytest.mark.parametrize(
    "event",
    [
        BatchCreated("b1", "RUG", 3, date(2026, 1, 31)),
        BatchCreated("b1", "RUG", 3),
        AllocationRequired("o1", "RUG", 3),
        BatchQuantityChanged("b1", 0),
        AllocationRequired("o1", "RUG", 3, date(2026, 1, 31), 9),
        StockHeld("cart", "RUG", 3, datetime(2026, 1, 31, 12, tzinfo=UTC)),
        LineReturned("o1", "RUG", scrapped=True),
        LineReturned("o1", "RUG", 2, disposition="inspect"),
        BatchCreated("b1", "RUG", 3, delivery="PO-7", quarantine="wet", eta_unknown=True),
        BatchReceived("b1", 2, "expected", date(2026, 1, 31), "wet"),
        BatchCounted("b1", 0, "stocktaking", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        StockAdjusted("b1", -2, "damaged", "fell off"),
        RulesChanged("RUG", strategy="first-expired", safety_stock=3),
    ],
)
def test_an_event_comes_back_from_its_json(event: Event) -> None:
    assert decode(type(event), encode(event)) == event
    assert decode(type(event), encode(event).encode()) == event
    assert recall(type(event).__name__, encode(event)) == event
    assert decode_typed(encode(event).replace("{", f'{{"type":"{type(event).__name__}",', 1)) == event


def test_optional_fields_that_are_as_usual_are_left_out_of_the_ledger() -> None:
    assert encode(AllocationRequired("o1", "RUG", 3)) == '{"orderid":"o1","sku":"RUG","qty":3}'
    assert encode(BatchQuantityChanged("b1", 0)) == '{"ref":"b1","qty":0}'
    assert '"need_by":null,"priority":1' in encode(AllocationRequired("o1", "RUG", 3, priority=1))


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (StockHeld, '{"holdid":"c","sku":"RUG","qty":1,"expires_at":"2026-01-31T12:00:00"}', "expires_at is"),
        (StockHeld, '{"holdid":"c","sku":"RUG","qty":1,"expires_at":"soon"}', 'expires_at is "soon"'),
        (LineReturned, '{"orderid":"o","sku":"RUG","scrapped":null}', "scrapped is null"),
        (LineReturned, '{"orderid":"o","sku":"RUG","scrapped":"yes"}', 'scrapped is "yes"'),
        (RulesChanged, '{"sku":"RUG","strategy":"best"}', 'strategy is "best"'),
        (AllocationRequired, '{"orderid":"o","sku":"RUG","qty":1,"priority":10}', "priority is 10"),
        (AllocationRequired, '{"orderid":"o","sku":"RUG","qty":1,"priority":null}', "priority is null"),
    ],
)
def test_moments_truths_words_and_priorities_have_limits_too(kind: type[Event], text: str, message: str) -> None:
    assert refusal(kind, text)[0].startswith(message)


def test_a_row_of_the_ledger_without_a_field_added_since_has_its_default() -> None:
    assert recall("BatchCreated", '{"ref":"b1","sku":"RUG","qty":3}') == BatchCreated("b1", "RUG", 3)
    assert recall("OutOfStock", '{"sku":"RUG","dropped":1}') == OutOfStock("RUG")


def test_a_receipt_from_before_receipts_in_parts_closed_its_batch() -> None:
    assert recall("BatchReceived", '{"ref":"b1","qty":3}') == BatchReceived("b1", 3, rest="closed")
    assert recall("BatchReceived", encode(BatchReceived("b1", 3))) == BatchReceived("b1", 3, rest="expected")


FACTS = {
    *("Allocated", "Deallocated", "Backordered", "Held", "HoldEnded", "Pinned", "Resized", "Split"),
    *("Shipped", "Returned", "Cancelled", "StockScrapped", "OutOfStock", "PromiseChanged"),
    *("Served", "StockCounted", "StockInspected"),
    *("AllocatedQuantityRepaired", "ShippedQuantityRepaired", "WaitingLinesRepaired"),
}


def test_a_fact_cannot_be_sent_and_everything_else_can() -> None:
    assert set(EVENTS) == FACTS | set(incoming_types())
    for name in FACTS:
        with pytest.raises(InvalidMessage, match=f'^Unknown event type "{name}"$'):
            incoming(name)
    assert [incoming(name) for name in incoming_types()] == [EVENTS[name] for name in incoming_types()]


def test_the_rules_of_every_field_can_be_read() -> None:
    assert [(rule.name, str(rule)) for rule in field_rules(BatchCreated)] == [
        ("ref", "1 to 255 printable characters"),
        ("sku", "1 to 255 printable characters"),
        ("qty", "a whole number from 1 to 1,000,000,000"),
        ("eta", "a date such as 2026-01-31, or null"),
        ("expires_on", "a date such as 2026-01-31, or null"),
        ("location", "1 to 255 printable characters, or null"),
        ("delivery", "1 to 255 printable characters, or null"),
        ("quarantine", "1 to 255 printable characters, or null"),
        ("eta_unknown", "true or false"),
    ]
    rules = {rule.name: str(rule) for kind in (StockHeld, LineReturned, RulesChanged) for rule in field_rules(kind)}
    assert rules["expires_at"] == "a moment with its time zone, such as 2026-01-31T12:00:00Z"
    assert rules["scrapped"] == "true or false"
    assert rules["strategy"] == "one of warehouse-first, first-expired, preferred-location, just-in-time, or null"


def test_every_new_message_has_an_id_of_its_own_in_the_order_of_time() -> None:
    ids = [new_message(OutOfStock("RUG"), "test").id for _ in range(1_000)]
    assert ids == sorted(set(ids))


def test_a_senders_key_becomes_the_id() -> None:
    message = new_message(OutOfStock("RUG"), "shop", "order 7/3")
    assert (message.id, message.actor, message.keyed) == ("order 7/3", "shop", True)
    assert not new_message(OutOfStock("RUG"), "shop").keyed


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "\0", "step~1", "\ud800"])
def test_a_key_that_is_not_usable_is_refused(key: str) -> None:
    with pytest.raises(InvalidMessage, match=r"^Idempotency key .* is not usable$") as refused:
        check_key(key)
    assert refused.value.cure == "Use 1 to 255 printable characters without '~', a UUID for example."


@pytest.mark.parametrize(("correlation_id", "step", "id_"), [("a-b", 0, "a-b"), ("a-b", 12, "a-b~12")])
def test_the_id_of_a_ledger_row_leads_back_to_it(correlation_id: str, step: int, id_: str) -> None:
    assert message_id(correlation_id, step) == id_
    assert split_id(id_) == (correlation_id, step)


@pytest.mark.parametrize("id_", ["", "~", "a~", "a~b", "a~-1", "a~²"])
def test_what_is_no_id_of_a_row_is_taken_whole(id_: str) -> None:
    assert split_id(id_) == (id_, 0)

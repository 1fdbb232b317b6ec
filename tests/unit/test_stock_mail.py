"""The text of the mails to the stock team."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from allocation.service_layer.delivering.stock_mail import (
    Place,
    Shortage,
    Shortages,
    WaitingLine,
    about_day,
    about_product,
)

HERE = Place("https://stock.example.com", UTC)
SINCE = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


def waiting(orderid: str, qty: int = 1, part: int | None = None) -> WaitingLine:
    return WaitingLine(orderid, part, qty, SINCE, None)


def test_a_mail_says_which_orders_wait_for_how_much_since_when_and_needed_by() -> None:
    new = [
        WaitingLine("o3", None, 1_200, SINCE, date(2026, 7, 9)),
        WaitingLine("o4", 2, 7, SINCE, None),
    ]
    earlier = [WaitingLine("o1", None, 3, datetime(2026, 6, 30, 8, 5, tzinfo=UTC), date(2026, 7, 2))]
    letter = about_product(Shortage("RED CHAIR/2", 1_003, new, earlier), HERE)
    assert letter.subject == "Out of stock for RED CHAIR/2: 1,003 order lines wait"
    assert letter.text.splitlines() == [
        "1,003 order lines wait for RED CHAIR/2.",
        "",
        "New:",
        "  1,200 for order o3, since 2026-07-01 22:30 UTC, needed by 2026-07-09",
        "  7 for order o4, part 2, since 2026-07-01 22:30 UTC",
        "Waiting before:",
        "  3 for order o1, since 2026-06-30 08:05 UTC, needed by 2026-07-02",
        "and 1,000 more",
        "",
        "They are allocated as soon as there is stock: add a batch, or correct the count of one.",
        "",
        "https://stock.example.com/console/products/RED%20CHAIR%2F2",
    ]


def test_times_are_those_of_the_readers_and_an_unknown_one_is_left_out() -> None:
    lines = [waiting("o1"), waiting("o2")._replace(since=None)]
    text = about_product(Shortage("CHAIR", 2, lines, []), Place("http://x", ZoneInfo("Asia/Seoul"))).text
    assert "\n  1 for order o1, since 2026-07-02 07:30 KST\n  1 for order o2\n" in text
    assert "Waiting before" not in text
    assert "more" not in text


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "no order line waits any more"), (1, "1 order line waits"), (2, "2 order lines wait")],
)
def test_the_subject_counts_the_lines(number: int, words: str) -> None:
    lines = [waiting(f"o{each}") for each in range(number)]
    letter = about_product(Shortage("CHAIR", number, [], lines), HERE)
    assert letter.subject == f"Out of stock for CHAIR: {words}"
    assert letter.text.endswith("\n\nhttps://stock.example.com/console/products/CHAIR\n")


def test_a_mail_about_lines_that_were_served_meanwhile_lists_none() -> None:
    letter = about_product(Shortage("CHAIR", 0, [], []), HERE)
    assert letter.text.startswith("CHAIR was out of stock, and no order line waits any more.\n")
    assert "add a batch" not in letter.text


def test_no_line_is_longer_than_a_mail_may_have() -> None:
    """998 characters, as long as the text is ASCII; other text is encoded."""
    orderid, sku = "o" * 255, "/" * 255
    shortage = Shortage(sku, 10**9, [waiting(orderid, 10**9, 100)._replace(need_by=date.max)], [])
    letter = about_product(shortage, Place("https://" + "x" * 192, UTC))
    assert max(map(len, letter.text.splitlines())) <= 998
    assert len(letter.subject) <= 500


def test_a_digest_lists_every_product_with_its_lines_and_its_page() -> None:
    chair = Shortage("CHAIR", 2, [waiting("o2", 5)], [waiting("o1", 3)])
    letter = about_day(Shortages([chair, Shortage("SOFA", 30, [waiting("o3", 1)], [])], 0), HERE)
    assert letter.subject == "Out of stock: 2 products, 32 order lines wait"
    assert letter.text.splitlines() == [
        "Since the last mail order lines began to wait for 2 products.",
        "",
        "CHAIR: 2 order lines wait",
        "New:",
        "  5 for order o2, since 2026-07-01 22:30 UTC",
        "Waiting before:",
        "  3 for order o1, since 2026-07-01 22:30 UTC",
        "https://stock.example.com/console/products/CHAIR",
        "",
        "SOFA: 30 order lines wait",
        "New:",
        "  1 for order o3, since 2026-07-01 22:30 UTC",
        "and 29 more",
        "https://stock.example.com/console/products/SOFA",
        "",
        "They are allocated as soon as there is stock: add a batch, or correct the count of one.",
    ]


def test_a_digest_of_too_many_products_leads_to_the_others() -> None:
    letter = about_day(Shortages([Shortage("CHAIR", 1, [waiting("o1")], [])], 1_200), HERE)
    assert letter.subject == "Out of stock: more than 1 product, 1 order line waits"
    assert "\nUp to 1,200 more products: https://stock.example.com/console/products?only=waiting\n" in letter.text

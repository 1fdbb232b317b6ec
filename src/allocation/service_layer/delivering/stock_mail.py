"""The text of the mails to the stock team. It is about the lines that wait when the mail is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, tzinfo
from typing import NamedTuple
from urllib.parse import quote

MOST_LINES = 100  # listed of a product
MOST_LINES_OF_DIGEST = 20  # the same in a digest
MOST_PRODUCTS = 100  # in a digest
PRODUCTS_PAGE = "/console/products"


class WaitingLine(NamedTuple):
    """An order line that waits; ``since`` is None if the ledger no longer has it, ``part`` if the line is whole."""

    orderid: str
    part: int | None
    qty: int
    since: datetime | None
    need_by: date | None


class Shortage(NamedTuple):
    """A product that lines wait for: the number of all of them, the new ones, and some of the others, oldest first."""

    sku: str
    waiting_lines: int
    new: Sequence[WaitingLine]
    earlier: Sequence[WaitingLine]


class Noted(NamedTuple):
    """A product for a digest, and the first cascade that left a line of it without stock since the last one."""

    sku: str
    cascade: str


class Shortages(NamedTuple):
    """The products of a digest, and the number of further ones, which were not read."""

    products: Sequence[Shortage]
    further: int


class Place(NamedTuple):
    """Where the readers of a mail are: the address at which they open the service, and their time zone."""

    base_url: str
    zone: tzinfo


class Letter(NamedTuple):
    """A mail without its addresses."""

    subject: str
    text: str


def about_product(shortage: Shortage, place: Place) -> Letter:
    """The mail about one product."""
    sku, number, *_ = shortage
    waiting = lines_wait(number)
    if not number:
        text = f"{sku} was out of stock, and {waiting} any more.\n\n{_link(sku, place)}\n"
        return Letter(f"Out of stock for {sku}: {waiting} any more", text)
    text = f"{waiting} for {sku}.\n\n{_listed(shortage, place)}\n{_CURE}\n\n{_link(sku, place)}\n"
    return Letter(f"Out of stock for {sku}: {waiting}", text)


def about_day(shortages: Shortages, place: Place) -> Letter:
    """The mail about all products that lines began to wait for since the last one."""
    products, further = shortages
    number = "1 product" if len(products) == 1 else f"{len(products):,} products"
    waiting = lines_wait(sum(product.waiting_lines for product in products))
    parts = [f"{_heading(product)}\n{_listed(product, place)}{_link(product.sku, place)}\n" for product in products]
    more = f"Up to {further:,} more products: {place.base_url}{PRODUCTS_PAGE}?only=waiting\n\n" if further else ""
    begun = f"Since the last mail order lines began to wait for {'more than ' if further else ''}{number}."
    text = "\n".join([f"{begun}\n", *parts, f"{more}{_CURE}\n"])
    return Letter(f"Out of stock: {'more than ' if further else ''}{number}, {waiting}", text)


def lines_wait(number: int) -> str:
    """The number of order lines that wait, as a clause."""
    return {0: "no order line waits", 1: "1 order line waits"}.get(number, f"{number:,} order lines wait")


_CURE = "They are allocated as soon as there is stock: add a batch, or correct the count of one."


def _heading(shortage: Shortage) -> str:
    return f"{shortage.sku}: {lines_wait(shortage.waiting_lines)}"


def _listed(shortage: Shortage, place: Place) -> str:
    return "".join(f"{line}\n" for line in _lines(shortage, place))


def _lines(shortage: Shortage, place: Place) -> Iterator[str]:
    for heading, lines in (("New:", shortage.new), ("Waiting before:", shortage.earlier)):
        if lines:
            yield heading
        yield from (f"  {_told(line, place.zone)}" for line in lines)
    more = shortage.waiting_lines - len(shortage.new) - len(shortage.earlier)
    if more > 0:
        yield f"and {more:,} more"


def _told(line: WaitingLine, zone: tzinfo) -> str:
    part = "" if line.part is None else f", part {line.part}"
    since = "" if line.since is None else f", since {line.since.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    need_by = "" if line.need_by is None else f", needed by {line.need_by}"
    return f"{line.qty:,} for order {line.orderid}{part}{since}{need_by}"


def _link(sku: str, place: Place) -> str:
    return f"{place.base_url}{PRODUCTS_PAGE}/{quote(sku, safe='')}"

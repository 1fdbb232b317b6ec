"""The fields of events: their limits, their meaning, and the types that several events share.

A field is annotated with its limits (`Text`, `Between`, `OneOf`) and its `Meaning`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Annotated

MAX_TEXT_LENGTH = 255
MAX_QUANTITY = 1_000_000_000
MAX_PRIORITY = 9
MAX_DAYS = 3_650
MAX_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Text:
    """Limits of a reference, SKU or order id: printable characters only, so no control characters.

    It is in Unicode's normal form C and has no white space at either end, so that equal names are equal texts.
    """

    max_length: int = MAX_TEXT_LENGTH

    def __str__(self) -> str:
        return f"1 to {self.max_length} printable characters"


@dataclass(frozen=True, slots=True)
class Between:
    """Limits of a whole number, both included."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"a whole number from {self.least:,} to {self.most:,}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Limits of a text: one of these words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a field for people in a shop or a warehouse: one sentence, without its full stop."""

    sentence: str


def cleaned(text: str) -> str:
    """The text as names are stored: in Unicode's normal form C, without white space at either end."""
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()


EXPECTED = "expected"
CLOSED = "closed"
STOCK = "stock"
INSPECT = "inspect"
SCRAP = "scrap"
CLEARABLE = ("expires_on", "location", "delivery")
STRATEGIES = ("warehouse-first", "first-expired", "preferred-location", "just-in-time")

Reference = Annotated[str, Text()]
Quantity = Annotated[int, Between(1, MAX_QUANTITY)]
Difference = Annotated[int, Between(-MAX_QUANTITY, MAX_QUANTITY)]
Count = Annotated[int, Between(0, MAX_QUANTITY)]
Priority = Annotated[int, Between(0, MAX_PRIORITY)]
Days = Annotated[int, Between(0, MAX_DAYS)]
Position = Annotated[int, Between(1, MAX_POSITION)]
Strategy = Annotated[str, OneOf(STRATEGIES)]
Disposition = Annotated[str, OneOf((STOCK, INSPECT, SCRAP))]
Rest = Annotated[str, OneOf((EXPECTED, CLOSED))]
Clearable = Annotated[str, OneOf(CLEARABLE)]

OrderId = Annotated[
    Reference, Meaning("The order, by your number; a later part of a split line has /2, /3 … behind it")
]
HoldId = Annotated[Reference, Meaning("The hold, by your number of the cart")]
Sku = Annotated[Reference, Meaning("The product, by its stock keeping unit")]
Delivery = Annotated[Reference, Meaning("The delivery, by its purchase order or container")]
BatchRef = Annotated[Reference, Meaning("The batch, by your reference")]
Arrived = Annotated[bool, Meaning("The stock is of the part that has arrived, while the rest of the batch is due")]
LineQuantity = Annotated[Quantity, Meaning("Quantity of the order line")]
Stored = Annotated[Count, Meaning("Number stored before the repair")]
Counted = Annotated[Count, Meaning("Number that the order lines add up to, stored now")]

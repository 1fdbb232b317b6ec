"""The two stories that `demo` plays: the HTTP requests, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

CUSTOMS = timedelta(weeks=3)
EXPRESS = timedelta(days=2)


class Step(NamedTuple):
    """One step: the reason, and the request to the service."""

    told: str
    path: str
    body: Mapping[str, Any]


class Story(NamedTuple):
    """A product and its story: first its stock and orders, then the trouble."""

    title: str
    sku: str
    beginning: Sequence[Step]
    trouble: Sequence[Step]

    @property
    def orders(self) -> list[str]:
        return [step.body["orderid"] for step in self.beginning if "orderid" in step.body]


def stories(today: date) -> list[Story]:
    return [_mattresses(today), _forks(today)]


def _mattresses(today: date) -> Story:
    sku = "SPRINGY-MATTRESS"
    return Story(
        "The roof leaks",
        sku,
        [
            _batch("Ten mattresses are in the warehouse.", "mattress-stock", sku, 10, None),
            _batch("Five more are on their way.", "mattress-shipment", sku, 5, today + EXPRESS),
            _line("Anna orders four,", "anna", sku, 4),
            _line("Ben three,", "ben", sku, 3),
            _line("and Carla two. The warehouse has room for all of them.", "carla", sku, 2),
        ],
        [
            _count(
                "It rained through the roof: a stock count finds 3 of the 10 damaged. The newest line loses its batch, "
                "and only that one; it moves to the shipment.",
                "mattress-stock",
                7,
            ),
        ],
    )


def _forks(today: date) -> Story:
    sku = "RELIABLE-FORK"
    return Story(
        "Customs, then the safety check",
        sku,
        [
            _batch(
                "Ten forks are due, but a document is missing: customs keeps them for weeks.",
                *("fork-customs", sku, 10, today + CUSTOMS),
            ),
            _line("Dora orders four: promised from the delivery,", "dora", sku, 4),
            _line("Emil three,", "emil", sku, 3),
            _line("Finn two.", "finn", sku, 2),
            _line("Gina orders three. One is left, so her line waits, and the stock team gets a mail.", "gina", sku, 3),
        ],
        [
            _count(
                "The document is found, but 3 of the 10 forks fail the safety check and are scrapped. Finn's line is"
                " the newest: it loses its batch, and no other batch can take it, so it waits.",
                "fork-customs",
                7,
            ),
            _batch(
                "Five more are bought. Waiting lines are allocated automatically, the oldest order first.",
                *("fork-express", sku, 5, today + EXPRESS),
            ),
        ],
    )


def _batch(told: str, ref: str, sku: str, qty: int, eta: date | None) -> Step:
    return Step(told, "/add_batch", {"ref": ref, "sku": sku, "qty": qty, "eta": eta.isoformat() if eta else None})


def _line(told: str, orderid: str, sku: str, qty: int) -> Step:
    return Step(told, "/allocate", {"orderid": orderid, "sku": sku, "qty": qty})


def _count(told: str, ref: str, qty: int) -> Step:
    return Step(told, "/change_batch_quantity", {"ref": ref, "qty": qty})

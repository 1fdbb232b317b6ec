"""A shop whose pages have something to show: some products, their batches and orders, and some trouble."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import wait_until

KINDS = ("RELIABLE", "SPRINGY", "CRUNCHY", "TASTELESS", "ELEGANT", "TINY", "HIGHBROW", "PLUSH")
THINGS = ("FORK", "MATTRESS", "ARMCHAIR", "LAMP", "SOFA", "TABLE", "POSTER", "RUG")
SKUS = [f"{kind}-{thing}" for thing in THINGS for kind in KINDS]
ORDERS = 420
SEED = 20_260_101
LATE = "POTTED-PALM"
SCRIPT = "<script>alert(1)</script>"
RIGHT_TO_LEFT = "שלום עולם " * 25 + "שלום!"  # 255 characters
DIED = (
    "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body, state, attempts, error, stack, settled_at)"
    " SELECT correlation_id, step, 'send_out_of_stock_notification', sku, type, body, 'dead', 10,"
    " 'SMTPRecipientsRefused: 550 stock@example.com: mailbox is full',"
    " 'Traceback (most recent call last):\n  …\nsmtplib.SMTPRecipientsRefused: 550 mailbox is full\n', recorded_at"
    " FROM messages AS told WHERE type = 'OutOfStock' AND sku = :sku AND NOT EXISTS ("
    "SELECT 1 FROM deliveries WHERE deliveries.correlation_id = told.correlation_id AND deliveries.step = told.step"
    ") ORDER BY position LIMIT 1"
)


def open_shop(client: httpx.Client) -> None:
    """Send everything that happened so far."""
    lines = "".join(json.dumps(event) + "\n" for event in _events())
    response = client.post("/bulk", content=lines, headers={"content-type": "application/x-ndjson"})
    refused = [line for line in response.text.splitlines() if '"status":201' not in line]
    assert not refused, refused[:3]


def give_up(database: Path, sku: str) -> None:
    """Leave a dead letter of this product behind, whose effect would succeed now."""
    pending = "SELECT 1 FROM deliveries WHERE state = 'pending'"
    with closing(sqlite3.connect(database)) as connection, connection:
        wait_until(lambda: not connection.execute(pending).fetchall())
        connection.execute(DIED, {"sku": sku})


def _events() -> Iterator[dict[str, Any]]:
    luck = random.Random(SEED)
    today = datetime.now(UTC).date()
    for sku in SKUS:
        name = sku.lower()
        for number in range(luck.randint(1, 4)):
            eta = None if number == 0 and luck.random() < 0.85 else today + timedelta(days=luck.randint(-4, 70))
            qty = luck.choice((20, 40, 60, 80, 120, 200))
            day = eta.isoformat() if eta else None
            yield {"type": "BatchCreated", "ref": f"{name}-{number + 1}", "sku": sku, "qty": qty, "eta": day}
    busy = [max(1.0, luck.paretovariate(1.6)) for _ in SKUS]
    for number in range(ORDERS):
        for sku in set(luck.choices(SKUS, busy, k=luck.choice((1, 1, 2, 3)))):
            yield _line(f"order-{10_000 + number}", sku, luck.choice((1, 1, 2, 2, 4, 6)))
    yield {
        "type": "BatchCreated",
        "ref": "customs",
        "sku": "RELIABLE-FORK",
        "qty": 60,
        "eta": (today + timedelta(21)).isoformat(),
    }
    for number in range(6):
        yield _line(f"fork-{number + 1}", "RELIABLE-FORK", 9 + number)
    yield {"type": "BatchQuantityChanged", "ref": "customs", "qty": 30}
    soon = (today + timedelta(9)).isoformat()
    yield {"type": "BatchCreated", "ref": "nursery", "sku": LATE, "qty": 40, "eta": (today + timedelta(12)).isoformat()}
    for number in range(5):
        yield {**_line(f"palm-{number + 1}", LATE, 3 + number), "need_by": soon if number % 2 else None}
    ends = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    yield {"type": "StockHeld", "holdid": "cart-1", "sku": LATE, "qty": 2, "expires_at": ends}
    yield {"type": "BatchCreated", "ref": f"batch {SCRIPT}", "sku": SCRIPT, "qty": 3}
    yield _line(SCRIPT, SCRIPT, 2)
    yield _line(RIGHT_TO_LEFT, SCRIPT, 2)
    yield {"type": "BatchCreated", "ref": RIGHT_TO_LEFT, "sku": RIGHT_TO_LEFT, "qty": 5}
    yield _line(SCRIPT, RIGHT_TO_LEFT, 2)


def _line(orderid: str, sku: str, qty: int) -> dict[str, Any]:
    return {"type": "AllocationRequired", "orderid": orderid, "sku": sku, "qty": qty}

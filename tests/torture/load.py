"""Senders under load: each sends one message after the other and repeats each, under its key, until it is acknowledged.

Stock is scarce on purpose: batches come in, in parts too, are late, cut and run out; lines wait, move and are served.
Any sender may ship, cancel, change or pin what any of them ordered lately, and order what any of them holds.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.torture.client import Client, NoAnswer
from tests.torture.history import Sent

SENDERS = 32
SKUS = [f"SKU-{number}" for number in range(8)]
HOT = 0.5  # of all messages are about the first
PATIENCE_S = 90.0  # of a sender with one message
RETRY_DELAY_S = 0.05
UNAVAILABLE = 503

SHARES = {
    "order": 0.49, "batch": 0.05, "count": 0.04, "eta": 0.03, "repeat": 0.04,
    "ship": 0.06, "cancel": 0.04, "resize": 0.05, "pin": 0.03, "hold": 0.05, "confirm": 0.05,
    "receive": 0.04, "undo": 0.01, "adjust": 0.02,
}  # fmt: skip
PATHS = {
    "ship": "/ship_line", "cancel": "/cancel_allocation", "resize": "/change_line_quantity", "pin": "/pin_line",
    "count": "/change_batch_quantity", "adjust": "/adjust_batch", "eta": "/change_batch_eta",
    "receive": "/receive_batch", "undo": "/undo_receipt",
}  # fmt: skip
RECENT = 200  # lines, of which one is chosen
INBOUND = 0.4  # of all batches
DAYS = ("2035-01-31", "2035-02-28", "2035-03-31")
HASTY = 0.03  # of all messages are sent by somebody who is gone before the answer, and then again


class Load:
    """All senders of one run, what they sent, and how it went."""

    def __init__(self, ports: Sequence[int], seed: int) -> None:
        self.history: list[Sent] = []
        self.counts: Counter[str] = Counter()
        self._ports = ports
        self._seed = seed
        self._over = asyncio.Event()
        self._batches: list[tuple[str, str]] = []  # acknowledged: reference and SKU
        self._orders: list[tuple[str, str]] = []  # the same: order id and SKU
        self._holds: list[tuple[str, str]] = []
        self._expires_at = (datetime.now(UTC) + timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._senders: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Buy the first batches, so that every product is known, and begin."""
        first = Client(self._ports[0])
        for sku in SKUS:
            await self._send(first, random.Random(self._seed), self._batch(f"first-{sku}", sku, 500))
        first.hang_up()
        self.go_on("a")

    def go_on(self, half: str) -> None:
        """Begin, or after a stop go on, with names of that half; nobody repeats what was acknowledged in another."""
        self._over.clear()
        self._senders = [
            asyncio.create_task(self._keep_sending(f"{half}{number}", number)) for number in range(SENDERS)
        ]

    async def stop(self) -> None:
        """Let every sender finish: until its message is acknowledged, or its patience ends."""
        self._over.set()
        await asyncio.gather(*self._senders)

    async def _keep_sending(self, name: str, number: int) -> None:
        chance = random.Random(f"{self._seed}-{name}")
        client = Client(self._ports[number % len(self._ports)])
        own: list[Sent] = []
        for count in itertools.count():
            if self._over.is_set():
                break
            (kind,) = chance.choices([*SHARES], [*SHARES.values()])
            if kind == "repeat" and own:
                self.counts["repeated"] += 1
                await self._send(client, chance, chance.choice(own))
            else:
                message = self._message(kind, f"{name}-{count}", chance)
                await self._send(client, chance, message)
                if message.refusal is None:  # else it may be taken another time, and be no repetition
                    own.append(message)
        client.hang_up()

    def _message(self, kind: str, name: str, chance: random.Random) -> Sent:
        """A request of that kind; an order, if there is nothing yet that it could be about."""
        sku, qty = SKUS[0] if chance.random() < HOT else chance.choice(SKUS[1:]), chance.randint(1, 3)
        path = "/allocate"
        body: dict[str, Any] = {"orderid": f"order-{name}", "sku": sku, "qty": qty}
        ref, of = chance.choice(self._batches)
        lines = [line for line in self._orders[-RECENT:] if line[1] == of]
        match kind:
            case "batch" if chance.random() < INBOUND:
                return self._batch(f"ship-{name}", sku, chance.randint(5, 60), eta=chance.choice(DAYS))
            case "batch":
                return self._batch(f"batch-{name}", sku, chance.randint(5, 60))
            case "count" | "adjust" | "eta" | "receive" | "undo":
                return self._of_stock(kind, name, chance)
            case "hold":
                body = {"holdid": f"hold-{name}", "sku": sku, "qty": qty, "expires_at": self._expires_at}
                path = "/hold_stock"
            case "confirm" if self._holds:
                holdid, sku = self._holds.pop(chance.randrange(len(self._holds)))
                path, body = "/confirm_hold", {"holdid": holdid, "orderid": f"order-{name}"}
            case "ship" | "cancel" | "resize" | "pin" if lines:
                orderid, sku = chance.choice(lines)
                more: dict[str, dict[str, Any]] = {
                    "resize": {"qty": qty},
                    "pin": {"batchref": ref, "reason": "a friend"},
                }
                path, body = PATHS[kind], {"orderid": orderid, "sku": sku, **more.get(kind, {})}
        return self._new(path, name, sku, **body)

    def _of_stock(self, kind: str, name: str, chance: random.Random) -> Sent:
        """About a batch that was bought; only of a ship does anything come in."""
        ships = [] if kind in {"count", "adjust"} else [each for each in self._batches if each[0].startswith("ship-")]
        ref, sku = chance.choice(ships or self._batches)
        more: dict[str, dict[str, Any]] = {
            "count": {"qty": chance.randint(0, 60)},
            "adjust": {"by": chance.choice([-2, -1, 1]), "reason": "found or broken"},
            "eta": {"eta": chance.choice(DAYS)},
            "receive": {"qty": chance.randint(1, 20)},
            "undo": {"qty": chance.randint(1, 20)},
        }
        return self._new(PATHS[kind], name, sku, ref=ref, **more[kind])

    def _batch(self, ref: str, sku: str, qty: int, **more: str) -> Sent:
        return self._new("/add_batch", ref, sku, ref=ref, sku=sku, qty=qty, **more)

    def _new(self, path: str, name: str, about: str, **body: Any) -> Sent:
        sent = Sent(f"key-{name}", path, body, about, time.monotonic())
        self.history.append(sent)
        return sent

    async def _send(self, client: Client, chance: random.Random, sent: Sent) -> None:
        """Try until there is an answer that is one; after a failure with the next server."""
        deadline = time.monotonic() + PATIENCE_S
        if chance.random() < HASTY:
            sent.attempts += 1
            self.counts["abandoned"] += 1
            await client.post_and_hang_up(sent.path, sent.body, sent.key)
        while time.monotonic() < deadline:
            sent.attempts += 1
            try:
                answer = await client.post(sent.path, sent.body, sent.key)
            except NoAnswer:
                self.counts["no answer"] += 1
                client.port = self._ports[(self._ports.index(client.port) + 1) % len(self._ports)]
            else:
                if answer.status != UNAVAILABLE:
                    sent.answers.append(answer)
                    self._acknowledge(sent)
                    return
                self.counts["503"] += 1
            await asyncio.sleep(chance.uniform(0, 2 * RETRY_DELAY_S))

    def _acknowledge(self, sent: Sent) -> None:
        if sent.acknowledged_at is None:
            sent.acknowledged_at = time.monotonic()
            self.counts["refused"] += sent.refusal is not None
            known = {
                "/add_batch": ("ref", self._batches),
                "/allocate": ("orderid", self._orders),
                "/confirm_hold": ("orderid", self._orders),
                "/hold_stock": ("holdid", self._holds),
            }.get(sent.path)
            if known is not None and sent.refusal is None:
                known[1].append((sent.body[known[0]], sent.sku))

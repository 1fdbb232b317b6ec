"""Senders under load: each sends one message after the other and repeats each, under its key, until it is acknowledged.

Stock is scarce on purpose: batches come in, are counted anew and run out, so lines wait, move and are served.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.torture.client import Client, NoAnswer
from tests.torture.history import Sent

SENDERS = 32
SKUS = [f"SKU-{number}" for number in range(8)]
HOT = 0.5  # of all messages are about the first
PATIENCE_S = 90.0  # of a sender with one message
RETRY_DELAY_S = 0.05
UNAVAILABLE = 503

KINDS = ("order", "batch", "count", "repeat")
SHARES = (0.86, 0.05, 0.05, 0.04)
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
        self._senders: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Buy the first batches, so that every product is known, and begin."""
        first = Client(self._ports[0])
        for sku in SKUS:
            await self._send(first, random.Random(self._seed), self._batch(f"first-{sku}", sku, 500))
        first.hang_up()
        self._senders = [asyncio.create_task(self._keep_sending(number)) for number in range(SENDERS)]

    async def stop(self) -> None:
        """Let every sender finish: until its message is acknowledged, or its patience ends."""
        self._over.set()
        await asyncio.gather(*self._senders)

    async def _keep_sending(self, number: int) -> None:
        chance = random.Random(f"{self._seed}-{number}")
        client = Client(self._ports[number % len(self._ports)])
        own: list[Sent] = []
        for count in itertools.count():
            if self._over.is_set():
                break
            (kind,) = chance.choices(KINDS, SHARES)
            if kind == "repeat" and own:
                self.counts["repeated"] += 1
                await self._send(client, chance, chance.choice(own))
            else:
                own.append(self._message(kind, f"{number}-{count}", chance))
                await self._send(client, chance, own[-1])
        client.hang_up()

    def _message(self, kind: str, name: str, chance: random.Random) -> Sent:
        sku = SKUS[0] if chance.random() < HOT else chance.choice(SKUS[1:])
        if kind == "batch":
            return self._batch(f"batch-{name}", sku, chance.randint(5, 60))
        if kind == "count" and self._batches:
            ref, sku = chance.choice(self._batches)
            return self._new("/change_batch_quantity", name, sku, ref=ref, qty=chance.randint(0, 60))
        return self._new("/allocate", name, sku, orderid=f"order-{name}", sku=sku, qty=chance.randint(1, 3))

    def _batch(self, ref: str, sku: str, qty: int) -> Sent:
        return self._new("/add_batch", ref, sku, ref=ref, sku=sku, qty=qty)

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
                    self._acknowledge(sent)
                    sent.answers.append(answer)
                    return
                self.counts["503"] += 1
            await asyncio.sleep(chance.uniform(0, 2 * RETRY_DELAY_S))

    def _acknowledge(self, sent: Sent) -> None:
        if sent.acknowledged_at is None:
            sent.acknowledged_at = time.monotonic()
            if sent.path == "/add_batch":
                self._batches.append((sent.body["ref"], sent.sku))

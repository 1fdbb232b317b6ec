"""The stock team, which gets the mails about products that are out of stock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from allocation.service_layer.delivering.effects import Unreachable
from allocation.service_layer.delivering.stock_mail import Place, Shortage, about_product
from allocation.service_layer.handlers import Mail
from allocation.service_layer.messages import split_id
from allocation.service_layer.writing.store import StoreUnavailable

T = TypeVar("T")

# Reads a product and its waiting lines as they are. The lines that began to wait in this cascade are the new ones.
ReadShortage = Callable[[str, str], Coroutine[Any, Any, Shortage]]


class StockTeam:
    """It is started in the event loop, and called in the threads of effects while the loop runs."""

    def __init__(self, addresses: Sequence[str], read: ReadShortage, place: Place) -> None:
        """Without ``addresses`` there are no mails."""
        self._to = ", ".join(addresses)
        self._read = read
        self._place = place

    def start(self) -> None:
        """Use the running event loop to read the database from now on."""
        self._loop = asyncio.get_running_loop()

    def mail(self, sku: str, message_id: str) -> Mail | None:
        """The mail about a product that is out of stock. Raises `Unreachable` while the database is."""
        if not self._to:
            return None
        cascade, _ = split_id(message_id)
        shortage = self._wait(self._read(sku, cascade))
        return Mail(self._to, *about_product(shortage, self._place), message_id)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine in the event loop, which has its own time limits."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except StoreUnavailable as error:
            raise Unreachable(f"the waiting lines cannot be read: {error}") from error

"""The stock team, which gets the mails about products that are out of stock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from allocation.service_layer.delivering.effects import Unreachable
from allocation.service_layer.delivering.stock_mail import (
    Noted,
    Place,
    Shortage,
    Shortages,
    about_day,
    about_product,
)
from allocation.service_layer.handlers import Mail
from allocation.service_layer.messages import split_id
from allocation.service_layer.writing.store import StoreUnavailable

T = TypeVar("T")

# A product with its waiting lines as they are. The lines that began to wait in the cascade are new.
ReadShortage = Callable[[str, str], Coroutine[Any, Any, Shortage]]
# The products that have new lines: lines that began to wait since the noted cascade.
ReadShortages = Callable[[Sequence[Noted]], Coroutine[Any, Any, Shortages]]
# Notes a product and its cascade for the next digest.
Note = Callable[[str, str], Coroutine[Any, Any, None]]


class StockTeam:
    """It is started in the event loop, and called in the threads of effects while the loop runs."""

    def __init__(
        self,
        addresses: Sequence[str],
        place: Place,
        *,
        read: ReadShortage,
        read_noted: ReadShortages,
        note: Note | None = None,
    ) -> None:
        """Without ``addresses`` there are no mails; with ``note`` there is a digest instead of mails at once."""
        self._to = ", ".join(addresses)
        self._place = place
        self._read = read
        self._read_noted = read_noted
        self._note = note

    def start(self) -> None:
        """Use the running event loop to read the database from now on."""
        self._loop = asyncio.get_running_loop()

    def mail(self, sku: str, message_id: str) -> Mail | None:
        """The mail about a product that is out of stock. Raises `Unreachable` while the database is."""
        if not self._to:
            return None
        cascade, _ = split_id(message_id)
        if self._note is not None:
            self._wait(self._note(sku, cascade))
            return None
        shortage = self._wait(self._read(sku, cascade))
        return Mail(self._to, *about_product(shortage, self._place), message_id)

    def digest(self, noted: Sequence[Noted], id_: str) -> Mail | None:
        """The digest about these products, unless no new line waits any more. Raises `Unreachable` as `mail` does."""
        found = self._wait(self._read_noted(noted)) if self._to else None
        return Mail(self._to, *about_day(found, self._place), id_) if found and found.products else None

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine in the event loop, which has its own time limits."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except StoreUnavailable as error:
            raise Unreachable(f"the waiting lines cannot be read: {error}") from error

"""Products that stay in memory from one group to the next, so that storage need not tell them again.

They are what the groups before have made of them, written or about to be. Nothing here is the truth: what was handled
on a product is written only if storage still has the version it had, and the writer empties the cache when it was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from allocation.service_layer.writing.products import WarmProduct
from allocation.service_layer.writing.store import Wanted

MAX_PRODUCTS = 10_000
MAX_BATCHES = 20  # of one product: one that has more of them with room is read again each time


class WarmProducts:
    """The products used last, by SKU. A group takes what it needs out, so that nothing half done is ever left here."""

    def __init__(self, max_products: int = MAX_PRODUCTS) -> None:
        self._max_products = max_products
        self._kept: dict[str, WarmProduct] = {}  # the one used last is the last

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, wanted: Wanted) -> Mapping[str, WarmProduct]:
        """Take the products wanted out, of those that are here; the rest stays wanted, from storage."""
        taken = {sku: self._kept.pop(sku) for sku in wanted.skus if sku in self._kept}
        wanted.skus -= taken.keys()
        return taken

    def keep(self, products: Iterable[WarmProduct]) -> None:
        """Keep them as they are now, and give up those not used for longest."""
        for kept in products:
            sku = kept.product.sku
            self._kept.pop(sku, None)
            if len(kept.product.batches) <= MAX_BATCHES:
                self._kept[sku] = kept
        while len(self._kept) > self._max_products:
            del self._kept[next(iter(self._kept))]

    def forget(self, skus: Iterable[str]) -> None:
        """Give up what somebody else changes."""
        for sku in skus:
            self._kept.pop(sku, None)

    def clear(self) -> None:
        """Give up everything."""
        self._kept.clear()

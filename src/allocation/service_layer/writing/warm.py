"""Products that stay in memory from one group to the next, so that they need not be read again.

They have the changes of the groups before, which are written or about to be. The cache is never trusted: changes of a
product are written only if storage still has the expected version; otherwise the writer empties the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from allocation.service_layer.writing.products import WarmProduct
from allocation.service_layer.writing.store import Wanted

MAX_PRODUCTS = 10_000
MAX_BATCHES = 20  # of one product; a product with more batches with room is read each time


class WarmProducts:
    """The most recently used products, by SKU. A group takes its products out, so half-done work is never cached."""

    def __init__(self, max_products: int = MAX_PRODUCTS) -> None:
        self._max_products = max_products
        self._kept: dict[str, WarmProduct] = {}  # the one used last is the last

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, wanted: Wanted) -> Mapping[str, WarmProduct]:
        """Take the wanted products out of the cache; the missing ones must be read from storage."""
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
        """Drop products that another transaction changes."""
        for sku in skus:
            self._kept.pop(sku, None)

    def clear(self) -> None:
        """Give up everything."""
        self._kept.clear()

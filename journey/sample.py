"""A small year of the same shape, made up: for tests, and for a try without the data.

``python -m journey.sample FILE`` writes about 2,000 events; then ``python -m journey.play FILE --database NEW.db``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from journey.plan import SEED, Line, events, merged, write

LINES = 2_500
PRODUCTS = 120
LARGEST_BASKET = 18
STEEPNESS = 1.1  # of the popularity curve: the n-th product is bought 1 / n^STEEPNESS times as often as the first


def main() -> None:
    path = Path(sys.argv[1])
    print(f"{path}: {write(path, events(lines())):,} events")


def lines(count: int = LINES, products: int = PRODUCTS, seed: int = SEED) -> list[Line]:
    """Order lines, as `plan.events` takes them."""
    return merged(_raw_lines(count, products, Random(seed)))


def _raw_lines(count: int, products: int, random: Random) -> Iterator[Line]:
    names = [f"PRODUCT-{number}" for number in range(1, products + 1)]
    weights = [1 / number**STEEPNESS for number in range(1, products + 1)]
    basket = 0
    left = count
    while left > 0:
        basket += 1
        size = min(left, random.randint(1, LARGEST_BASKET))
        left -= size
        for sku in random.choices(names, weights, k=size):
            yield Line(f"basket-{basket}", sku, random.choice((0, 1, 1, 1, 1, 2, 2, 3, 6)))


if __name__ == "__main__":
    main()

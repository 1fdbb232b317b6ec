"""A product is not sold any more, and perhaps again later."""

from __future__ import annotations

import pytest

from allocation.domain.errors import RetiredProduct, UnknownSku
from allocation.domain.events import (
    AllocationCancelled,
    Event,
    HoldConfirmed,
    LinePinned,
    LineShipped,
    ProductReinstated,
    ProductRetired,
)
from tests.unit.promises.shop import SKU, Shop, bought, held, ordered

RETIRED, REINSTATED = ProductRetired(SKU), ProductReinstated(SKU)


@pytest.mark.parametrize("event", [ordered("o2", 1), held("h2", 1)])
def test_it_takes_no_new_lines_and_holds(event: Event) -> None:
    shop = Shop(bought("b1", 9), RETIRED)
    assert shop.result == SKU
    with pytest.raises(RetiredProduct, match=r"^Product LAMP is retired$"):
        shop.send(event)
    assert shop.stands == {}


def test_promised_lines_and_holds_keep_their_stock_and_waiting_lines_wait() -> None:
    shop = Shop(bought("b1", 9), ordered("o1", 4), held("h1", 2), ordered("o2", 9), RETIRED)
    assert shop.stands == {"o1": "b1", "h1": "b1", "o2": None}
    shop.send(ordered("o1", 4))
    assert shop.result == "b1", "the same line again is no new one"
    shop.send(bought("b2", 9))
    assert shop.stands["o2"] == "b2"
    shop.send(LineShipped("o1", SKU))
    shop.send(held("h1", 2, hours=3))


def test_a_hold_may_still_be_ordered() -> None:
    shop = Shop(bought("b1", 9), held("h1", 2), RETIRED, HoldConfirmed("h1", "o1"))
    assert shop.stands == {"h1": "confirmed", "o1": "b1"}


def test_its_lines_still_move() -> None:
    shop = Shop(bought("b1", 9), bought("b2", 9), ordered("o1", 4), RETIRED, LinePinned("o1", SKU, "b2", "vip"))
    assert shop.stands == {"o1": "b2"}
    shop.send(AllocationCancelled("o1", SKU))


def test_it_is_sold_again() -> None:
    shop = Shop(bought("b1", 9), RETIRED, REINSTATED, ordered("o1", 4))
    assert shop.stands == {"o1": "b1"}


def test_a_second_time_changes_nothing() -> None:
    shop = Shop(bought("b1", 9), RETIRED)
    version = shop.product.version_number
    shop.send(RETIRED)
    shop.send(REINSTATED)
    shop.send(REINSTATED)
    assert shop.product.version_number == version + 1


@pytest.mark.parametrize("event", [RETIRED, REINSTATED])
def test_an_unknown_product_is_refused(event: Event) -> None:
    with pytest.raises(UnknownSku, match=r"^Unknown sku LAMP$"):
        Shop().send(event)

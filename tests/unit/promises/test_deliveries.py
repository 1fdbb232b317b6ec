"""One delivery brings batches of several products: it is late, or arrives, as one."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from allocation.domain.errors import DeliveryArrived, FarDay, UnknownDelivery
from allocation.domain.events import (
    AllocationRequired,
    BatchCorrected,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    DeliveryEtaChanged,
    DeliveryReceived,
    Event,
)
from allocation.domain.model import Batch
from tests.lives import BEGIN
from tests.plain import PlainShop
from tests.unit.promises.shop import TODAY, day, kinds, told


def due(ref: str, sku: str, qty: int = 9, delivery: str = "po-1", **more: Any) -> BatchCreated:
    return BatchCreated(ref, sku, qty, day(3), delivery=delivery, **more)


class Shops:
    """Several products to which all of this has happened."""

    def __init__(self, *events: Event) -> None:
        self._plain = PlainShop()
        self.result: Any = None
        for event in events:
            self.send(event)

    def send(self, event: Event) -> list[Event]:
        self.result, raised = self._plain.send(event, BEGIN)
        return list(raised)

    def batch(self, ref: str) -> Batch:
        return next(each for product in self._plain.products() for each in product.batches if each.reference == ref)

    @property
    def etas(self) -> dict[str, date | None]:
        batches = [batch for product in self._plain.products() for batch in product.batches]
        return {batch.reference: batch.eta for batch in sorted(batches, key=lambda batch: batch.reference)}


def test_the_delay_of_a_delivery_is_that_of_each_of_its_batches() -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"), due("b3", "RUG", delivery="po-2"))
    for orderid, sku in (("o1", "BED"), ("o2", "LAMP"), ("o3", "RUG")):
        shops.send(AllocationRequired(orderid, sku, 4, day(4)))
    raised = shops.send(DeliveryEtaChanged("po-1", day(5)))
    assert raised[:2] == [BatchEtaChanged("b1", day(5)), BatchEtaChanged("b2", day(5))]
    assert sorted(told(raised)) == [("o1", day(3), day(5), 1), ("o2", day(3), day(5), 1)]
    assert shops.etas == {"b1": day(5), "b2": day(5), "b3": day(3)}
    assert shops.result == "po-1"


def test_all_of_a_delivery_arrives() -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"), due("b0", "LAMP"), AllocationRequired("o1", "BED", 4))
    raised = shops.send(DeliveryReceived("po-1"))
    assert raised[:3] == [BatchReceived("b1"), BatchReceived("b0"), BatchReceived("b2")]
    assert told(raised) == [("o1", day(3), TODAY, 0)]
    assert shops.etas == {"b0": None, "b1": None, "b2": None}


def test_of_a_batch_in_parts_the_rest_arrives() -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"), BatchReceived("b1", 4), BatchReceived("b2"))
    assert kinds(shops.send(DeliveryReceived("po-1"))) == ["BatchReceived"]
    assert (shops.batch("b1").on_hand_quantity, shops.batch("b2").on_hand_quantity) == (9, 9)


def test_only_batches_that_are_due_get_another_day() -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"), BatchReceived("b2"), DeliveryEtaChanged("po-1", day(5)))
    assert shops.etas == {"b1": day(5), "b2": None}


def test_a_batch_that_was_cut_to_nothing_is_not_on_the_delivery_any_more() -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"), BatchQuantityChanged("b2", 0))
    assert kinds(shops.send(DeliveryReceived("po-1"))) == ["BatchReceived"]


def test_a_batch_that_was_put_on_another_delivery_comes_with_that_one() -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"), BatchCorrected("b2", delivery="po-2"))
    shops.send(DeliveryEtaChanged("po-2", day(5)))
    assert shops.etas == {"b1": day(3), "b2": day(5)}


def test_the_day_of_a_delivery_that_was_not_known_is_known_now() -> None:
    shops = Shops(BatchCreated("b1", "BED", 9, eta_unknown=True, delivery="po-1"), AllocationRequired("o1", "BED", 4))
    assert told(shops.send(DeliveryEtaChanged("po-1", day(5)))) == [("o1", None, day(5), 0)]


@pytest.mark.parametrize("event", [DeliveryEtaChanged("po-9", day(5)), DeliveryReceived("po-9")])
def test_an_unknown_delivery_is_refused(event: Event) -> None:
    with pytest.raises(UnknownDelivery, match=r"^Unknown delivery po-9$"):
        Shops(due("b1", "BED")).send(event)


@pytest.mark.parametrize("event", [DeliveryEtaChanged("po-1", day(5)), DeliveryReceived("po-1")])
def test_a_delivery_of_which_nothing_is_due_is_refused(event: Event) -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"), DeliveryReceived("po-1"))
    with pytest.raises(DeliveryArrived, match=r"^Nothing of delivery po-1 is due$"):
        shops.send(event)


@pytest.mark.parametrize("far", [day(3_655), date.max])
def test_a_day_that_is_more_than_ten_years_away_is_refused(far: date) -> None:
    shops = Shops(due("b1", "BED"), due("b2", "LAMP"))
    with pytest.raises(FarDay, match=f"^eta is {far}, which is more than ten years away$"):
        shops.send(DeliveryEtaChanged("po-1", far))
    assert shops.etas == {"b1": day(3), "b2": day(3)}

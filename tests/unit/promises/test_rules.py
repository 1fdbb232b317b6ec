"""The rules a product can be allocated by."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from allocation.domain.errors import InvalidMessage, TooManyWaiting, UnknownSku
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    BatchReceived,
    RulesChanged,
)
from allocation.domain.rules import (
    EXPIRES,
    FIRST_EXPIRED,
    JUST_IN_TIME,
    NO_ROOM,
    OVER,
    PREFERRED_LOCATION,
    SAFETY_STOCK,
    TOO_LATE,
    USUAL,
    Rules,
)
from tests.unit.promises.shop import SKU, Shop, bought, day, held, ordered, ruled


class TestStrategies:
    def test_first_expired_first_out_and_what_keeps_for_ever_last(self) -> None:
        shop = Shop(
            *(bought("keeps", 4), bought("long", 4, expires_on=day(90)), bought("short", 4, expires_on=day(30))),
            *(ruled(strategy=FIRST_EXPIRED), *(ordered(f"o{n}", 4) for n in range(3))),
        )
        assert shop.stands == {"o0": "short", "o1": "long", "o2": "keeps"}

    def test_of_those_that_expire_on_one_day_the_warehouse_is_first(self) -> None:
        shop = Shop(bought("inbound", 4, due=1, expires_on=day(9)), bought("here", 4, expires_on=day(9)))
        shop.send(ruled(strategy=FIRST_EXPIRED))
        shop.send(ordered("o1", 4))
        assert shop.stands == {"o1": "here"}

    def test_the_preferred_location_goes_before_the_day(self) -> None:
        shop = Shop(
            *(bought("lyon", 4, location="LYON"), bought("oslo", 4, due=3, location="OSLO"), bought("nowhere", 4)),
            *(ruled(strategy=PREFERRED_LOCATION, location="OSLO"), *(ordered(f"o{n}", 4) for n in range(3))),
        )
        assert shop.stands == {"o0": "oslo", "o1": "lyon", "o2": "nowhere"}

    def test_just_in_time_takes_the_last_batch_that_is_in_time(self) -> None:
        shop = Shop(
            *(bought("here", 4), bought("soon", 4, due=3), bought("later", 4, due=9)),
            *(ruled(strategy=JUST_IN_TIME), ordered("o1", 4, by=5), ordered("o2", 4, by=5), ordered("o3", 4, by=5)),
        )
        assert shop.stands == {"o1": "soon", "o2": "here", "o3": "later"}

    def test_just_in_time_is_as_soon_as_possible_where_no_day_is_given(self) -> None:
        shop = Shop(bought("soon", 4, due=3), bought("here", 4), ruled(strategy=JUST_IN_TIME), ordered("o1", 4))
        assert shop.stands == {"o1": "here"}

    def test_in_time_goes_before_the_order_of_a_strategy(self) -> None:
        shop = Shop(bought("short", 4, due=9, expires_on=day(30)), bought("keeps", 4, due=2))
        shop.send(ruled(strategy=FIRST_EXPIRED))
        shop.send(ordered("o1", 4, by=5))
        assert shop.stands == {"o1": "keeps"}

    def test_a_location_is_preferred_only_if_it_is_named(self) -> None:
        shop = Shop(bought("b1", 9))
        with pytest.raises(InvalidMessage, match=r"^preferred-location is without a location$"):
            shop.send(ruled(strategy=PREFERRED_LOCATION))

    def test_promises_stay_where_they_are_when_the_rules_change(self) -> None:
        shop = Shop(bought("b1", 9), bought("b2", 9, due=3, location="OSLO"), ordered("o1", 4))
        assert shop.send(ruled(strategy=PREFERRED_LOCATION, location="OSLO")) == []
        assert (shop.stands, shop.result) == ({"o1": "b1"}, SKU)

    def test_the_order_follows_a_batch_that_arrives(self) -> None:
        shop = Shop(
            bought("b1", 4), bought("b2", 4, due=3), ruled(strategy=JUST_IN_TIME), BatchEtaChanged("b2", day(1))
        )
        shop.send(BatchReceived("b2"))
        shop.send(ordered("o1", 4))
        assert shop.stands == {"o1": "b1"}

    def test_the_usual_rules_are_back_when_nothing_is_said(self) -> None:
        shop = Shop(bought("b1", 4), ruled(strategy=FIRST_EXPIRED, safety_stock=4), ordered("o1", 4))
        assert shop.stands == {"o1": None}
        shop.send(ruled())
        assert (shop.stands, shop.product.rules is USUAL) == ({"o1": "b1"}, True)

    def test_what_is_left_out_is_the_usual_strategy_and_what_is_named_is_kept(self) -> None:
        usual = Rules(strategy=FIRST_EXPIRED)
        assert Rules.of(RulesChanged(SKU, safety_stock=3), usual) == Rules(strategy=FIRST_EXPIRED, safety_stock=3)
        assert Rules.of(RulesChanged(SKU, strategy=FIRST_EXPIRED), usual) is not usual

    def test_of_a_product_nobody_knows_there_are_no_rules(self) -> None:
        with pytest.raises(UnknownSku):
            Shop().send(ruled())


class TestSafetyStock:
    def test_so_much_is_kept_in_the_warehouse_and_none_of_what_is_inbound(self) -> None:
        shop = Shop(bought("b1", 4), bought("b2", 4), ruled(safety_stock=5), bought("inbound", 4, due=3))
        for number in range(4):
            shop.send(ordered(f"o{number}", 3))
        assert shop.stands == {"o0": "b1", "o1": "inbound", "o2": None, "o3": None}

    def test_who_waits_is_served_when_any_batch_of_the_warehouse_grows(self) -> None:
        shop = Shop(bought("b1", 4), ruled(safety_stock=4), ordered("o1", 4))
        shop.send(bought("b2", 3))
        assert shop.stands == {"o1": None}
        shop.send(BatchQuantityChanged("b2", 4))
        assert shop.stands == {"o1": "b1"}

    def test_a_line_that_leaves_the_warehouse_frees_what_was_kept_back(self) -> None:
        shop = Shop(bought("b1", 4), bought("b2", 4), ruled(safety_stock=4), ordered("o1", 4), ordered("o2", 4))
        shop.send(AllocationCancelled("o1", SKU))
        assert shop.stands == {"o1": "cancelled", "o2": "b1"}

    def test_a_hold_does_not_touch_it(self) -> None:
        shop = Shop(bought("b1", 4), bought("inbound", 4, due=1), ruled(safety_stock=1), held("h1", 4))
        assert shop.stands == {"h1": "inbound"}

    def test_who_waits_is_served_when_it_is_given_up(self) -> None:
        shop = Shop(bought("b1", 4), ruled(safety_stock=4), ordered("o1", 4), ordered("o2", 1))
        shop.send(ruled(safety_stock=0))
        assert shop.stands == {"o1": "b1", "o2": None}


class TestShelfLife:
    def test_what_expires_too_early_is_passed_over(self) -> None:
        shop = Shop(bought("b1", 4, expires_on=day(9)), bought("b2", 4, expires_on=day(10)), ruled(shelf_life_days=10))
        shop.send(ordered("o1", 4))
        assert shop.stands == {"o1": "b2"}

    def test_it_counts_from_the_day_the_stock_is_there_and_needed(self) -> None:
        shop = Shop(bought("b1", 9, due=3, expires_on=day(9)), ruled(shelf_life_days=6), ordered("o1", 4))
        shop.send(ordered("o2", 4, by=3))
        shop.send(ordered("o3", 1, by=4))
        assert shop.stands == {"o1": "b1", "o2": "b1", "o3": None}

    def test_the_last_day_is_a_good_one_and_the_day_after_is_not(self) -> None:
        shop = Shop(bought("b1", 9, expires_on=day(0)), ordered("o1", 4))
        assert shop.stands == {"o1": "b1"}
        shop.now += timedelta(days=1)
        shop.send(ordered("o2", 4))
        assert shop.stands["o2"] is None

    def test_what_has_expired_serves_nobody_not_even_who_needed_it_before(self) -> None:
        shop = Shop(bought("b1", 9, due=-5, expires_on=day(-1)), ordered("o1", 4, by=-3))
        assert shop.stands == {"o1": None}

    def test_who_waits_is_served_by_a_delivery_that_comes_earlier(self) -> None:
        shop = Shop(bought("b1", 9, due=8, expires_on=day(9)), ruled(shelf_life_days=6), ordered("o1", 4))
        shop.send(BatchEtaChanged("b1", day(3)))
        assert shop.stands == {"o1": "b1"}

    def test_the_end_of_time_is_a_day_like_any_other(self) -> None:
        shop = Shop(bought("b1", 9, expires_on=date.max), ruled(shelf_life_days=3_650))
        shop.send(AllocationRequired("o1", SKU, 4, date.max))
        assert shop.stands == {"o1": None}


class TestMostWaiting:
    def test_no_more_lines_may_wait(self) -> None:
        shop = Shop(bought("b1", 4), ruled(most_waiting=1), ordered("o1", 5))
        with pytest.raises(
            TooManyWaiting, match=r"^No batch of LAMP has enough stock, and its limit of 1 backorders is reached$"
        ):
            shop.send(ordered("o2", 5))
        shop.send(ordered("o3", 4))
        assert shop.stands == {"o1": None, "o3": "b1"}

    def test_who_waits_already_may_ask_again_and_who_loses_stock_waits_all_the_same(self) -> None:
        shop = Shop(bought("b1", 4), ordered("o1", 5), ordered("o2", 4), ruled(most_waiting=0))
        assert shop.send(ordered("o1", 5)) == []
        shop.send(BatchQuantityChanged("b1", 0))
        assert shop.stands == {"o1": None, "o2": None}


class TestStability:
    def test_lines_needed_soon_lose_their_stock_last(self) -> None:
        shop = Shop(
            bought("b1", 9),
            *(ordered("later", 3, by=9), ordered("soon", 3, by=2), ordered("any day", 3)),
            ruled(frozen_days=2),
        )
        shop.send(BatchQuantityChanged("b1", 3))
        assert shop.stands == {"later": None, "soon": "b1", "any day": None}
        shop.send(BatchQuantityChanged("b1", 2))
        assert shop.stands["soon"] is None, "there is nobody else to lose it"

    def test_a_change_moves_as_many_lines_by_choice_as_it_may(self) -> None:
        shop = Shop(bought("b1", 9, due=1), ruled(most_moved=0), ordered("o1", 3, by=4), bought("b2", 9, due=2))
        shop.send(BatchEtaChanged("b1", day(9)))
        assert shop.stands == {"o1": "b1"}
        shop.send(BatchQuantityChanged("b1", 0))
        assert shop.stands == {"o1": "b2"}, "that was no choice"


def test_each_batch_passed_over_says_why() -> None:
    shop = Shop(
        *(
            bought("old", 9, expires_on=day(-1)),
            bought("soon", 9, due=1, expires_on=day(4)),
            bought("kept", 9),
            bought("small", 1, due=1),
            bought("late", 9, due=9),
        ),
        ruled(safety_stock=8),
    )
    shop.send(ordered("o1", 4, by=5))
    looked_at = shop.product.choice().candidates(shop.line("o1").line)
    assert {each.batch.reference: each.obstacle for each in looked_at} == {
        "old": OVER,
        "soon": EXPIRES,
        "kept": SAFETY_STOCK,
        "small": NO_ROOM,
        "late": TOO_LATE,
    }
    assert shop.stands == {"o1": "late"}


def test_a_batch_is_known_by_where_it_is_and_how_long_it_lasts() -> None:
    shop = Shop(bought("b1", 9, location="OSLO", expires_on=day(30)))
    assert shop.send(BatchCreated("b1", SKU, 9, None, day(30), "OSLO")) == []

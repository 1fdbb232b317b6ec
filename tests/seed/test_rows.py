# ruff: noqa: N802 - every test is named after the row of the seed that it proves
"""The seed, row by row: what was asked for, under the names it was asked for, in the words it was written in.

S1 stories, S2 events, S3 handlers, S4 unit of work, S5 bus, S6 results, S7 collected events, S8 its own test, S9 web,
S10 find by batch, S11 the rule, S12 mail, S13 growth, S14 ends and one declaration.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import httpx
import pytest

from allocation.adapters import email
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain import events, fields, model
from allocation.domain.errors import InvalidSku
from allocation.domain.model import OrderLine
from allocation.entrypoints.http.app import create_app
from allocation.entrypoints.http.openapi import document
from allocation.service_layer import flow, handlers, messagebus, messages, unit_of_work
from allocation.service_layer.delivering.effects import bind
from tests.fakes import FakeStockTeam, FakeUnitOfWork
from tests.mailserver import MailServer

ROWS = range(1, 15)
TODAY = date(2026, 1, 31)


def stands(uow: FakeUnitOfWork, sku: str) -> dict[str, str | None]:
    product = uow.products.get(sku)
    assert product is not None
    return {orderid: promise.batchref for orderid, promise in product.changed_promises.items()}


def test_S1_three_wet_mattresses_are_taken_from_the_newest_orders_and_delivered_from_the_next_batch() -> None:
    uow = FakeUnitOfWork()
    messagebus.handle(events.BatchCreated("in-warehouse", "SPRINGY-MATTRESS", 10, None), uow)
    messagebus.handle(events.BatchCreated("at-sea", "SPRINGY-MATTRESS", 2, TODAY), uow)
    for number in range(1, 11):
        messagebus.handle(events.AllocationRequired(f"order-{number:02}", "SPRINGY-MATTRESS", 1), uow)
    messagebus.handle(events.BatchQuantityChanged("in-warehouse", 7), uow)
    stand = stands(uow, "SPRINGY-MATTRESS")
    assert [orderid for orderid, ref in stand.items() if ref == "in-warehouse"] == [f"order-0{n}" for n in range(1, 8)]
    assert {orderid: stand[orderid] for orderid in ("order-08", "order-09", "order-10")} == {
        "order-08": "at-sea",
        "order-09": "at-sea",
        "order-10": None,
    }


def test_S1_forks_from_customs_are_promised_and_three_are_scrapped() -> None:
    uow = FakeUnitOfWork()
    messagebus.handle(events.BatchCreated("customs", "RELIABLE-FORK", 10, TODAY), uow)
    messagebus.handle(events.AllocationRequired("order-1", "RELIABLE-FORK", 6), uow)
    messagebus.handle(events.AllocationRequired("order-2", "RELIABLE-FORK", 4), uow)
    messagebus.handle(events.BatchQuantityChanged("customs", 7), uow)
    assert stands(uow, "RELIABLE-FORK") == {"order-1": "customs", "order-2": None}
    messagebus.handle(events.BatchCreated("next", "RELIABLE-FORK", 10, TODAY), uow)
    assert stands(uow, "RELIABLE-FORK") == {"order-1": "customs", "order-2": "next"}


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (events.BatchCreated, {"ref": ..., "sku": ..., "qty": ..., "eta": None}),
        (events.AllocationRequired, {"orderid": ..., "sku": ..., "qty": ...}),
        (events.BatchQuantityChanged, {"ref": ..., "qty": ...}),
        (events.OutOfStock, {"sku": ...}),
    ],
)
def test_S2_events_are_dataclasses(event: Any, fields: dict[str, Any]) -> None:
    declared = {
        each.name: ... if each.default is dataclasses.MISSING else each.default for each in dataclasses.fields(event)
    }
    assert list(declared)[: len(fields)] == list(fields)
    assert {name: declared[name] for name in fields} == fields
    assert ... not in [default for name, default in declared.items() if name not in fields], (
        "what came later is optional"
    )
    assert issubclass(event, events.Event)


def test_S3_service_functions_are_handlers_of_events() -> None:
    by_call, by_bus = FakeUnitOfWork(), FakeUnitOfWork()
    batch = events.BatchCreated("b1", "COMPLICATED-LAMP", 100, None)
    line = events.AllocationRequired("o1", "COMPLICATED-LAMP", 10)
    recount = events.BatchQuantityChanged("b1", 90)
    assert messagebus.handle(batch, by_bus) == [handlers.add_batch(batch, by_call)]
    assert messagebus.handle(line, by_bus) == [handlers.allocate(line, by_call)] == ["b1"]
    assert messagebus.handle(recount, by_bus) == [handlers.change_batch_quantity(recount, by_call)]
    for uow in (by_call, by_bus):
        assert stands(uow, "COMPLICATED-LAMP") == {"o1": "b1"}
        product = uow.products.get("COMPLICATED-LAMP")
        assert product is not None
        assert [batch.available_quantity for batch in product.batches] == [80]


def test_S3_an_unknown_sku_raises_invalid_sku() -> None:
    with pytest.raises(InvalidSku, match=r"^Invalid sku NONEXISTENT$"):
        handlers.allocate(events.AllocationRequired("o1", "NONEXISTENT", 10), FakeUnitOfWork())


def test_S4_a_handler_takes_an_event_and_works_in_a_unit_of_work_that_it_commits() -> None:
    told: list[str] = []

    class WatchedUnitOfWork(FakeUnitOfWork):
        def __enter__(self) -> Self:
            told.append("entered")
            return super().__enter__()

        def _commit(self) -> None:
            told.append("committed")
            super()._commit()

        def rollback(self) -> None:
            told.append("left")
            super().rollback()

    uow = WatchedUnitOfWork()
    handlers.add_batch(event=events.BatchCreated("b1", "COMPLICATED-LAMP", 100, None), uow=uow)
    handlers.allocate(event=events.AllocationRequired("o1", "COMPLICATED-LAMP", 10), uow=uow)
    handlers.change_batch_quantity(event=events.BatchQuantityChanged("b1", 90), uow=uow)
    assert told == ["entered", "committed", "left"] * 3


def test_S4_a_notification_handler_takes_the_event() -> None:
    effects = bind(handlers.EFFECTS, notifications=email.LoggedNotifications(), stock_team=FakeStockTeam())
    assert list(effects) == ["send_out_of_stock_notification"]
    effects["send_out_of_stock_notification"](events.OutOfStock("POPULAR-CURTAINS"))


def test_S5_the_bus_takes_events_from_the_unit_of_work_until_none_is_left() -> None:
    handled: list[events.Event] = []

    class WatchedUnitOfWork(FakeUnitOfWork):
        def record(self, event: events.Event, cause: int | None) -> int:
            handled.append(event)
            return len(handled) - 1

    uow = WatchedUnitOfWork()
    messagebus.handle(events.BatchCreated("b1", "INDIFFERENT-TABLE", 10, None), uow)
    messagebus.handle(events.AllocationRequired("o1", "INDIFFERENT-TABLE", 10), uow)
    handled.clear()
    messagebus.handle(events.BatchQuantityChanged("b1", 9), uow)
    assert handled == [
        events.BatchQuantityChanged("b1", 9),
        events.Deallocated("o1", "INDIFFERENT-TABLE", 10, "b1"),
        events.AllocationRequired("o1", "INDIFFERENT-TABLE", 10),
        events.Backordered("o1", "INDIFFERENT-TABLE", 10),
        events.PromiseChanged("o1", "INDIFFERENT-TABLE", 10, before=uow.now.date(), after=None, late_days=0),
        events.OutOfStock("INDIFFERENT-TABLE"),
    ]
    assert list(uow.collect_new_events()) == []


def test_S6_the_bus_returns_the_results_of_the_handlers() -> None:
    uow = FakeUnitOfWork()
    assert messagebus.handle(events.BatchCreated("b1", "COMPLICATED-LAMP", 100, None), uow) == ["b1"]
    results = messagebus.handle(events.AllocationRequired("o1", "COMPLICATED-LAMP", 10), uow)
    assert results.pop(0) == "b1"
    assert messagebus.handle(events.BatchQuantityChanged("b1", 9), uow) == ["b1", None]


def test_S7_the_unit_of_work_yields_the_events_of_every_aggregate_it_has_seen() -> None:
    assert issubclass(FakeUnitOfWork, unit_of_work.AbstractUnitOfWork)
    uow = FakeUnitOfWork()
    seen, unseen = model.Product("SEEN", batches=[]), model.Product("UNSEEN", batches=[])
    uow.products.add(seen)
    seen.events += [events.OutOfStock("SEEN"), events.OutOfStock("SEEN-TOO")]
    unseen.events.append(events.OutOfStock("UNSEEN"))
    assert uow.products.seen == {seen}
    assert list(uow.collect_new_events()) == [events.OutOfStock("SEEN"), events.OutOfStock("SEEN-TOO")]
    assert list(uow.collect_new_events()) == []


def test_S8_tests_speak_to_the_bus_with_events_and_a_fake_unit_of_work() -> None:
    """As it is written in the seed; `tests/unit/test_handlers.py` has it at the seed's own place."""
    uow = FakeUnitOfWork()
    messagebus.handle(events.BatchCreated("b1", "CRUNCHY-ARMCHAIR", 100, None), uow)
    assert uow.products.get("CRUNCHY-ARMCHAIR") is not None
    assert uow.committed
    own_place = Path(__file__).parents[1] / "unit" / "test_handlers.py"
    assert re.search(r"class TestAddBatch:\n    def test_for_new_product\(self\)", own_place.read_text())


def test_S9_the_web_answers_with_the_batch_or_with_what_is_wrong(sqlite_url: str) -> None:
    async def ask() -> list[httpx.Response]:
        service = bootstrap(Settings(database_url=sqlite_url))
        transport = httpx.ASGITransport(create_app(service))
        async with service, httpx.AsyncClient(transport=transport, base_url="http://allocation") as client:
            await client.post("/add_batch", json={"ref": "b1", "sku": "COMPLICATED-LAMP", "qty": 100})
            known = {"orderid": "o1", "sku": "COMPLICATED-LAMP", "qty": 3}
            unknown = {"orderid": "o1", "sku": "NONEXISTENT", "qty": 3}
            return [await client.post("/allocate", json=line) for line in (known, unknown)]

    allocated, refused = asyncio.run(ask())
    assert allocated.status_code == 201
    assert allocated.json()["batchref"] == "b1"
    assert refused.status_code == 400
    assert refused.json()["message"] == "Invalid sku NONEXISTENT"


def test_S10_the_product_is_found_by_batch_reference() -> None:
    uow = FakeUnitOfWork()
    messagebus.handle(events.BatchCreated("b1", "ADORABLE-SETTEE", 100, None), uow)
    product = uow.products.get_by_batchref(batchref="b1")
    assert product is uow.products.get("ADORABLE-SETTEE")
    assert uow.products.get_by_batchref(batchref="b2") is None
    assert product is not None
    product.change_batch_quantity(ref="b1", qty=50)
    assert [batch.available_quantity for batch in product.batches] == [50]


def test_S11_while_the_available_quantity_is_negative_a_line_is_deallocated_and_must_be_allocated_again() -> None:
    product = model.Product("INDIFFERENT-TABLE", batches=[model.Batch("b1", "INDIFFERENT-TABLE", 50, None)])
    product.allocate(OrderLine("o1", "INDIFFERENT-TABLE", 20))
    product.allocate(OrderLine("o2", "INDIFFERENT-TABLE", 20))
    product.events.clear()
    product.change_batch_quantity("b1", 25)
    assert product.events == [
        events.Deallocated("o2", "INDIFFERENT-TABLE", 20, "b1"),
        events.AllocationRequired("o2", "INDIFFERENT-TABLE", 20),
    ]
    [batch] = product.batches
    assert batch.available_quantity == 5
    assert batch.deallocate_one() == OrderLine("o1", "INDIFFERENT-TABLE", 20)


def test_S12_out_of_stock_is_mailed_to_the_stock_team(tmp_path: Path) -> None:
    """The address is a setting; the subject also says how many lines wait."""

    async def run_out_of_stock(settings: Settings) -> None:
        async with await asyncio.to_thread(bootstrap, settings) as service:
            for event in (
                events.BatchCreated("b1", "POPULAR-CURTAINS", 9),
                events.AllocationRequired("o1", "POPULAR-CURTAINS", 10),
            ):
                await service.writer.handle(messages.new_message(event, "test"))
            await service.effects.run_pending()

    with MailServer() as server:
        smtp: dict[str, Any] = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "stock_team": ("stock@made.com",)}
        asyncio.run(run_out_of_stock(Settings(database_url=f"sqlite:///{tmp_path / 'shop.db'}", **smtp)))
    assert [(mail["To"], mail["Subject"]) for mail in server.mails] == [
        ("stock@made.com", "Out of stock for POPULAR-CURTAINS: 1 order line waits")
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class BatchDamaged(events.Request):
    """A requirement that nobody thought of before."""

    ref: fields.Reference
    qty: fields.Quantity


def write_off_damage(event: BatchDamaged, uow: unit_of_work.AbstractUnitOfWork) -> int:
    with uow:
        product = uow.products.get_by_batchref(batchref=event.ref)
        assert product is not None
        [batch] = product.batches
        product.change_batch_quantity(event.ref, batch.purchased_quantity - event.qty)
        uow.commit()
    return batch.available_quantity


def test_S13_a_new_requirement_is_an_event_a_handler_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Any = handlers.HANDLERS
    raises: Any = handlers.RAISES
    monkeypatch.setitem(rows, BatchDamaged, [write_off_damage])
    monkeypatch.setitem(raises, write_off_damage, handlers.RAISES[handlers.change_batch_quantity])
    flow.check()
    uow = FakeUnitOfWork()
    messagebus.handle(events.BatchCreated("b1", "SPRINGY-MATTRESS", 10, None), uow)
    messagebus.handle(events.AllocationRequired("o1", "SPRINGY-MATTRESS", 8), uow)
    assert messagebus.handle(BatchDamaged("b1", 3), uow)[0] == 7
    assert stands(uow, "SPRINGY-MATTRESS") == {"o1": None}
    assert messages.decode(BatchDamaged, '{"ref":"b1","qty":3}') == BatchDamaged("b1", 3)


def test_S14a_the_bus_provably_ends() -> None:
    flow.check()
    assert flow.longest_path()[-1] is handlers.send_out_of_stock_notification
    assert "flowchart" in flow.mermaid()
    endless = MappingProxyType(
        {**handlers.RAISES, handlers.allocate: handlers.RAISES[handlers.allocate] | {events.AllocationRequired}}
    )
    with pytest.raises(flow.InvalidFlow, match="AllocationRequired → allocate → AllocationRequired"):
        flow.check(flow.Flow(raises=endless))


@pytest.mark.parametrize("type_", messages.incoming_types())
def test_S14b_one_declaration_of_a_message_serves_all(type_: str) -> None:
    event: Any = messages.EVENTS[type_]
    declared = [field.name for field in dataclasses.fields(event)]
    assert [rule.name for rule in messages.field_rules(event)] == declared
    assert list(document()["components"]["schemas"][type_]["properties"]) == declared


def test_every_row_of_the_seed_has_a_test_that_names_it() -> None:
    named = {int(number) for number in re.findall(r"^def test_S(\d+)[ab]?_", Path(__file__).read_text(), re.MULTILINE)}
    assert named == set(ROWS)

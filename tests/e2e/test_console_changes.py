"""Changes from the console without a browser: looked at, made as they were looked at, and only by forms of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import NamedTuple

import httpx
import pytest

from allocation.entrypoints.console.changes import CHANGES, Change
from allocation.entrypoints.console.protection import COOKIE, FIELD
from allocation.service_layer.messages import field_rules
from tests.services import Server, unique

FORM = "application/x-www-form-urlencoded"
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


@pytest.fixture
def visitor(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as visitor:
        assert visitor.get("/console/").status_code == 200
        yield visitor


class Names(NamedTuple):
    """A product with ten in the warehouse and ten due in a year, and two lines of five on the first batch."""

    sku: str
    stock: str
    ship: str
    old: str
    new: str
    delivery: str


@pytest.fixture
def names(server: Server) -> Names:
    names = Names(*(unique(name) for name in Names._fields))
    server.add_batch(names.stock, names.sku, 10)
    ship = {"ref": names.ship, "sku": names.sku, "qty": 10, "eta": "2035-01-31", "delivery": names.delivery}
    assert server.post("/add_batch", ship).status_code == 201
    server.allocate(names.old, names.sku, 5)
    body = {"orderid": names.new, "sku": names.sku, "qty": 5, "need_by": "2035-01-30"}
    assert server.post("/allocate", body).status_code == 201
    return names


class Look(NamedTuple):
    """What the page says would happen, and what its form sends."""

    effect: str
    sent: dict[str, str]


def look(visitor: httpx.Client, name: str, **texts: str) -> Look:
    response = visitor.get(f"/console/change/{name}", params={**texts, "look": "1"})
    assert response.status_code == 200, response.text
    return _read(response)


def _read(response: httpx.Response) -> Look:
    _, _, applying = response.text.partition('class="apply"')
    sent = {name: unescape(value) for name, value in HIDDEN.findall(applying)}
    return Look(effect_in(response.text), sent)


def effect_in(page: str) -> str:
    """The figures and the table, without the words that differ before and after."""
    shown = page[page.index('<dl class="figures tally">') :]
    shown = shown[: shown.index("</table>")] if "</table>" in shown else shown[: shown.index("</p>")]
    return re.sub(r"<caption.*?</caption>|Would be|would change|(?<=>)Is(?=<)|changed", "", shown)


def apply(visitor: httpx.Client, name: str, sent: dict[str, str]) -> httpx.Response:
    return visitor.post(f"/console/change/{name}", data=sent)


def test_what_was_looked_at_is_what_happens(server: Server, visitor: httpx.Client, names: Names) -> None:
    seen = look(visitor, "change_batch_quantity", ref=names.stock, qty="7")
    assert f">{names.new}<" in seen.effect.replace("<bdi>", "").replace("</bdi>", "")
    assert server.get(f"/batches/{names.stock}")["purchased_quantity"] == 10
    done = apply(visitor, "change_batch_quantity", seen.sent)
    assert done.status_code == 303
    assert effect_in(visitor.get(done.headers["location"]).text) == seen.effect
    assert server.get(f"/batches/{names.stock}")["purchased_quantity"] == 7
    assert [line["orderid"] for line in server.get(f"/batches/{names.ship}")["lines"]] == [names.new]


def tomorrow() -> str:
    return f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"


def test_every_change_ends_as_it_was_looked_at(server: Server, visitor: httpx.Client, names: Names) -> None:
    batch, ship, line = {"ref": names.stock}, {"ref": names.ship}, {"orderid": names.new, "sku": names.sku}
    story: list[tuple[str, dict[str, str]]] = [
        ("quarantine_batch", {**batch, "reason": "a leaking roof"}),
        ("release_batch", batch),
        ("change_batch_eta", {**ship, "eta": "2035-02-27"}),
        ("change_line_quantity", {**line, "qty": "12"}),
        ("change_line_quantity", {**line, "qty": "4"}),
        ("change_batch_quantity", {**batch, "qty": "3"}),
        ("pin_line", {**line, "batchref": names.ship, "reason": "asked for"}),
        ("receive_batch", {**ship, "qty": "5", "rest": "expected", "rest_eta": "2035-03-31"}),
        ("count_batch", {**ship, "on_hand": "4", "reason": "lost"}),
        ("adjust_batch", {**ship, "by": "-1", "reason": "damaged", "note": "fell off"}),
        ("change_delivery_eta", {"delivery": names.delivery, "eta": "2035-04-30"}),
        ("receive_delivery", {"delivery": names.delivery}),
        ("undo_receipt", {**ship, "qty": "1"}),
        ("receive_batch", {**ship, "quarantine": "wet"}),
        ("release_batch", ship),
        ("correct_batch", {**ship, "location": "OSLO", "expires_on": "", "eta": ""}),
        ("transfer_stock", {**ship, "to_location": "ROME", "qty": "1", "keep_lines": "false"}),
        ("ship_line", line),
        ("return_line", {**line, "qty": "1", "disposition": "inspect"}),
        ("retire_product", {"sku": names.sku}),
        ("reinstate_product", {"sku": names.sku}),
        ("change_rules", {"sku": names.sku, "safety_stock": "2"}),
        ("move_up", {"sku": names.sku}),
        ("cancel_allocation", {"orderid": names.old, "sku": names.sku}),
    ]
    assert {name for name, _ in story} == set(CHANGES)
    hold = {"holdid": unique("hold"), "sku": names.sku, "qty": 2, "expires_at": tomorrow()}
    assert server.post("/hold_stock", hold).json() == {"batchref": names.ship}
    for name, texts in story:
        seen = look(visitor, name, **texts)
        done = apply(visitor, name, seen.sent)
        assert done.headers["location"].startswith("/console/outcome/"), (name, done.headers)
        assert effect_in(visitor.get(done.headers["location"]).text) == seen.effect, name


@pytest.mark.parametrize("change", [each for each in CHANGES.values() if each.asked], ids=lambda change: change.name)
def test_each_field_of_a_form_says_what_it_means(visitor: httpx.Client, names: Names, change: Change) -> None:
    place = {"ref": names.ship, "orderid": names.old, "sku": names.sku, "delivery": names.delivery}
    page = visitor.get(f"/console/change/{change.name}", params={name: place[name] for name in change.subject}).text
    meanings = {rule.name: rule.meaning for rule in field_rules(change.kind)}
    for name in change.asked:
        assert f'aria-describedby="m-{name}"' in page
        assert f'<p class="meaning" id="m-{name}">{meanings[name]}.</p>' in page


def test_nothing_is_applied_to_a_product_that_has_changed_since(
    server: Server, visitor: httpx.Client, names: Names
) -> None:
    seen = look(visitor, "change_batch_quantity", ref=names.stock, qty="7")
    server.allocate(unique("between"), names.sku, 1)
    position = server.ledger_position()
    again = apply(visitor, "change_batch_quantity", seen.sent)
    page = visitor.get(again.headers["location"])
    assert "nothing was applied" in page.text
    assert server.ledger_position() == position
    fresh = _read(page)
    assert fresh.sent["versions"] != seen.sent["versions"]
    assert "/outcome/" in apply(visitor, "change_batch_quantity", fresh.sent).headers["location"]


def test_a_change_that_is_sent_twice_is_made_once(server: Server, visitor: httpx.Client, names: Names) -> None:
    seen = look(visitor, "change_batch_quantity", ref=names.stock, qty="7")
    first = apply(visitor, "change_batch_quantity", seen.sent)
    position = server.ledger_position()
    assert apply(visitor, "change_batch_quantity", seen.sent).headers["location"] == first.headers["location"]
    assert server.ledger_position() == position


def test_what_would_be_refused_is_said_before_and_offers_nothing_to_apply(visitor: httpx.Client, names: Names) -> None:
    for name, texts, said in (
        ("change_batch_quantity", {"ref": names.stock, "qty": "-1"}, "qty takes a whole number"),
        ("change_batch_eta", {"ref": names.ship, "eta": "soon"}, "eta takes a date"),
        ("ship_line", {"orderid": unique("none"), "sku": names.sku}, "has no line"),
        ("return_line", {"orderid": names.old, "sku": names.sku}, "cannot be returned"),
        ("receive_batch", {"ref": "nothing"}, "Unknown batch"),
    ):
        page = visitor.get(f"/console/change/{name}", params={**texts, "look": "1"}).text
        assert said in unescape(page), name
        assert 'class="apply"' not in page, name


class Delivered(NamedTuple):
    """A delivery with a batch of each of two products, and a line on each batch."""

    delivery: str
    lamp: str
    rug: str
    lamps: str
    rugs: str


@pytest.fixture
def delivered(server: Server) -> Delivered:
    names = Delivered(*(unique(name) for name in Delivered._fields))
    for ref, sku in ((names.lamps, names.lamp), (names.rugs, names.rug)):
        batch = {"ref": ref, "sku": sku, "qty": 10, "eta": "2035-01-31", "delivery": names.delivery}
        assert server.post("/add_batch", batch).status_code == 201
        server.allocate(f"order-of-{sku}", sku, 5)
    return names


def test_a_delivery_is_previewed_and_changed_as_one_over_its_products(
    server: Server, visitor: httpx.Client, delivered: Delivered
) -> None:
    assert (
        f"change/receive_delivery?delivery={delivered.delivery}"
        in visitor.get(f"/console/batches/{delivered.rugs}").text
    )
    page = visitor.get("/console/change/change_delivery_eta", params={"delivery": delivered.delivery}).text
    assert 'value="2035-01-31"' in page
    for name in delivered:
        assert name in page
    seen = look(visitor, "change_delivery_eta", delivery=delivered.delivery, eta="2035-03-01")
    for sku in (delivered.lamp, delivered.rug):
        assert f"order-of-{sku}" in seen.effect
    done = apply(visitor, "change_delivery_eta", seen.sent)
    assert visitor.get(done.headers["location"]).status_code == 200
    for ref in (delivered.lamps, delivered.rugs):
        assert server.get(f"/batches/{ref}")["eta"] == "2035-03-01"


def test_nothing_of_a_delivery_is_applied_if_one_of_its_products_has_changed(
    server: Server, visitor: httpx.Client, delivered: Delivered
) -> None:
    def is_stale(seen: Look) -> bool:
        page = visitor.get(apply(visitor, "receive_delivery", seen.sent).headers["location"]).text
        return "nothing was applied" in page

    seen = look(visitor, "receive_delivery", delivery=delivered.delivery)
    server.allocate(unique("between"), delivered.rug, 1)
    assert is_stale(seen)
    seen = look(visitor, "receive_delivery", delivery=delivered.delivery)
    third = {"ref": unique("third"), "sku": unique("THIRD"), "qty": 1, "eta": "2035-01-31"}
    assert server.post("/add_batch", {**third, "delivery": delivered.delivery}).status_code == 201
    assert is_stale(seen)
    assert server.get(f"/batches/{delivered.lamps}")["eta"] == "2035-01-31"


def test_values_of_today_are_beside_the_fields(visitor: httpx.Client, names: Names) -> None:
    def page(name: str, **texts: str) -> str:
        return unescape(visitor.get(f"/console/change/{name}", params=texts).text)

    assert "Still due: 10." in page("receive_batch", ref=names.ship)
    assert "Now 2035-01-31." in page("correct_batch", ref=names.ship)
    assert "On hand as known: 10." in page("count_batch", ref=names.stock)
    assert '<option value="damaged">' in page("adjust_batch", ref=names.stock)
    assert "Quantity purchased" in page("change_batch_quantity", ref=names.stock)
    assert 'name="keep_lines" value="true" aria-describedby="m-keep_lines" checked' in page(
        "transfer_stock", ref=names.stock
    )


def test_a_time_in_a_form_is_by_the_clock_of_the_business(server: Server, visitor: httpx.Client, names: Names) -> None:
    seen = look(visitor, "count_batch", ref=names.stock, on_hand="9", counted_at="2020-01-01T12:00")
    assert seen.sent["counted_at"] == "2020-01-01T12:00"
    done = apply(visitor, "count_batch", seen.sent)
    assert "/outcome/" in done.headers["location"]
    counts = [each for each in server.get("/events", sku=names.sku)["events"] if each["type"] == "BatchCounted"]
    assert [each["body"]["counted_at"] for each in counts] == ["2020-01-01T12:00:00Z"]


def test_there_is_no_change_of_another_name(visitor: httpx.Client) -> None:
    assert visitor.get("/console/change/add_batch").status_code == 404


@pytest.mark.parametrize("name", list(CHANGES))
def test_no_change_is_made_by_a_form_of_others(server: Server, visitor: httpx.Client, names: Names, name: str) -> None:
    texts = {"ref": names.stock, "orderid": names.new, "sku": names.sku, "batchref": names.ship, "reason": "r"}
    texts |= {"qty": "1", "eta": "2035-03-01", "versions": "{}", "key": unique("key")}
    position = server.ledger_position()
    token = {FIELD: visitor.cookies[COOKIE]}
    for sent, headers in (
        (texts, {}),
        ({**texts, FIELD: "guessed"}, {}),
        ({**texts, **token}, {"origin": "https://elsewhere.example"}),
        ({**texts, **token}, {"sec-fetch-site": "cross-site"}),
    ):
        response = visitor.post(f"/console/change/{name}", data=sent, headers={"content-type": FORM, **headers})
        assert response.status_code == 403
    assert server.ledger_position() == position


def test_late_lines_may_be_moved_up_from_the_page_of_their_product(server: Server, visitor: httpx.Client) -> None:
    sku, order = unique("LATE"), unique("order")
    server.add_batch(f"slow-{sku}", sku, 5, "2035-03-01")
    path = f"/console/products/{sku}"
    assert "change/move_up" not in visitor.get(path).text, "no line is late"
    answer = server.post("/allocate", {"orderid": order, "sku": sku, "qty": 2, "need_by": "2035-02-01"})
    assert answer.json() == {"batchref": f"slow-{sku}"}
    server.add_batch(f"soon-{sku}", sku, 5, "2035-01-31")
    assert f"change/move_up?sku={sku}" in visitor.get(path).text
    apply(visitor, "move_up", look(visitor, "move_up", sku=sku).sent)
    assert [line["orderid"] for line in server.get(f"/batches/soon-{sku}")["lines"]] == [order]
    assert "change/move_up" not in visitor.get(path).text

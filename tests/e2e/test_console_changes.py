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


@pytest.fixture
def names(server: Server) -> Names:
    names = Names(*(unique(name) for name in Names._fields))
    server.add_batch(names.stock, names.sku, 10)
    server.add_batch(names.ship, names.sku, 10, "2099-01-31")
    server.allocate(names.old, names.sku, 5)
    body = {"orderid": names.new, "sku": names.sku, "qty": 5, "need_by": "2099-01-30"}
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
        ("change_batch_eta", {**ship, "eta": "2099-02-27"}),
        ("change_line_quantity", {**line, "qty": "12"}),
        ("change_line_quantity", {**line, "qty": "4"}),
        ("change_batch_quantity", {**batch, "qty": "3"}),
        ("pin_line", {**line, "batchref": names.ship, "reason": "asked for"}),
        ("receive_batch", {**ship, "qty": "9"}),
        ("ship_line", line),
        ("return_line", {**line, "qty": "1"}),
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
    place = {"ref": names.ship, "orderid": names.old, "sku": names.sku}
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
    assert fresh.sent["version"] != seen.sent["version"]
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


def test_there_is_no_change_of_another_name(visitor: httpx.Client) -> None:
    assert visitor.get("/console/change/add_batch").status_code == 404


@pytest.mark.parametrize("name", list(CHANGES))
def test_no_change_is_made_by_a_form_of_others(server: Server, visitor: httpx.Client, names: Names, name: str) -> None:
    texts = {"ref": names.stock, "orderid": names.new, "sku": names.sku, "batchref": names.ship, "reason": "r"}
    texts |= {"qty": "1", "eta": "2099-03-01", "version": "0", "key": unique("key")}
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
    server.add_batch(f"slow-{sku}", sku, 5, "2099-03-01")
    path = f"/console/products/{sku}"
    assert "change/move_up" not in visitor.get(path).text, "no line is late"
    answer = server.post("/allocate", {"orderid": order, "sku": sku, "qty": 2, "need_by": "2099-02-01"})
    assert answer.json() == {"batchref": f"slow-{sku}"}
    server.add_batch(f"soon-{sku}", sku, 5, "2099-01-31")
    assert f"change/move_up?sku={sku}" in visitor.get(path).text
    apply(visitor, "move_up", look(visitor, "move_up", sku=sku).sent)
    assert [line["orderid"] for line in server.get(f"/batches/soon-{sku}")["lines"]] == [order]
    assert "change/move_up" not in visitor.get(path).text

"""The whole way of a fact: an order over HTTP, the commit, the relay, and the post that a receiver verifies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.receiver import Receiver, answer
from tests.services import Server, unique
from tests.waiting import wait_until

pytestmark = pytest.mark.served(
    "effect given up", ALLOCATION_WEBHOOKS_ALLOW_PRIVATE="true", ALLOCATION_MAX_ATTEMPTS="1"
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def add(server: Server, url: str, *event_types: str) -> dict[str, Any]:
    response = server.post("/webhooks", {"url": url, "event_types": event_types})
    assert response.status_code == 201, response.text
    added: dict[str, Any] = response.json()
    return added


def test_facts_are_posted_in_the_order_of_their_product_and_no_others(server: Server, receiver: Receiver) -> None:
    added = add(server, receiver.url, "Allocated", "Backordered")
    sku, ref, orders = unique("SOFA"), unique("b"), [unique(f"o{number}") for number in range(5)]
    server.add_batch(ref, sku, 4)
    for orderid in orders:
        server.allocate(orderid, sku, 1)
    wait_until(lambda: len(receiver.received) == len(orders))
    posted: list[Any] = [each.verified_by(added["secret"]) for each in receiver.received]
    assert [(each["type"], each["data"]["orderid"]) for each in posted] == [
        *(("Allocated", orderid) for orderid in orders[:4]),
        ("Backordered", orders[4]),
    ]
    told = server.get("/events", sku=sku, orderid=orders[0])["events"][1]
    assert (receiver.received[0].headers["webhook-id"], posted[0]["timestamp"]) == (told["id"], told["recorded_at"])
    assert posted[0]["data"] == told["body"] == {"orderid": orders[0], "sku": sku, "qty": 1, "batchref": ref}
    server.client.delete(f"/webhooks/{added['id']}")


def test_what_a_target_will_not_have_is_a_dead_letter_until_somebody_retries_it(
    server: Server, receiver: Receiver
) -> None:
    refused = {"status": 400}

    def reply(handler: BaseHTTPRequestHandler) -> None:
        answer(handler, refused["status"], b"no such shop")

    receiver.reply = reply
    added = add(server, receiver.url, "Allocated")
    sku, orderid = unique("RUG"), unique("o")
    server.add_batch(unique("b"), sku, 1)
    server.allocate(orderid, sku, 1)
    wait_until(lambda: server.get("/dead-letters", sku=sku)["dead_letters"])
    (dead,) = server.get("/dead-letters", sku=sku)["dead_letters"]
    assert (dead["effect"], dead["sku"]) == (f"post_webhook/{added['id']}", sku)
    assert "answered 400 no such shop" in json.dumps(dead)
    refused["status"] = 204
    assert server.post("/dead-letters/retry", {"sku": sku}).json()["count"] == 1
    wait_until(lambda: len(receiver.received) == 2)
    first, second = receiver.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    wait_until(lambda: server.get("/dead-letters", sku=sku)["dead_letters"] == [])
    server.client.delete(f"/webhooks/{added['id']}")


def test_a_target_that_is_gone_gets_nothing_more(server: Server, receiver: Receiver) -> None:
    receiver.reply = lambda handler: answer(handler, 410)
    added = add(server, receiver.url, "Allocated")
    sku = unique("VASE")
    server.add_batch(unique("b"), sku, 2)
    server.allocate(unique("o"), sku, 1)
    wait_until(lambda: server.get(f"/webhooks/{added['id']}")["disabled_reason"])
    server.allocate(unique("o"), sku, 1)
    wait_until(lambda: server.get("/dead-letters", sku=sku)["dead_letters"] == [])
    assert len(receiver.received) == 1

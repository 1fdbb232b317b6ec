"""Webhooks over HTTP: added, listed, tried, rotated and removed, on a server that may reach the tests' receivers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from allocation.adapters.webhook_sender import MAX_ASIDE
from allocation.service_layer.delivering.webhooks import EVENT_TYPES, MAX_URL_LENGTH
from tests.e2e.program import run
from tests.receiver import Receiver, answer
from tests.services import Server, unique
from tests.waiting import PATIENCE_S, wait_until

TESTS = 20  # at once: more than there are threads
NOBODY = "wh_" + "0" * 32


pytestmark = pytest.mark.served(ALLOCATION_WEBHOOKS_ALLOW_PRIVATE="true")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def add(server: Server, url: str, **more: Any) -> Any:
    response = server.post("/webhooks", {"url": url, **more})
    assert response.status_code == 201, response.text
    return response.json()


def new_url() -> str:
    return f"https://shop.example/{unique('hooks')}"


def problem(response: Any, status: int, slug: str) -> Any:
    told = response.json()
    assert (response.status_code, told["type"]) == (status, f"/problems/{slug}"), told
    assert response.headers["content-type"] == "application/problem+json"
    assert told["detail"].startswith(told["message"])
    return told


def test_a_webhook_is_added_and_shown_without_its_secret(server: Server) -> None:
    url = new_url()
    added = add(server, url, event_types=["Backordered", "Allocated"], description="the shop's")
    secret = added.pop("secret")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    assert re.fullmatch(r"wh_[0-9a-f]{32}", added["id"])
    assert added["created_at"].endswith("Z")
    assert added == {
        "id": added["id"],
        "url": url,
        "description": "the shop's",
        "event_types": ["Allocated", "Backordered"],
        "secrets": [{"begins": f"{secret[:10]}…", "ends_at": None}],
        "created_at": added["created_at"],
        "disabled_at": None,
        "disabled_reason": "",
    }
    assert server.get(f"/webhooks/{added['id']}") == added
    listed = server.client.get("/webhooks")
    assert added in listed.json()["webhooks"]
    assert secret not in listed.text


def test_a_test_message_is_one_that_the_receiver_verifies(server: Server, receiver: Receiver) -> None:
    receiver.reply = lambda handler: answer(handler, 200, b"thanks")
    added = add(server, receiver.url)
    tried = server.client.post(f"/webhooks/{added['id']}/test")
    assert (tried.status_code, tried.json()) == (
        200,
        {"delivered": True, "status": 200, "said": "answered 200 thanks"},
    )
    (got,) = receiver.received
    body = got.verified_by(added["secret"])
    assert isinstance(body, dict)
    assert (body["type"], body["data"]) == ("webhook.test", {"webhook": added["id"]})
    assert got.headers["webhook-id"].startswith("test_")


@pytest.mark.parametrize("status", [404, 410, 503])
def test_a_test_tells_what_the_target_said_and_changes_nothing(server: Server, receiver: Receiver, status: int) -> None:
    receiver.reply = lambda handler: answer(handler, status, b"not here")
    added = add(server, receiver.url)
    tried = server.client.post(f"/webhooks/{added['id']}/test").json()
    assert tried == {"delivered": False, "status": status, "said": f"answered {status} not here"}
    assert server.get(f"/webhooks/{added['id']}")["disabled_at"] is None


def test_a_test_tells_of_a_target_that_is_down(server: Server) -> None:
    with Receiver() as down:
        pass
    added = add(server, down.url)
    tried = server.client.post(f"/webhooks/{added['id']}/test").json()
    assert (tried["delivered"], tried["status"]) == (False, None)
    assert "refused" in tried["said"]


def test_targets_that_hang_keep_nobody_else_waiting(server: Server, receiver: Receiver) -> None:
    answered = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        answered.wait(PATIENCE_S)
        answer(handler, 204)

    receiver.reply = hang
    path = f"/webhooks/{add(server, receiver.url)['id']}"
    with ThreadPoolExecutor(TESTS) as clients:
        tests = [clients.submit(server.client.post, f"{path}/test") for _ in range(TESTS)]
        wait_until(lambda: len(receiver.received) >= MAX_ASIDE)
        assert server.get(path)["url"] == receiver.url
        assert not any(test.done() for test in tests)
        answered.set()
    assert {test.result().json()["status"] for test in tests} == {204}


def test_after_a_rotation_both_secrets_sign_for_a_while(server: Server, receiver: Receiver) -> None:
    added = add(server, receiver.url)
    path = f"/webhooks/{added['id']}"
    rotated = server.client.post(f"{path}/rotate").json()
    assert rotated["secret"] != added["secret"]
    assert [each["begins"][:10] for each in rotated["secrets"]] == [rotated["secret"][:10], added["secret"][:10]]
    assert [each["ends_at"] is None for each in rotated["secrets"]] == [True, False]
    server.client.post(f"{path}/test")
    assert receiver.received[-1].verified_by(added["secret"])
    assert receiver.received[-1].verified_by(rotated["secret"])


def test_a_secret_that_leaked_ends_at_once(server: Server, receiver: Receiver) -> None:
    added = add(server, receiver.url)
    path = f"/webhooks/{added['id']}"
    rotated = server.client.post(f"{path}/rotate", params={"overlap_hours": 0}).json()
    assert len(rotated["secrets"]) == 1
    server.client.post(f"{path}/test")
    assert receiver.received[-1].headers["webhook-signature"].count("v1,") == 1
    assert receiver.received[-1].verified_by(rotated["secret"])


def test_one_that_was_disabled_is_enabled_and_gets_what_happens_from_then_on(
    server: Server, receiver: Receiver
) -> None:
    receiver.reply = lambda handler: answer(handler, 410, b"moved out")
    path = f"/webhooks/{add(server, receiver.url, event_types=['Allocated'])['id']}"
    sku, orders = unique("sku"), [unique("order"), unique("order")]
    server.add_batch(unique("batch"), sku, 10)
    server.allocate(orders[0], sku, 1)
    wait_until(lambda: server.get(path)["disabled_at"] is not None)
    receiver.reply = lambda handler: answer(handler, 204)
    enabled = server.client.post(f"{path}/enable")
    assert (enabled.status_code, enabled.json()) == (200, server.get(path))
    assert (enabled.json()["disabled_at"], enabled.json()["disabled_reason"]) == (None, "")
    server.allocate(orders[1], sku, 1)
    wait_until(lambda: len(receiver.received) > 1)
    assert [json.loads(each.body)["data"]["orderid"] for each in receiver.received] == orders


def test_what_comes_from_outside_is_posted_where_it_is_named_but_not_what_was_refused(
    server: Server, receiver: Receiver
) -> None:
    add(server, receiver.url, event_types=["BatchCreated", "RulesChanged", "Allocated"])
    sku, ref, orderid = unique("sku"), unique("batch"), unique("order")
    server.add_batch(ref, sku, 10)
    assert server.post("/add_batch", {"ref": ref, "sku": sku, "qty": 9}).status_code == 409
    server.post("/change_rules", {"sku": sku, "strategy": "first-expired"})
    server.allocate(orderid, sku, 1)
    wait_until(lambda: len(receiver.received) > 2)
    posted = [json.loads(each.body) for each in receiver.received]
    assert [each["type"] for each in posted] == ["BatchCreated", "RulesChanged", "Allocated"]
    assert posted[0]["data"] == {"ref": ref, "sku": sku, "qty": 10}


def test_a_webhook_is_removed(server: Server) -> None:
    path = f"/webhooks/{add(server, new_url())['id']}"
    removed = server.client.delete(path)
    assert (removed.status_code, removed.content) == (204, b"")
    problem(server.client.get(path), 404, "unknown-webhook")
    problem(server.client.delete(path), 404, "unknown-webhook")


def test_the_same_again_is_a_conflict_that_names_the_first(server: Server) -> None:
    url = new_url()
    added = add(server, url, event_types=["Allocated", "OutOfStock"])
    again = server.post("/webhooks", {"url": url, "event_types": ["OutOfStock", "Allocated"]})
    assert added["id"] in problem(again, 409, "webhook-conflict")["message"]
    assert add(server, url, event_types=["Allocated"])["id"] != added["id"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": None},
        {"url": 1},
        {"url": ""},
        {"url": "x" * (MAX_URL_LENGTH + 1)},
        {"url": "ftp://shop.example"},
        {"url": "https://shop.example", "more": 1},
        {"url": "https://shop.example", "event_types": None},
        {"url": "https://shop.example", "event_types": "Allocated"},
        {"url": "https://shop.example", "event_types": [1]},
        {"url": "https://shop.example", "event_types": ["allocate"]},
        {"url": "https://shop.example", "description": "x" * 256},
        {"url": "https://shop.example", "description": "a\x00b"},
        [],
        "https://shop.example",
    ],
)
def test_what_describes_no_webhook_is_refused(server: Server, body: Any) -> None:
    before = server.get("/webhooks")
    problem(server.post("/webhooks", body), 400, "invalid-webhook")
    assert server.get("/webhooks") == before


def test_a_refusal_names_the_value_and_the_cure(server: Server) -> None:
    told = problem(server.post("/webhooks", {"url": new_url(), "event_types": ["Nope"]}), 400, "invalid-webhook")
    assert told["detail"] == f"Unknown event type 'Nope'. Use some of {', '.join(EVENT_TYPES)}."
    told = problem(
        server.client.post("/webhooks", content=b"{", headers={"content-type": "application/json"}),
        400,
        "invalid-webhook",
    )
    assert told["detail"].endswith("Send a JSON object with url, event_types, description.")


def test_other_content_is_refused(server: Server) -> None:
    problem(server.client.post("/webhooks", content=b"url=x"), 415, "wrong-content-type")
    body = b'{"url": "' + b"x" * 2_000_000 + b'"}'
    response = server.client.post("/webhooks", content=body, headers={"content-type": "application/json"})
    problem(response, 413, "too-large")


@pytest.mark.parametrize("id_", [NOBODY, "nope", "%00", "%ff", "x" * 300, "wh_%2e%2e"])
def test_a_webhook_that_nobody_knows_is_404(server: Server, id_: str) -> None:
    path = f"/webhooks/{id_}"
    asked = [server.client.get(path), server.client.delete(path)]
    asked += [server.client.post(f"{path}/{action}") for action in ("test", "enable", "rotate")]
    for response in asked:
        problem(response, 404, "unknown-webhook")


@pytest.mark.parametrize("query", ["overlap_hours=-1", "overlap_hours=721", "overlap_hours=x", "nope=1"])
def test_a_wrong_overlap_is_400(server: Server, query: str) -> None:
    problem(server.client.post(f"/webhooks/{NOBODY}/rotate?{query}"), 400, "invalid-message")


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/webhooks", "PUT", "GET, HEAD, POST"),
        (f"/webhooks/{NOBODY}", "POST", "DELETE, GET, HEAD"),
        (f"/webhooks/{NOBODY}/test", "GET", "POST"),
        (f"/webhooks/{NOBODY}/rotate", "DELETE", "POST"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(server: Server, path: str, method: str, allowed: str) -> None:
    response = server.client.request(method, path)
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allowed


def test_by_default_no_webhook_leads_into_our_network(start_server: Any, receiver: Receiver) -> None:
    server = start_server()
    problem(server.post("/webhooks", {"url": receiver.url}), 400, "invalid-webhook")
    problem(server.post("/webhooks", {"url": receiver.url.replace("http:", "https:")}), 400, "invalid-webhook")
    problem(server.post("/webhooks", {"url": f"https://localhost:{receiver.port}/hooks"}), 400, "invalid-webhook")
    assert receiver.connections == 0


def test_what_would_lead_into_our_network_becomes_a_dead_letter(
    start_server: Any, receiver: Receiver, sqlite_url: str
) -> None:
    url = f"https://localhost:{receiver.port}/hooks"
    added = run("webhooks", "add", url, "--json", database=sqlite_url, ALLOCATION_WEBHOOKS_ALLOW_PRIVATE="true")
    id_ = json.loads(added.output)["id"]
    server = start_server(ALLOCATION_DATABASE_URL=sqlite_url)
    tried = server.client.post(f"/webhooks/{id_}/test").json()
    assert (tried["delivered"], tried["status"]) == (False, None)
    assert "which is not a public address" in tried["said"]
    server.add_batch("b1", "SOFA", 5)
    server.allocate("o1", "SOFA", 2)
    wait_until(lambda: bool(server.get("/dead-letters")["dead_letters"]))
    (dead,) = server.get("/dead-letters")["dead_letters"]
    assert (dead["effect"], dead["attempts"]) == (f"post_webhook/{id_}", 1)
    assert dead["error"].startswith("Hopeless: https://localhost")
    assert receiver.connections == 0

"""Events over HTTP: the promises made, and the same request again."""

from __future__ import annotations

from tests.services import Server, unique


def test_allocates_to_the_warehouse_before_shipments_and_earlier_before_later(server: Server) -> None:
    sku, later, earlier, warehouse = unique("FORK"), unique("b"), unique("b"), unique("b")
    server.add_batch(later, sku, 10, "2027-01-02")
    server.add_batch(earlier, sku, 10, "2027-01-01")
    server.add_batch(warehouse, sku, 10)
    assert [server.allocate(unique("o"), sku, 10) for _ in range(4)] == [warehouse, earlier, later, None]


def test_answers_201_with_the_batch_reference(server: Server) -> None:
    sku, ref = unique("SPOON"), unique("b")
    created = server.post("/add_batch", {"ref": ref, "sku": sku, "qty": 100})
    assert (created.status_code, created.json()) == (201, {"batchref": ref})
    allocated = server.post("/allocate", {"orderid": unique("o"), "sku": sku, "qty": 3})
    assert (allocated.status_code, allocated.json()) == (201, {"batchref": ref})
    assert allocated.headers["content-type"] == "application/json"
    assert allocated.headers["server"] == "allocation"


def test_an_unknown_sku_is_refused_in_the_words_of_the_seed(server: Server) -> None:
    sku = unique("NONEXISTENT")
    response = server.post("/allocate", {"orderid": unique("o"), "sku": sku, "qty": 3})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "/problems/invalid-sku",
        "title": "No batch of this SKU was ever bought",
        "status": 400,
        "detail": f"Invalid sku {sku}. Add a batch of it first.",
        "message": f"Invalid sku {sku}",
    }


def test_a_lower_count_moves_the_newest_lines_and_says_which(server: Server) -> None:
    sku, damaged, inbound = unique("SPRINGY-MATTRESS"), unique("b"), unique("b")
    older, newer, newest = unique("o"), unique("o"), unique("o")
    server.add_batch(damaged, sku, 30)
    server.add_batch(inbound, sku, 10, "2027-01-01")
    for orderid in (older, newer, newest):
        assert server.allocate(orderid, sku, 10) == damaged
    response = server.post("/change_batch_quantity", {"ref": damaged, "qty": 10})
    assert response.status_code == 201
    assert response.json() == {
        "batchref": damaged,
        "moved": [
            {"orderid": newest, "sku": sku, "qty": 10, "from": damaged, "to": None},
            {"orderid": newer, "sku": sku, "qty": 10, "from": damaged, "to": inbound},
        ],
    }
    assert server.get(f"/allocations/{older}") == [{"sku": sku, "qty": 10, "batchref": damaged, "state": "allocated"}]
    [moved] = server.get(f"/allocations/{newer}")
    assert (moved["batchref"], moved["state"]) == (inbound, "allocated")
    assert moved["promised"] == server.get(f"/batches/{inbound}")["eta"]
    assert server.get(f"/allocations/{newest}") == [{"sku": sku, "qty": 10, "batchref": None, "state": "waiting"}]


def test_a_count_up_serves_a_waiting_line(server: Server) -> None:
    sku, ref, orderid = unique("LAMP"), unique("b"), unique("o")
    server.add_batch(ref, sku, 1)
    assert server.allocate(orderid, sku, 5) is None
    response = server.post("/change_batch_quantity", {"ref": ref, "qty": 5})
    assert response.json()["moved"] == [{"orderid": orderid, "sku": sku, "qty": 5, "from": None, "to": ref}]


def test_an_unknown_batch_is_404(server: Server) -> None:
    ref = unique("b")
    response = server.post("/change_batch_quantity", {"ref": ref, "qty": 10})
    assert (response.status_code, response.json()["message"]) == (404, f"Unknown batch {ref}")


def test_the_same_line_again_gets_the_same_answer_and_another_quantity_is_refused(server: Server) -> None:
    sku, ref, orderid = unique("VASE"), unique("b"), unique("o")
    server.add_batch(ref, sku, 10)
    assert server.allocate(orderid, sku, 10) == ref
    assert server.allocate(orderid, sku, 10) == ref
    response = server.post("/allocate", {"orderid": orderid, "sku": sku, "qty": 9})
    assert response.status_code == 409
    assert response.json()["type"] == "/problems/line-conflict"
    assert server.get(f"/products/{sku}")["allocated_quantity"] == 10


def test_the_same_batch_again_is_accepted_and_a_different_one_is_refused(server: Server) -> None:
    sku, ref = unique("VASE"), unique("b")
    server.add_batch(ref, sku, 10)
    server.add_batch(ref, sku, 10)
    for other in ({"sku": sku, "qty": 11}, {"sku": unique("VASE"), "qty": 10}):
        response = server.post("/add_batch", {"ref": ref, **other})
        assert response.status_code == 409
        assert response.json()["type"] == "/problems/batch-conflict"
    assert server.get(f"/products/{sku}")["purchased_quantity"] == 10


def test_a_repeated_key_gets_the_first_answer_and_changes_nothing(server: Server) -> None:
    sku, ref, orderid, key = unique("CLOCK"), unique("b"), unique("o"), unique("key")
    server.add_batch(ref, sku, 20)
    server.allocate(orderid, sku, 20)
    first = server.post("/change_batch_quantity", {"ref": ref, "qty": 10}, Idempotency_Key=key)
    server.post("/change_batch_quantity", {"ref": ref, "qty": 20})
    position = server.ledger_position()
    again = server.post("/change_batch_quantity", {"ref": ref, "qty": 10}, Idempotency_Key=key)
    assert again.json() == first.json()
    assert len(first.json()["moved"]) == 1
    assert again.status_code == 201
    assert server.ledger_position() == position
    assert server.get(f"/batches/{ref}")["purchased_quantity"] == 20
    assert server.get(f"/events/{key}")["body"] == {"ref": ref, "qty": 10}


def test_a_key_used_for_a_different_request_is_422(server: Server) -> None:
    sku, key = unique("CLOCK"), unique("key")
    body = {"ref": unique("b"), "sku": sku, "qty": 20}
    assert server.post("/add_batch", body, Idempotency_Key=key).status_code == 201
    response = server.post("/add_batch", {**body, "qty": 21}, Idempotency_Key=key)
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/idempotency-key-reused"


def test_a_key_may_hold_any_printable_character(server: Server) -> None:
    key = f"Schlüssel / 鍵 {unique('key')}"
    body = {"ref": unique("b"), "sku": unique("S"), "qty": 1}
    response = server.client.post("/add_batch", json=body, headers={b"Idempotency-Key": key.encode()})
    assert response.status_code == 201
    assert server.get("/events", correlation_id=key)["events"][0]["id"] == key


def test_names_may_hold_any_printable_character(server: Server) -> None:
    sku, ref, orderid = (unique(f"{name} ü/鍵?#%2F&+'\"<b>") for name in "abc")
    server.add_batch(ref, sku, 10)
    assert server.allocate(orderid, sku, 10) == ref
    assert server.get("/events", sku=sku, orderid=orderid)["events"][0]["body"]["orderid"] == orderid

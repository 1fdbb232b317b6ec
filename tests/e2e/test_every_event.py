"""Every event in a promise's life over HTTP and on the command line: what it is answered, and a refusal of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.e2e.program import run
from tests.services import Server, unique

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
PAST = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
LATER = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
IN_AN_HOUR = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
NOT_FOUND, CONFLICT = 404, 409
EXIT_UNKNOWN, EXIT_CONFLICT, EXIT_INVALID = 3, 4, 2


class Api:
    """Posts events of one product, and looks at what is answered."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.sku = unique("SOFA")

    def preview(self, name: str, **fields: Any) -> Any:
        response = self._server.post(f"/preview/{name}", fields)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, name: str, **fields: Any) -> Any:
        response = self._server.post(f"/{name}", fields)
        assert response.status_code == 201, response.text
        return response.json()

    def refused(self, name: str, slug: str, status: int, **fields: Any) -> str:
        response = self._server.post(f"/{name}", fields)
        told = response.json()
        assert (response.status_code, told["type"]) == (status, f"/problems/{slug}"), response.text
        return str(told["message"])

    def batch(self, qty: int, **more: Any) -> str:
        return str(self.post("add_batch", ref=unique("b"), sku=self.sku, qty=qty, **more)["batchref"])

    def order(self, qty: int, **more: Any) -> str:
        orderid = unique("o")
        self.post("allocate", orderid=orderid, sku=self.sku, qty=qty, **more)
        return orderid

    def move(self, orderid: str, qty: int, before: str | None, after: str | None) -> dict[str, Any]:
        return {"orderid": orderid, "sku": self.sku, "qty": qty, "from": before, "to": after}


def test_a_delivery_is_late(server: Server) -> None:
    api = Api(server)
    late, spare = api.batch(9, eta=TOMORROW), api.batch(3, eta=TOMORROW)
    urgent, patient = api.order(3, need_by=TOMORROW), api.order(4)
    promised = {"sku": api.sku, "before": TOMORROW, "late_days": 0}
    assert api.post("change_batch_eta", ref=late, eta=LATER) == {
        "batchref": late,
        "moved": [api.move(urgent, 3, late, spare)],
        "promises": [{**promised, "orderid": patient, "qty": 4, "after": LATER}],
    }
    api.refused("change_batch_eta", "unknown-batch", NOT_FOUND, ref=unique("b"), eta=LATER)


def test_a_batch_arrives_in_parts(server: Server) -> None:
    api = Api(server)
    ref = api.batch(9, eta=TOMORROW)
    first, second = api.order(4), api.order(5)
    answer = api.post("receive_batch", ref=ref, qty=4)
    assert (answer["batchref"], answer["moved"]) == (ref, [])
    assert [each["orderid"] for each in answer["promises"]] == [first]
    assert api.post("ship_line", orderid=first, sku=api.sku) == {"batchref": ref}
    api.refused("ship_line", "not-shippable", CONFLICT, orderid=second, sku=api.sku)
    assert [each["after"] for each in api.post("receive_batch", ref=ref, qty=1, rest_eta=LATER)["promises"]] == [LATER]
    assert api.post("receive_batch", ref=ref, qty=0, rest="closed")["moved"] == [api.move(second, 5, ref, None)]
    api.refused("receive_batch", "unknown-batch", NOT_FOUND, ref=unique("b"))
    api.refused("receive_batch", "nothing-due", CONFLICT, ref=ref)
    other = api.batch(3, eta=TOMORROW)
    api.refused("receive_batch", "invalid-message", 400, ref=other, qty=1, rest="closed", rest_eta=LATER)


def test_a_receipt_is_undone(server: Server) -> None:
    api = Api(server)
    ref = api.batch(9, eta=TOMORROW)
    orderid = api.order(4)
    api.post("receive_batch", ref=ref)
    answer = api.post("undo_receipt", ref=ref)
    assert [(each["orderid"], each["after"]) for each in answer["promises"]] == [(orderid, TOMORROW)]
    api.post("receive_batch", ref=ref)
    api.post("ship_line", orderid=orderid, sku=api.sku)
    api.refused("undo_receipt", "shipped-already", CONFLICT, ref=ref)
    assert api.post("undo_receipt", ref=ref, qty=5) == {"batchref": ref, "moved": [], "promises": []}


def test_a_delivery_of_several_products_is_late_and_arrives(server: Server) -> None:
    lamps, rugs, delivery = Api(server), Api(server), unique("PO")
    places = [(api, api.batch(9, eta=TOMORROW, delivery=delivery), api.order(4)) for api in (lamps, rugs)]
    answer = lamps.post("change_delivery_eta", delivery=delivery, eta=LATER)
    assert answer["delivery"] == delivery
    assert answer["moved"] == []
    told = [(each["sku"], each["orderid"], each["after"]) for each in answer["promises"]]
    assert sorted(told) == sorted((api.sku, orderid, LATER) for api, _, orderid in places)
    answer = lamps.post("receive_delivery", delivery=delivery)
    assert len(answer["promises"]) == 2
    assert [server.get(f"/batches/{ref}")["eta"] for _, ref, _ in places] == [None, None]
    lamps.refused("receive_delivery", "delivery-arrived", CONFLICT, delivery=delivery)
    lamps.refused("change_delivery_eta", "unknown-delivery", NOT_FOUND, delivery=unique("PO"), eta=LATER)


def test_stock_is_counted_and_adjusted(server: Server) -> None:
    api = Api(server)
    ref = api.batch(9)
    first, second = api.order(4), api.order(5)
    unchanged = {"batchref": ref, "moved": [], "promises": []}
    assert api.post("count_batch", ref=ref, on_hand=9) == unchanged
    assert api.post("count_batch", ref=ref, on_hand=8)["moved"] == [api.move(second, 5, ref, None)]
    assert api.post("adjust_batch", ref=ref, by=-4, reason="damaged", note="fell off") == unchanged
    assert api.post("adjust_batch", ref=ref, by=5, reason="found")["moved"] == [api.move(second, 5, None, ref)]
    api.refused("adjust_batch", "not-on-hand", CONFLICT, ref=ref, by=-10, reason="lost")
    api.refused("count_batch", "not-arrived", CONFLICT, ref=api.batch(3, eta=TOMORROW), on_hand=1)
    api.refused("count_batch", "count-outdated", CONFLICT, ref=ref, on_hand=1, counted_at="2020-01-01T00:00:00Z")
    api.refused("adjust_batch", "invalid-message", 400, ref=ref, by=0, reason="lost")
    assert first != second


def test_a_batch_is_corrected_and_transferred(server: Server) -> None:
    api = Api(server)
    ref, part = api.batch(9), unique("part")
    orderid = api.order(9)
    assert api.post("correct_batch", ref=ref, location="OSLO", delivery="PO-1")["moved"] == []
    assert server.get(f"/batches/{ref}")["location"] == "OSLO"
    api.post("correct_batch", ref=ref, clear="delivery")
    assert "delivery" not in server.get(f"/batches/{ref}")
    answer = api.post("transfer_stock", ref=ref, to_location="ROME", qty=9, new_ref=part, eta=LATER)
    assert (answer["batchref"], answer["moved"]) == (part, [api.move(orderid, 9, ref, part)])
    assert [each["after"] for each in answer["promises"]] == [LATER]
    assert api.post("transfer_stock", ref=part, to_location="BERN", keep_lines=False)["batchref"] == part
    api.refused("transfer_stock", "not-on-hand", CONFLICT, ref=part, to_location="ROME", qty=10)
    api.refused("correct_batch", "invalid-message", 400, ref=ref)
    api.refused("correct_batch", "unknown-batch", NOT_FOUND, ref=unique("b"), location="OSLO")


def test_a_product_is_retired_and_reinstated(server: Server) -> None:
    api = Api(server)
    ref = api.batch(9)
    assert api.post("retire_product", sku=api.sku) == {"sku": api.sku}
    api.refused("allocate", "retired-product", CONFLICT, orderid=unique("o"), sku=api.sku, qty=1)
    assert api.post("reinstate_product", sku=api.sku) == {"sku": api.sku}
    assert api.post("allocate", orderid=unique("o"), sku=api.sku, qty=1) == {"batchref": ref}
    api.refused("retire_product", "unknown-sku", NOT_FOUND, sku=unique("S"))
    api.refused("reinstate_product", "unknown-sku", NOT_FOUND, sku=unique("S"))


def test_returned_stock_is_inspected(server: Server) -> None:
    api = Api(server)
    ref = api.batch(5)
    orderid, waiting = api.order(5), api.order(3)
    line = {"orderid": orderid, "sku": api.sku}
    api.post("ship_line", **line)
    assert api.post("return_line", **line, qty=4, disposition="inspect") == {"moved": []}
    assert api.post("release_batch", ref=ref) == {"batchref": ref, "moved": [api.move(waiting, 3, None, ref)]}
    api.refused("return_line", "invalid-message", 400, **line, disposition="stock", scrapped=True)


def test_stock_on_no_known_day_is_promised_for_none(server: Server) -> None:
    api = Api(server)
    ref = api.batch(5, eta_unknown=True)
    orderid = api.order(5)
    assert server.get(f"/batches/{ref}")["eta"] is None
    api.refused("ship_line", "not-shippable", CONFLICT, orderid=orderid, sku=api.sku)
    both = {"ref": unique("b"), "sku": api.sku, "qty": 1, "eta": TOMORROW, "eta_unknown": True}
    api.refused("add_batch", "invalid-message", 400, **both)


def test_a_batch_is_put_in_quarantine_and_released(server: Server) -> None:
    api = Api(server)
    ref = api.batch(9)
    orderid = api.order(4)
    assert api.post("quarantine_batch", ref=ref, reason="a leaking roof") == {
        "batchref": ref,
        "moved": [api.move(orderid, 4, ref, None)],
    }
    assert api.post("release_batch", ref=ref) == {"batchref": ref, "moved": [api.move(orderid, 4, None, ref)]}
    api.refused("quarantine_batch", "unknown-batch", NOT_FOUND, ref=unique("b"), reason="x")
    api.refused("release_batch", "unknown-batch", NOT_FOUND, ref=unique("b"))


def test_days_pass(server: Server) -> None:
    api = Api(server)
    spoilt, overdue = api.batch(9, expires_on=PAST), api.batch(9, eta=PAST)
    first, waiting = api.order(9), api.order(4, need_by=PAST)
    assert api.post("expire_batch", ref=spoilt) == {"batchref": spoilt, "moved": []}
    [seen] = api.preview("mark_overdue", ref=overdue)["lines"]
    answer = api.post("mark_overdue", ref=overdue)
    assert (answer["batchref"], answer["moved"]) == (overdue, [])
    [promise] = answer["promises"]
    assert (promise["orderid"], promise["before"], promise["late_days"]) == (first, PAST, 0)
    assert promise["after"] >= TOMORROW
    assert (seen["orderid"], seen["before"], seen["after"]) == (first, PAST, promise["after"])
    late = {"orderid": waiting, "sku": api.sku, "qty": 4, "need_by": PAST}
    assert api.post("mark_late", **late)["late_days"] >= 1
    fresh = api.batch(1, expires_on=LATER)
    told = api.refused("expire_batch", "not-past", CONFLICT, ref=fresh)
    assert told == f"Batch {fresh} expires on {LATER} only"
    api.refused("mark_overdue", "not-past", CONFLICT, ref=fresh)
    api.refused("mark_late", "not-past", CONFLICT, **{**late, "orderid": first, "qty": 9})
    api.refused("mark_late", "unknown-line", NOT_FOUND, **{**late, "orderid": unique("o")})
    api.refused("pin_line", "not-pinnable", CONFLICT, orderid=first, sku=api.sku, batchref=spoilt, reason="x")


def test_a_line_is_edited_and_cancelled(server: Server) -> None:
    api = Api(server)
    ref = api.batch(9)
    orderid, waiting = api.order(8), api.order(4)
    line = {"orderid": orderid, "sku": api.sku}
    assert api.post("change_line_quantity", **line, qty=9) == {"batchref": ref, "moved": []}
    assert api.post("change_line_quantity", **line, qty=10) == {
        "batchref": None,
        "moved": [api.move(waiting, 4, None, ref)],
    }
    assert api.post("cancel_allocation", orderid=waiting, sku=api.sku) == {"moved": []}
    assert api.post("change_line_quantity", **line, qty=7) == {"batchref": ref, "moved": []}
    api.refused("change_line_quantity", "line-closed", CONFLICT, orderid=waiting, sku=api.sku, qty=1)
    api.refused("cancel_allocation", "unknown-line", NOT_FOUND, orderid=unique("o"), sku=api.sku)


def test_a_line_is_shipped_and_returned(server: Server) -> None:
    api = Api(server)
    ref = api.batch(5)
    orderid, waiting = api.order(5), api.order(3)
    line = {"orderid": orderid, "sku": api.sku}
    assert api.post("ship_line", **line) == {"batchref": ref}
    assert api.post("return_line", **line, qty=1, scrapped=True) == {"moved": []}
    assert api.post("return_line", **line, qty=3) == {"moved": [api.move(waiting, 3, None, ref)]}
    told = api.refused("return_line", "not-returnable", CONFLICT, **line, qty=2)
    assert told == f"2 of {api.sku} cannot be returned from order {orderid}: 1 are shipped"
    api.refused("ship_line", "not-shippable", CONFLICT, orderid=api.order(9), sku=api.sku)


def test_a_line_is_pinned(server: Server) -> None:
    api = Api(server)
    ref, other = api.batch(5), api.batch(4, eta=LATER)
    first, second = api.order(4), api.order(4)
    pin = {"orderid": second, "sku": api.sku, "batchref": ref, "reason": "the mayor waits"}
    assert api.post("pin_line", **pin) == {"batchref": ref, "moved": [api.move(first, 4, ref, other)]}
    api.refused("pin_line", "not-pinnable", CONFLICT, **{**pin, "orderid": first})


def test_a_cart_holds_stock(server: Server) -> None:
    api = Api(server)
    ref = api.batch(5)
    carts = [unique("cart") for _ in range(2)]
    hold = {"sku": api.sku, "qty": 2, "expires_at": IN_AN_HOUR}
    for holdid in carts:
        assert api.post("hold_stock", holdid=holdid, **hold) == {"batchref": ref}
    orderid, waiting = unique("o"), api.order(3)
    assert api.post("confirm_hold", holdid=carts[0], orderid=orderid) == {"batchref": ref}
    assert api.post("release_hold", holdid=carts[1]) == {"moved": [api.move(waiting, 3, None, ref)]}
    api.refused("hold_stock", "not-enough-stock", CONFLICT, holdid=unique("cart"), **hold)
    api.refused("confirm_hold", "hold-ended", CONFLICT, holdid=carts[1], orderid=unique("o"))
    api.refused("release_hold", "unknown-hold", NOT_FOUND, holdid=unique("cart"))
    api.refused(
        "hold_stock", "invalid-moment", 400, **{**hold, "holdid": unique("c"), "expires_at": "2020-01-01T00:00:00Z"}
    )
    far = {**hold, "holdid": unique("c"), "expires_at": "2999-01-01T00:00:00Z"}
    assert "more than 3,650 days away" in api.refused("hold_stock", "invalid-moment", 400, **far)
    assert server.post("/hold_stock", far).json()["title"] == "The moment is past, or too far away"


def test_a_hold_does_not_expire_before_its_moment(server: Server) -> None:
    api = Api(server)
    api.batch(5)
    holdid = unique("cart")
    api.post("hold_stock", holdid=holdid, sku=api.sku, qty=2, expires_at=IN_AN_HOUR)
    api.refused("expire_hold", "hold-still-runs", CONFLICT, holdid=holdid)


def test_a_product_gets_rules_of_its_own(server: Server) -> None:
    api = Api(server)
    ref = api.batch(5)
    assert api.post("change_rules", sku=api.sku, safety_stock=3) == {"sku": api.sku, "moved": []}
    orderid = api.order(3)
    assert api.post("change_rules", sku=api.sku) == {"sku": api.sku, "moved": [api.move(orderid, 3, None, ref)]}
    api.refused("change_rules", "unknown-sku", NOT_FOUND, sku=unique("S"))
    assert "one of warehouse-first" in server.post("/change_rules", {"sku": api.sku, "strategy": "x"}).json()["detail"]


def test_no_more_lines_wait_than_may(server: Server) -> None:
    api = Api(server)
    api.batch(1)
    api.post("change_rules", sku=api.sku, most_waiting=0)
    api.refused("allocate", "too-many-waiting", CONFLICT, orderid=unique("o"), sku=api.sku, qty=2)


def test_the_life_of_a_promise_on_the_command_line(sqlite_url: str) -> None:
    def answer(command: str) -> Any:
        done = run(*command.split(), "--json", database=sqlite_url)
        assert done.code == 0, done.errors
        return json.loads(done.output)["answer"]

    def refused(command: str) -> tuple[int, str]:
        done = run(*command.split(), database=sqlite_url)
        assert done.output == ""
        return done.code, done.errors.splitlines()[0].removeprefix("error: ")

    answer(f"add-batch --ref=b1 --sku=RUG --qty=9 --eta={TOMORROW} --location=OSLO --expires-on=2035-01-31")
    answer(f"allocate --orderid=o1 --sku=RUG --qty=4 --need_by={LATER} --priority=3")
    assert answer(f"change-batch-eta --ref=b1 --eta={LATER}")["promises"][0]["after"] == LATER
    assert answer("receive-batch --ref=b1 --qty=8")["batchref"] == "b1"
    assert answer("change-line-quantity --orderid=o1 --sku=RUG --qty=5") == {"batchref": "b1", "moved": []}
    assert answer("pin-line --orderid=o1 --sku=RUG --batchref=b1 --reason=x") == {"batchref": "b1", "moved": []}
    assert answer("quarantine-batch --ref=b1 --reason=wet --keep_lines=true") == {"batchref": "b1", "moved": []}
    assert refused("ship-line --orderid=o1 --sku=RUG")[0] == EXIT_CONFLICT
    assert answer("release-batch --ref=b1") == {"batchref": "b1", "moved": []}
    assert answer("ship-line --orderid=o1 --sku=RUG") == {"batchref": "b1"}
    assert answer("return-line --orderid=o1 --sku=RUG --qty=2 --scrapped") == {"moved": []}
    assert answer(f"hold-stock --holdid=h1 --sku=RUG --qty=1 --expires_at={IN_AN_HOUR}") == {"batchref": "b1"}
    assert answer("confirm-hold --holdid=h1 --orderid=o2") == {"batchref": "b1"}
    assert answer(f"hold-stock --holdid=h2 --sku=RUG --qty=1 --expires_at={IN_AN_HOUR}") == {"batchref": "b1"}
    assert refused("expire-hold --holdid=h2")[0] == EXIT_CONFLICT
    assert answer("release-hold --holdid=h2") == {"moved": []}
    assert answer("cancel-allocation --orderid=o2 --sku=RUG") == {"moved": []}
    assert answer("change-rules --sku=RUG --strategy=first-expired --safety-stock=1") == {"sku": "RUG", "moved": []}
    assert refused("cancel-allocation --orderid=o1 --sku=RUG") == (
        EXIT_CONFLICT,
        "The line of RUG in order o1 was shipped",
    )
    assert refused("confirm-hold --holdid=h9 --orderid=o9") == (EXIT_UNKNOWN, "Unknown hold h9")
    assert refused("change-rules --sku=RUG --strategy=random") == (EXIT_INVALID, 'strategy is "random"')
    assert refused("hold-stock --holdid=h3 --sku=RUG --qty=1 --expires_at=soon") == (
        EXIT_INVALID,
        'expires_at is "soon"',
    )


def test_stock_on_the_command_line_as_a_planner_types_it(sqlite_url: str) -> None:  # noqa: PLR0915 - a day, told whole
    def answer(*words: str) -> Any:
        seen = run(*words, "--preview", "--json", database=sqlite_url)
        done = run(*words, "--json", database=sqlite_url)
        assert (seen.code, done.code) == (0, 0), done.errors
        told = json.loads(done.output)["answer"]
        assert json.loads(seen.output)["answer"] == told
        return told

    def refused(*words: str) -> tuple[int, str]:
        done = run(*words, database=sqlite_url)
        return done.code, done.errors.splitlines()[0].removeprefix("error: ")

    unchanged = {"batchref": "b1", "moved": [], "promises": []}
    delivered = {"delivery": "PO-1", "moved": [], "promises": []}
    answer("add-batch", "b1", "RUG", "--qty", "20", "--eta", TOMORROW, "--delivery", "PO-1")
    assert answer("change-delivery-eta", "PO-1", "--eta", LATER) == delivered
    assert answer("receive-batch", "b1", "--qty", "10", "--rest-eta", TOMORROW) == unchanged
    assert answer("adjust-batch", "b1", "--by", "-2", "--reason", "damaged") == unchanged
    assert answer("adjust-batch", "b1", "--by=-1", "--reason=lost", "--note=again") == unchanged
    assert answer("count-batch", "b1", "--on-hand", "8", "--reason", "stocktaking") == unchanged
    assert answer("undo-receipt", "b1", "--qty", "3") == unchanged
    assert answer("correct-batch", "b1", "--location", "OSLO") == unchanged
    assert answer("transfer-stock", "b1", "--to-location", "ROME", "--qty", "1", "--keep-lines=false") == {
        **unchanged,
        "batchref": "b1@ROME",
    }
    assert answer("receive-batch", "b1", "--qty", "2", "--rest", "closed") == unchanged
    assert refused("receive-delivery", "PO-1") == (EXIT_CONFLICT, "Nothing of delivery PO-1 is due")
    assert answer("allocate", "o1", "RUG", "--qty", "2") == {"batchref": "b1"}
    assert answer("ship-line", "o1", "RUG") == {"batchref": "b1"}
    assert answer("return-line", "o1", "RUG", "--disposition", "inspect") == {"moved": []}
    assert answer("retire-product", "RUG") == {"sku": "RUG"}
    assert refused("allocate", "o2", "RUG", "--qty", "1") == (EXIT_CONFLICT, "Product RUG is retired")
    assert answer("reinstate-product", "RUG") == {"sku": "RUG"}
    answer("add-batch", "b2", "RUG", "--qty", "2", "--eta-unknown", "--delivery", "PO-1")
    assert answer("receive-delivery", "PO-1") == delivered
    assert refused("adjust-batch", "b2", "--by", "-9", "--reason", "lost")[0] == EXIT_CONFLICT
    assert refused("receive-batch", "b2", "b3") == (EXIT_INVALID, "Got unexpected extra argument(s) (b3)")

"""The refusal of an unknown SKU names the products that may be meant, through every way in."""

from __future__ import annotations

import json

from allocation.domain.events import BatchCreated
from tests.e2e.program import given, run
from tests.services import Server, unique

JSON_LINES = {"Content-Type": "application/x-ndjson"}
ALLOCATE = ("allocate", "--orderid=o1", "--qty=1")


def order(orderid: str, sku: str) -> dict[str, object]:
    return {"orderid": orderid, "sku": sku, "qty": 1}


def test_look_alikes_are_named_wherever_a_sku_is_unknown(server: Server) -> None:
    sku = unique("BED")
    lower = sku.lower()
    server.add_batch(unique("b"), sku, 9)
    told = f"Invalid sku {lower} (did you mean {sku}?)"
    cure = "Correct the SKU, or add a batch of it first."
    body = order(unique("o"), lower)
    line = json.dumps({"type": "AllocationRequired", **body}).encode() + b"\n"
    for answer in (
        server.post("/allocate", body).json(),
        server.post("/preview/allocate", body).json(),
        json.loads(server.client.post("/bulk", content=line, headers=JSON_LINES).text),
        server.client.post("/preview", content=line, headers=JSON_LINES).json()["answers"][0],
    ):
        assert (answer["status"], answer["message"], answer["detail"]) == (400, told, f"{told}. {cure}")
    unknown = f"Unknown sku {lower} (did you mean {sku}?)"
    assert server.post("/change_rules", {"sku": lower}).json()["message"] == unknown
    for path in (f"/products/{lower}", f"/availability/{lower}"):
        response = server.client.get(path)
        assert (response.status_code, response.json()["message"]) == (404, unknown)
    page = server.client.get(f"/console/products/{lower}")
    assert page.status_code == 404
    assert f"did you mean {sku}?" in page.text


def test_white_space_has_no_look_alikes(server: Server) -> None:
    for path in ("/products/%20", "/availability/%20", "/console/products/7", "/products/7"):
        assert server.client.get(path).status_code == 404


def test_the_command_line_names_look_alikes(sqlite_url: str) -> None:
    given(sqlite_url, BatchCreated("b1", "BED", 9))
    assert "Invalid sku bed (did you mean BED?)" in run(*ALLOCATE, "--sku=bed", database=sqlite_url).errors
    assert "Did you mean BED?" in run("show", "bed", database=sqlite_url).errors
    assert "No product, batch or order" in run("show", "sofa", database=sqlite_url).errors

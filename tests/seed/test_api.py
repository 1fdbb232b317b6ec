"""What the chapter expects of the API: a batch reference, or the reason why there is none."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.http.app import create_app


@pytest.fixture
def answer_to(sqlite_url: str) -> Any:
    """Posts to ``/allocate`` of a service that has three batches."""

    async def ask(line: dict[str, Any]) -> httpx.Response:
        service = bootstrap(Settings(database_url=sqlite_url))
        transport = httpx.ASGITransport(create_app(service))
        async with service, httpx.AsyncClient(transport=transport, base_url="http://allocation") as client:
            for batch in (
                {"ref": "later", "sku": "QUIET-KETTLE", "qty": 40, "eta": "2011-05-02"},
                {"ref": "earlier", "sku": "QUIET-KETTLE", "qty": 40, "eta": "2011-05-01"},
                {"ref": "of-another", "sku": "NOISY-KETTLE", "qty": 40, "eta": None},
            ):
                assert (await client.post("/add_batch", json=batch)).status_code == 201
            return await client.post("/allocate", json=line)

    return lambda line: asyncio.run(ask(line))


def test_an_allocation_is_answered_201_with_the_batch(answer_to: Any) -> None:
    response = answer_to({"orderid": "order-a", "sku": "QUIET-KETTLE", "qty": 3})
    assert response.status_code == 201
    assert response.json()["batchref"] == "earlier"


def test_an_unknown_sku_is_answered_400_with_the_message(answer_to: Any) -> None:
    response = answer_to({"orderid": "order-a", "sku": "NO-SUCH-KETTLE", "qty": 20})
    assert response.status_code == 400
    assert response.json()["message"] == "Invalid sku NO-SUCH-KETTLE"

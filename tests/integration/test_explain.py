"""What an explanation says where the past is too long to be replayed for it, and how far back its history goes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Connection, make_url

from allocation.adapters.reader import Reader
from allocation.domain.events import AllocationRequired, BatchCreated, BatchQuantityChanged
from allocation.views import explain as views
from allocation.views.explain import NOW, Explanation, explain
from tests.builders import right_now
from tests.e2e.program import given


def ask(database_url: str, orderid: str) -> Explanation:
    async def read() -> Explanation:
        reader = Reader(make_url(database_url))
        try:
            return await reader.run(_explain, orderid)
        finally:
            await reader.close()

    return asyncio.run(read())


def _explain(connection: Connection, orderid: str) -> Explanation:
    return explain(connection, orderid, "LAMP", right_now())


@pytest.fixture
def books(database_url: str) -> str:
    """Anna is moved off the first batch, which has room again afterwards."""
    given(
        database_url,
        BatchCreated("b1", "LAMP", 10),
        BatchCreated("b2", "LAMP", 10),
        AllocationRequired("ben", "LAMP", 5),
        AllocationRequired("anna", "LAMP", 5),
        BatchQuantityChanged("b1", 6),
        BatchQuantityChanged("b1", 20),
    )
    return database_url


def looked_at(found: Explanation) -> list[tuple[str, int, str | None, bool]]:
    return [(each.batchref, each.available_quantity, each.obstacle, each.chosen) for each in found.considered]


def test_a_line_is_explained_as_of_when_it_was_placed(books: str) -> None:
    found = ask(books, "anna")
    assert looked_at(found) == [("b1", 1, "no room", False), ("b2", 10, None, True)]
    assert [(each.orderid, each.qty, each.state) for each in found.considered[0].held_by] == [("ben", 5, "allocated")]
    assert found.decision is not None
    assert found.as_of == found.decision.id
    assert found.decision.first_cause.type == "BatchQuantityChanged"


def test_batches_that_were_expired_or_overdue_are_called_so(database_url: str) -> None:
    past = right_now().day - timedelta(days=3)
    given(
        database_url,
        BatchCreated("spoilt", "LAMP", 10, expires_on=past),
        BatchCreated("overdue", "LAMP", 10, past),
        AllocationRequired("anna", "LAMP", 5),
    )
    found = ask(database_url, "anna")
    assert looked_at(found) == [("spoilt", 0, "expired", False), ("overdue", 10, None, True)]
    assert [each.overdue for each in found.considered] == [False, True]


def test_with_too_long_a_past_it_is_explained_as_of_now(books: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_REPLAYED", 5)
    found = ask(books, "anna")
    assert found.as_of == NOW
    assert looked_at(found) == [("b1", 15, None, False), ("b2", 10, None, True)]
    assert ask(books, "ben").as_of != NOW


def test_the_history_has_the_latest_entries_and_says_that_there_were_more(
    books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(books, "anna")
    assert not whole.more_history
    monkeypatch.setattr(views, "MAX_HISTORY", 2)
    found = ask(books, "anna")
    assert (found.history, found.more_history) == (whole.history[-2:], True)


def test_batches_are_listed_up_to_a_limit_with_the_one_taken(books: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_CONSIDERED", 1)
    found = ask(books, "anna")
    assert ([each.batchref for each in found.considered], found.more_considered) == (["b1", "b2"], True)

"""Our own stores pass what every store has to pass."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy.engine import URL, make_url

from allocation.adapters.memory import MemoryStore
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.service_layer.writing.store import DeliveryRow, Store
from allocation.testing import StoreCompliance
from tests.builders import Contents, contents


class TestMemory(StoreCompliance):
    async def new_store(self) -> Store:
        return MemoryStore()

    async def ledger(self, store: Store) -> Sequence[tuple[str, int]]:
        assert isinstance(store, MemoryStore)
        return _ledger(await contents(store.tables))

    async def deliveries(self, store: Store) -> Sequence[DeliveryRow]:
        assert isinstance(store, MemoryStore)
        return _deliveries(await contents(store.tables))


class _InDatabase(StoreCompliance):
    url: URL

    async def ledger(self, store: Store) -> Sequence[tuple[str, int]]:
        return _ledger(await contents(self.url))

    async def deliveries(self, store: Store) -> Sequence[DeliveryRow]:
        return _deliveries(await contents(self.url))


class TestSqlite(_InDatabase):
    @pytest.fixture(autouse=True)
    def _empty(self, sqlite_url: str) -> None:
        self.url = make_url(sqlite_url)

    async def new_store(self) -> Store:
        return SqliteStore(self.url)


class TestPostgres(_InDatabase):
    @pytest.fixture(autouse=True)
    def _empty(self, postgres_url: str) -> None:
        self.url = make_url(postgres_url)

    async def new_store(self) -> Store:
        return PostgresStore(self.url)


def _ledger(kept: Contents) -> list[tuple[str, int]]:
    return [row[:2] for row in kept.ledger]


def _deliveries(kept: Contents) -> list[DeliveryRow]:
    return [DeliveryRow(*row) for row in kept.deliveries]

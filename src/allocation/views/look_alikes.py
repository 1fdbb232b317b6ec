"""Products that an unknown SKU may mean."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, text

from allocation.domain.errors import UnknownSku
from allocation.domain.look_alikes import spellings


def look_alikes(connection: Connection, sku: str) -> Sequence[str]:
    """The products whose SKU is another spelling of this one."""
    others = spellings(sku)
    known = set(connection.execute(_KNOWN, {"skus": others}).scalars()) if others else set()
    return [each for each in others if each in known]


def unknown_sku(connection: Connection, sku: str) -> UnknownSku:
    """The refusal of a SKU that no batch was ever bought of."""
    return UnknownSku(sku, look_alikes(connection, sku))


_KNOWN = text("SELECT sku FROM products WHERE sku IN :skus").bindparams(bindparam("skus", expanding=True))

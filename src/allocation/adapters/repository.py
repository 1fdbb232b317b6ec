"""The repository, at the place where readers of the book look for it.

`AbstractRepository` is declared in `allocation.service_layer.unit_of_work`: the service layer needs it, and must not
import an adapter. The service itself works on `allocation.service_layer.writing.products.StoredProducts`, which loads
products through a `Store`. A test writes its own on plain objects: `_add`, `_get` and `_get_by_batchref` are enough.
"""

from allocation.service_layer.unit_of_work import AbstractRepository

__all__ = ["AbstractRepository"]

"""Names the products that an unknown SKU may mean, in its refusal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar, cast

import structlog

from allocation.domain.errors import InvalidSku, UnknownSku
from allocation.domain.look_alikes import spellings
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.store import Loaded, Session, Store, Wanted

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Outcome | Exception)


async def named_by_store(outcomes: Sequence[T], store: Store) -> Sequence[T]:
    """The outcomes, with look-alikes in the refusals of unknown SKUs. Only such a refusal costs a look-up."""
    wanted = _wanted(outcomes)
    if not wanted:
        return outcomes
    try:
        return _all_named(outcomes, await store.read(wanted))
    except Exception as error:  # noqa: BLE001 - any error: they are refused without
        log.info("look-alikes were not looked up", reason=repr(error))
        return outcomes


def named_by_session(outcomes: Sequence[T], session: Session) -> Sequence[T]:
    """The same within a transaction."""
    wanted = _wanted(outcomes)
    return _all_named(outcomes, session.load(wanted)) if wanted else outcomes


def _wanted(outcomes: Sequence[T]) -> Wanted:
    unknown = {outcome.sku for outcome in outcomes if isinstance(outcome, (InvalidSku, UnknownSku))}
    return Wanted(skus={spelling for sku in unknown for spelling in spellings(sku)})


def _all_named(outcomes: Sequence[T], loaded: Loaded) -> Sequence[T]:
    known = {product.sku for product in loaded.products}
    return [_named(outcome, known) for outcome in outcomes]


def _named(outcome: T, known: Collection[str]) -> T:
    if not isinstance(outcome, (InvalidSku, UnknownSku)):
        return outcome
    look_alikes = [each for each in spellings(outcome.sku) if each in known]
    return cast("T", type(outcome)(outcome.sku, look_alikes))

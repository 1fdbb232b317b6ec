"""The read models: plain functions of a read-only connection, run with `Reader.run`.

Each reads one page by an index, never a whole table. ``next_…`` in a result is the value of the parameter of that name
for the next page; null on the last one.
"""

from allocation.service_layer.writing.store import as_moment
from allocation.views.ledger import MAX_STEP, Events, RecordedEvent, event, events, opening
from allocation.views.letters import DeadLetter, DeadLetterDetail, DeadLetters, dead_letter, dead_letters
from allocation.views.lines import (
    Lateness,
    Line,
    PromisedLine,
    allocations,
    expired_holds,
    lateness,
    told_priority,
    with_parts,
)
from allocation.views.paging import DEFAULT_PAGE, MAX_COUNTED, MAX_PAGE, MAX_POSITION
from allocation.views.shortage import shortage, shortages
from allocation.views.stock import (
    BatchDetail,
    ProductDetail,
    Products,
    ProductSummary,
    StockedBatch,
    batch,
    is_ready,
    product,
    products,
    unusual,
)

__all__ = [
    "DEFAULT_PAGE",
    "MAX_COUNTED",
    "MAX_PAGE",
    "MAX_POSITION",
    "MAX_STEP",
    "BatchDetail",
    "DeadLetter",
    "DeadLetterDetail",
    "DeadLetters",
    "Events",
    "Lateness",
    "Line",
    "ProductDetail",
    "ProductSummary",
    "Products",
    "PromisedLine",
    "RecordedEvent",
    "StockedBatch",
    "allocations",
    "as_moment",
    "batch",
    "dead_letter",
    "dead_letters",
    "event",
    "events",
    "expired_holds",
    "is_ready",
    "lateness",
    "opening",
    "product",
    "products",
    "shortage",
    "shortages",
    "told_priority",
    "unusual",
    "with_parts",
]

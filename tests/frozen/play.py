"""What is played into a database before it is frozen: every kind of message, and what each sets off.

A later release appends its new kinds of messages; what is here stays, so that releases can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

LONGEST = "x" * 255


class Request(NamedTuple):
    """A message as a sender writes it over HTTP."""

    path: str
    body: dict[str, Any]


class Damage(NamedTuple):
    """What no message did: a counter that has to be repaired."""

    statement: str


def _request(path: str, **body: Any) -> Request:
    return Request(path, body)


PLAY: Sequence[Request | Damage] = (
    _request("/add_batch", ref="settee-1", sku="SETTEE", qty=10),
    _request("/add_batch", ref="settee-2", sku="SETTEE", qty=8, eta="2026-03-01"),
    _request("/add_batch", ref="settee-3", sku="SETTEE", qty=5, eta=None),
    _request("/allocate", orderid="o1", sku="SETTEE", qty=4),
    _request("/allocate", orderid="o2", sku="SETTEE", qty=5),
    _request("/allocate", orderid="o3", sku="SETTEE", qty=5),
    _request("/allocate", orderid="o4", sku="SETTEE", qty=6),
    _request("/allocate", orderid="o5", sku="SETTEE", qty=3),  # waits
    _request("/allocate", orderid="o1", sku="SETTEE", qty=4),  # known already, under another key
    _request("/change_batch_quantity", ref="settee-1", qty=4),  # a cut: a line has to wait
    _request("/change_batch_quantity", ref="settee-3", qty=0),
    _request("/change_batch_quantity", ref="settee-2", qty=12),  # a raise: waiting lines are served
    _request("/add_batch", ref="settee-4", sku="SETTEE", qty=7, eta="2027-12-31"),
    _request("/add_batch", ref="settee-5", sku="SETTEE", qty=9),
    _request("/change_batch_quantity", ref="settee-2", qty=6),  # a cut: a line moves to another batch
    _request("/add_batch", ref="fork-1", sku="RELIABLE-FORK", qty=3, eta="2026-02-01"),
    _request("/allocate", orderid="o1", sku="RELIABLE-FORK", qty=3),
    _request("/allocate", orderid="o2", sku="RELIABLE-FORK", qty=1_000_000_000),  # waits
    _request("/allocate", orderid="o3", sku="RELIABLE-FORK", qty=2),  # waits
    _request("/change_batch_quantity", ref="fork-1", qty=2),  # the newest goes, another comes in
    _request("/add_batch", ref='b "6" \\ ß 椅子 🪑', sku="Stuhl 'ß'", qty=1_000_000_000),
    _request("/allocate", orderid="o/1?#%", sku="Stuhl 'ß'", qty=999_999_999),
    _request("/add_batch", ref=LONGEST, sku=LONGEST, qty=1),
    _request("/allocate", orderid=LONGEST, sku=LONGEST, qty=1),
    Damage("UPDATE batches SET allocated_quantity = allocated_quantity - 1 WHERE ref = 'settee-1'"),
    Damage("UPDATE products SET waiting_lines = waiting_lines + 2 WHERE sku = 'SETTEE'"),
    _request("/repair_counters", sku="SETTEE"),
    _request("/repair_counters", sku="RELIABLE-FORK"),  # nothing to repair
    _request("/change_batch_quantity", ref="settee-2", qty=12),  # nothing changes
    _request("/allocate", orderid="o6", sku="SETTEE", qty=2),
)

"""``allocation show``: the product, order or batch with a name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
import typer
from rich.table import Table

from allocation import views
from allocation.config import Settings
from allocation.domain.lines import ALLOCATED, WAITING
from allocation.domain.rules import QUARANTINED
from allocation.entrypoints.cli.exits import DONE, UNKNOWN, complain
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import read, today_of
from allocation.views.look_alikes import look_alikes
from allocation.views.named import Found, find

Columns = Mapping[str, Sequence[object]]  # by title

# The figures of stock by the words for people: the usual ones, and those of few batches.
USUAL: Mapping[str, str] = {
    "purchased": "purchased_quantity",
    "on hand": "on_hand_quantity",
    "incoming": "incoming_quantity",
    "promised": "allocated_quantity",
    "available": "available_quantity",
}
UNUSUAL: Mapping[str, str] = {
    "blocked": "blocked_quantity",
    "overdue": "overdue_quantity",
    "shipped": "shipped_quantity",
}
MORE = "There are more lines: allocation export prints all of them."


def show(settings: Settings, name: str, *, as_json: bool) -> int:
    """Print everything with the name; return the exit code."""
    found = asyncio.run(read(settings, find, name, today_of(settings)))
    if found == Found():
        meant = " or ".join(asyncio.run(read(settings, look_alikes, name)))
        complain(f"{name}: unknown", f"Did you mean {meant}?" if meant else "No product, batch or order has this name.")
        return UNKNOWN
    print_found(name, found, as_json=as_json)
    return DONE


def print_found(name: str, found: Found, *, as_json: bool) -> None:
    """Print everything with the name, as JSON or as tables."""
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        console().print(*tables(name, found), sep="\n")


def tables(name: str, found: Found) -> list[Table]:
    """Tables of everything with the name."""
    made: list[Table] = []
    if found.product is not None:
        made += _product_tables(found.product)
    if found.batch is not None:
        made += _batch_tables(found.batch)
    if found.order:
        made.append(_order_table(name, found.order))
    return made


def _product_tables(product: views.ProductDetail) -> list[Table]:
    caption = MORE if product.next_batches_after is not None else ""
    about = ["retired: it takes no new order lines"] if product.retired else []
    about += [f"rules: {_as_rules(product.rules)}"] if product.rules else []
    about += [f"held: {product.held_quantity:,}"] if product.held_quantity else []
    about += [f"late lines: {product.late_lines:,}"] if product.late_lines else []
    tables = [_batch_table(f"Product {product.sku}", product.batches, "; ".join([*about, *filter(None, [caption])]))]
    if len(product.batches) > 1:
        tables.append(_stock_table(product))
    if product.waiting:
        caption = MORE if product.next_waiting_after is not None else ""
        tables.append(_line_table(f"Waiting for {product.sku}: {product.waiting_lines:,}", product.waiting, caption))
    return tables


def _stock_table(product: views.ProductDetail) -> Table:
    """The figures of all batches in sum."""
    usual, unusual = ({word: [getattr(product, field)] for word, field in words.items()} for words in (USUAL, UNUSUAL))
    return _table_of("All batches", usual, unusual, "")


def _as_rules(rules: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in rules.items())


def _batch_tables(batch: views.BatchDetail) -> list[Table]:
    tables = [_batch_table(f"Batch {batch.batchref} of {batch.sku}", [batch])]
    if batch.lines:
        caption = MORE if batch.next_before is not None else ""
        tables.append(_line_table("Its lines, newest first", batch.lines, caption))
    return tables


def _batch_table(title: str, batches: Sequence[views.StockedBatch], caption: str = "") -> Table:
    columns: Columns = {
        "batch": [batch.batchref for batch in batches],
        "due": [due(batch.eta, unknown=batch.eta_unknown) for batch in batches],
        **{label: [getattr(batch, field) for batch in batches] for label, field in USUAL.items()},
    }
    unusual: Columns = {
        **{label: [getattr(batch, field) for batch in batches] for label, field in UNUSUAL.items()},
        "location": [batch.location for batch in batches],
        "expires": [batch.expires_on for batch in batches],
        "note": [noted(batch.marks, batch.quarantine) for batch in batches],
    }
    return _table_of(title, columns, unusual, caption)


def due(eta: date | None, *, unknown: bool) -> object:
    """The day that stock is due, or where it is."""
    return eta or ("no day known" if unknown else "in the warehouse")


def noted(marks: Sequence[str], quarantine: str | None) -> str | None:
    """The marks of a batch; that of a quarantine with its reason."""
    reason = f" ({quarantine})" if quarantine else ""
    return ", ".join(f"{mark}{reason}" if mark == QUARANTINED else mark for mark in marks) or None


def _line_table(title: str, lines: Sequence[views.Line], caption: str) -> Table:
    columns: Columns = {"order": [line.orderid for line in lines], "quantity": [line.qty for line in lines]}
    return _table_of(title, columns, _unusual_of(lines), caption)


def _order_table(orderid: str, lines: list[views.PromisedLine]) -> Table:
    columns: Columns = {
        "sku": [line.sku for line in lines],
        "quantity": [line.qty for line in lines],
        "batch": [line.batchref or ("waits" if line.state == WAITING else None) for line in lines],
    }
    unusual: Columns = {
        "part": [line.orderid for line in lines],
        "part of": [line.part_of if line.part_of != orderid else None for line in lines],
        "due": [line.promised or ("no day known" if line.eta_unknown else None) for line in lines],
        **_unusual_of(lines),
    }
    return _table_of(f"Order {orderid}", columns, unusual, MORE if len(lines) == views.MAX_PAGE else "")


def _unusual_of(lines: Sequence[views.Line | views.PromisedLine]) -> Columns:
    return {
        "state": [line.state if line.state not in {ALLOCATED, WAITING} else None for line in lines],
        "needed by": [line.need_by for line in lines],
        "late": [lateness(line.late_days) if line.late else None for line in lines],
        "priority": [line.priority for line in lines],
        "held until": [line.expires_at for line in lines],
    }


def lateness(days: int) -> str:
    """How late a line is, as far as is known."""
    return f"{days:,} day{'' if days == 1 else 's'}" if days else "yes"


def _table_of(title: str, columns: Columns, unusual: Columns, caption: str) -> Table:
    """A table of columns. An unusual column is shown only if any row has a value for it."""
    shown = {**columns, **{name: values for name, values in unusual.items() if any(values)}}
    return table(title, tuple(shown), list(zip(*shown.values(), strict=True)), caption)

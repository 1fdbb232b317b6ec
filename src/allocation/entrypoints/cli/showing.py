"""``allocation show``: a product, an order or a batch, whatever the name names."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import typer
from rich.table import Table
from sqlalchemy import Connection

from allocation import views
from allocation.config import Settings
from allocation.domain.errors import UnknownBatch, UnknownOrder, UnknownSku
from allocation.entrypoints.cli.exits import DONE, complain, log_to_stderr
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import read
from allocation.entrypoints.refusals import EXIT_UNKNOWN

MORE = "There are more: allocation export has them all."


class Found(msgspec.Struct, omit_defaults=True):
    """What has the name; None or no lines: nothing of that kind has it."""

    product: views.ProductDetail | None = None
    batch: views.BatchDetail | None = None
    order: list[views.PromisedLine] = []


def show(settings: Settings, name: str, *, as_json: bool) -> int:
    """Print what the name names; return the exit code."""
    log_to_stderr()
    found = asyncio.run(read(settings, find, name))
    if found == Found():
        complain(f"{name}: unknown", "It is the name of no product, no batch and no order.")
        return EXIT_UNKNOWN
    print_found(name, found, as_json=as_json)
    return DONE


def print_found(name: str, found: Found, *, as_json: bool) -> None:
    """Print what the name names, for a machine or as tables."""
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        console().print(*tables(name, found), sep="\n")


def find(connection: Connection, name: str) -> Found:
    """Everything that has the name."""
    found = Found()
    with suppress(UnknownSku):
        found.product = views.product(connection, name)
    with suppress(UnknownBatch):
        found.batch = views.batch(connection, name)
    with suppress(UnknownOrder):
        found.order = views.allocations(connection, name, limit=views.MAX_PAGE)
    return found


def tables(name: str, found: Found) -> list[Table]:
    """What was found under the name, as people read it."""
    made: list[Table] = []
    if found.product is not None:
        made += _product_tables(found.product)
    if found.batch is not None:
        made += _batch_tables(found.batch)
    if found.order:
        made.append(_order_table(name, found.order))
    return made


def _product_tables(product: views.ProductDetail) -> list[Table]:
    columns = ("batch", "due", "purchased", "allocated", "available")
    caption = MORE if product.next_batches_after is not None else ""
    tables = [table(f"Product {product.sku}", columns, map(_stock, product.batches), caption)]
    if product.waiting:
        caption = MORE if product.next_waiting_after is not None else ""
        waiting = [(line.orderid, line.qty) for line in product.waiting]
        tables.append(
            table(f"Waiting for {product.sku}: {product.waiting_lines:,}", ("order", "quantity"), waiting, caption)
        )
    return tables


def _batch_tables(batch: views.BatchDetail) -> list[Table]:
    columns = ("batch", "due", "purchased", "allocated", "available")
    tables = [table(f"Batch {batch.batchref} of {batch.sku}", columns, [_stock(batch)])]
    if batch.lines:
        caption = MORE if batch.next_before is not None else ""
        lines = [(line.orderid, line.qty) for line in batch.lines]
        tables.append(table("Its lines, newest first", ("order", "quantity"), lines, caption))
    return tables


def _stock(batch: views.StockedBatch) -> tuple[object, ...]:
    due = batch.eta or "in the warehouse"
    return batch.batchref, due, batch.purchased_quantity, batch.allocated_quantity, batch.available_quantity


def _order_table(orderid: str, lines: list[views.PromisedLine]) -> Table:
    rows = [(line.sku, line.qty, line.batchref or "waits") for line in lines]
    return table(f"Order {orderid}", ("sku", "quantity", "batch"), rows, MORE if len(lines) == views.MAX_PAGE else "")

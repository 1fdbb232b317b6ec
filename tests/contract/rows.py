"""Rows with what a test does not care about filled in."""

from __future__ import annotations

from allocation.service_layer.store import BatchRow, DeliveryRow, LineRow, MessageRow, ProductRow, ProductVersion

SKU = "ADORABLE-SETTEE"


def product(sku: str = SKU, version: int = 1, waiting: int = 0) -> ProductRow:
    return ProductRow(sku, version, waiting)


def changed(sku: str = SKU, version: int = 2, waiting: int = 0, loaded: int = 1) -> ProductVersion:
    return ProductVersion(sku, version, waiting, loaded)


def batch(ref: str = "b1", sku: str = SKU, purchased: int = 10, allocated: int = 0, position: int = 1) -> BatchRow:
    return BatchRow(ref, sku, None, purchased, allocated, position, purchased, None)


def line(orderid: str, batchref: str | None = "b1", qty: int = 1, position: int = 2, sku: str = SKU) -> LineRow:
    return LineRow(orderid, sku, qty, batchref, position)


def ledger(id_: str, step: int = 0, sku: str = SKU) -> MessageRow:
    result = None if step else '"b1"'
    return MessageRow(
        id_, step, step - 1 if step else None, "OutOfStock", sku, None, f'{{"sku":"{sku}"}}', None, result, "test"
    )


def delivery(id_: str, step: int = 0, sku: str = SKU) -> DeliveryRow:
    return DeliveryRow(id_, step, "send_out_of_stock_notification", sku, "OutOfStock", f'{{"sku":"{sku}"}}')

"""Imperative mapping, so that the model knows nothing of the database."""

from sqlalchemy import Column, Date, Engine, ForeignKey, Integer, String, Table, create_engine, event
from sqlalchemy.orm import registry, relationship

from bench.rivals.textbook.model import Batch, OrderLine, Product

mapper = registry()

products = Table(
    "products",
    mapper.metadata,
    Column("sku", String(255), primary_key=True),
    Column("version_number", Integer, nullable=False, server_default="0"),
)
batches = Table(
    "batches",
    mapper.metadata,
    Column("id", Integer, primary_key=True),
    Column("reference", String(255), unique=True),
    Column("sku", ForeignKey("products.sku"), index=True),
    Column("purchased_quantity", Integer, nullable=False),
    Column("eta", Date),
)
order_lines = Table(
    "order_lines",
    mapper.metadata,
    Column("id", Integer, primary_key=True),
    Column("sku", String(255)),
    Column("qty", Integer, nullable=False),
    Column("orderid", String(255)),
)
allocations = Table(
    "allocations",
    mapper.metadata,
    Column("orderline_id", ForeignKey("order_lines.id"), primary_key=True),
    Column("batch_id", ForeignKey("batches.id"), primary_key=True, index=True),
)


def connect(url: str, pool_size: int) -> Engine:
    """REPEATABLE READ turns a lost update of `version_number` into an error."""
    driver_url = url.replace("postgresql://", "postgresql+psycopg://")
    return create_engine(driver_url, isolation_level="REPEATABLE READ", pool_size=pool_size)


def start_mappers() -> None:
    lines = mapper.map_imperatively(OrderLine, order_lines)
    stock = mapper.map_imperatively(
        Batch,
        batches,
        properties={"lines": relationship(lines, secondary=allocations, collection_class=set, lazy="selectin")},
    )
    mapper.map_imperatively(Product, products, properties={"batches": relationship(stock, lazy="selectin")})
    event.listen(Product, "load", _start_without_events)


def _start_without_events(product: Product, _context: object) -> None:
    product.events = []

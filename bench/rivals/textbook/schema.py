"""The textbook's tables, its stock, and what must balance in them."""

from bench.books import Books
from bench.plan import BATCHES_PER_SKU, ROOM_PER_BATCH, SKUS
from bench.rivals.textbook import orm
from bench.stores import Database

BOOKS = Books(
    totals="""
        SELECT count(*), coalesce(sum(qty), 0)
        FROM allocations JOIN order_lines ON order_lines.id = orderline_id
    """,
    wrong_batches="""
        SELECT count(*) FROM batches JOIN (
            SELECT batch_id, sum(qty) AS held
            FROM allocations JOIN order_lines ON order_lines.id = orderline_id GROUP BY batch_id
        ) AS lines ON batch_id = batches.id
        WHERE held > purchased_quantity
    """,
)

_STOCK = f"""
    INSERT INTO products (sku) SELECT 'SKU-' || item FROM generate_series(1, {SKUS}) AS item;
    INSERT INTO batches (reference, sku, eta, purchased_quantity)
    SELECT 'batch-' || item || '-' || number, 'SKU-' || item,
           CASE WHEN number > 1 THEN date '2030-01-01' + number END, {ROOM_PER_BATCH}
    FROM generate_series(1, {SKUS}) AS item, generate_series(1, {BATCHES_PER_SKU}) AS number;
"""


def fill(database: Database) -> None:
    create_tables(database)
    database.execute(_STOCK)


def fill_for_cut(database: Database, lines: int) -> None:
    """All lines of `CUT` are on the batch `full`; the batch `spare` has room for all of them."""
    create_tables(database)
    database.execute(f"""
        INSERT INTO products (sku) VALUES ('CUT');
        INSERT INTO batches (id, reference, sku, eta, purchased_quantity)
            VALUES (1, 'full', 'CUT', NULL, {lines}), (2, 'spare', 'CUT', '2030-01-01', {lines});
        INSERT INTO order_lines (sku, qty, orderid)
            SELECT 'CUT', 1, 'order-' || number FROM generate_series(1, {lines}) AS number;
        INSERT INTO allocations (orderline_id, batch_id) SELECT id, 1 FROM order_lines;
    """)


def create_tables(database: Database) -> None:
    engine = orm.connect(database.url, pool_size=1)
    orm.mapper.metadata.create_all(engine)
    engine.dispose()

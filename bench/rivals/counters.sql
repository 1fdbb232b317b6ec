-- Rows that are updated often get room on their page, so that no index has to follow.

CREATE TABLE products (
    sku text PRIMARY KEY
) WITH (fillfactor = 70);
CREATE TABLE batches (
    ref text PRIMARY KEY,
    sku text NOT NULL REFERENCES products,
    eta date,
    purchased_quantity integer NOT NULL,
    allocated_quantity integer NOT NULL DEFAULT 0,
    CHECK (allocated_quantity BETWEEN 0 AND purchased_quantity)
) WITH (fillfactor = 70);
CREATE INDEX ON batches (sku);
CREATE TABLE allocations (
    orderid text,
    sku text,
    qty integer NOT NULL,
    batchref text NOT NULL,
    PRIMARY KEY (orderid, sku)
);

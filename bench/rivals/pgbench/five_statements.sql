\set item random(1, :skus)
\set number :number + 1
BEGIN;
SELECT sku FROM products WHERE sku = 'SKU-' || :item::text FOR UPDATE;
SELECT ref FROM batches WHERE sku = 'SKU-' || :item::text AND purchased_quantity - allocated_quantity >= 1 ORDER BY eta NULLS FIRST LIMIT 1 \gset
UPDATE batches SET allocated_quantity = allocated_quantity + 1 WHERE ref = :ref;
INSERT INTO allocations (orderid, sku, qty, batchref) VALUES (:run::text || '-' || :client_id::text || '-' || :number::text, 'SKU-' || :item::text, 1, :ref);
COMMIT;

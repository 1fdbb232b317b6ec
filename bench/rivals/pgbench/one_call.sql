\set item random(1, :skus)
\set number :number + 1
SELECT allocate(:run::text || '-' || :client_id::text || '-' || :number::text, 'SKU-' || :item::text, 1);

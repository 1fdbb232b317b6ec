CREATE FUNCTION allocate(the_orderid text, the_sku text, the_qty integer) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    the_ref text;
BEGIN
    PERFORM FROM products WHERE sku = the_sku FOR UPDATE;
    SELECT ref INTO STRICT the_ref FROM batches
        WHERE sku = the_sku AND purchased_quantity - allocated_quantity >= the_qty
        ORDER BY eta NULLS FIRST LIMIT 1;
    UPDATE batches SET allocated_quantity = allocated_quantity + the_qty WHERE ref = the_ref;
    INSERT INTO allocations (orderid, sku, qty, batchref)
        VALUES (the_orderid, the_sku, the_qty, the_ref);
    RETURN the_ref;
END
$$;

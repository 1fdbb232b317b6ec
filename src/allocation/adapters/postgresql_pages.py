"""The statements of PostgreSQL that read a page of lines: the newest lines of a batch, backorders, and late lines."""

from __future__ import annotations

from allocation.domain.fields import MAX_PRIORITY
from allocation.service_layer.writing.store import PAGE_SIZE, LineRow

LINE_COLUMNS = ", ".join(LineRow._fields)

# The lines of the usual priority are found by an index of all lines, the few others by one of their own.
NEWEST_LINES = (
    f"SELECT {LINE_COLUMNS} FROM order_lines WHERE batchref = $2 AND sku = $1 AND position < $3"
    f" AND closed IS NULL AND priority = 0 ORDER BY position DESC LIMIT {PAGE_SIZE}"
)
NEWEST_LINES_OF = (
    f"SELECT {LINE_COLUMNS} FROM order_lines WHERE batchref = $2 AND sku = $1 AND position < $3"
    f" AND closed IS NULL AND priority <> 0 AND priority = $4 ORDER BY position DESC LIMIT {PAGE_SIZE}"
)
# A line fits: the largest quantity, the last day, and every quantity with its day.
FITS = (
    "qty <= ${qty} AND (need_by IS NULL OR need_by <= ${day}) AND EXISTS (SELECT"
    " FROM unnest(${qtys}::text::bigint[], ${days}::text::date[]) AS fit (qty, day)"
    " WHERE order_lines.qty <= fit.qty AND (need_by IS NULL OR need_by <= fit.day) OFFSET 0)"
)
TO_SPLIT = "part IS NOT NULL AND rest IS NULL AND (need_by IS NULL OR need_by <= ${day})"
WAITING = "sku = $1 AND batchref IS NULL AND closed IS NULL"
# The days that lines are needed by are looked at one by one, since there may be any number of lines of one.
ANY_WAITING = f"""
    WITH RECURSIVE days (day) AS (
        (SELECT need_by FROM order_lines WHERE {WAITING} AND need_by <= $3 ORDER BY need_by LIMIT 1)
        UNION ALL SELECT later.need_by FROM days CROSS JOIN LATERAL (
            SELECT need_by FROM order_lines WHERE {WAITING} AND need_by > days.day AND need_by <= $3
            ORDER BY need_by LIMIT 1
        ) AS later
    ) SELECT EXISTS (
        SELECT FROM order_lines WHERE {WAITING} AND need_by IS NULL AND qty <= $2
    ) OR EXISTS (
        SELECT FROM days CROSS JOIN unnest($4::text::bigint[], $5::text::date[]) AS fit (qty, day) CROSS JOIN LATERAL (
            SELECT FROM order_lines WHERE {WAITING} AND need_by = days.day AND order_lines.qty <= fit.qty LIMIT 1
        ) AS found WHERE days.day <= fit.day
    ) OR EXISTS (
        SELECT FROM order_lines WHERE {WAITING} AND {TO_SPLIT.format(day=3)}
    )
"""
# Also lines that are too large and may be split.
WAITING_LINES = (
    f"SELECT * FROM ((SELECT {LINE_COLUMNS} FROM order_lines WHERE {WAITING} AND position > $2 AND priority = 0"
    f" AND {FITS.format(qty=3, day=4, qtys=5, days=6)} ORDER BY position LIMIT {PAGE_SIZE})"
    f" UNION ALL (SELECT {LINE_COLUMNS} FROM order_lines WHERE {WAITING} AND {TO_SPLIT.format(day=4)}"
    f" AND position > $2 AND priority = 0 AND NOT ({FITS.format(qty=3, day=4, qtys=5, days=6)})"
    f" ORDER BY position LIMIT {PAGE_SIZE})) AS found ORDER BY position LIMIT {PAGE_SIZE}"
)
WAITING_LINES_OF = (
    f"SELECT {LINE_COLUMNS} FROM order_lines WHERE {WAITING} AND position > $2"
    f" AND (({FITS.format(qty=3, day=4, qtys=5, days=6)}) OR ({TO_SPLIT.format(day=4)}))"
    f" AND priority <> 0 AND priority = $7 ORDER BY position LIMIT {PAGE_SIZE}"
)
LATE_LINES = f"""
    SELECT {", ".join(f"line.{column}" for column in LineRow._fields)}
    FROM order_lines AS line JOIN batches ON batches.ref = line.batchref
    WHERE line.sku = $1 AND closed IS NULL AND need_by IS NOT NULL AND need_by >= $4
    AND priority BETWEEN 0 AND {MAX_PRIORITY}
    AND (batches.eta > need_by OR (batches.eta < $2 AND $3 > need_by) OR batches.ref = ANY($5::text::text[]))
    AND NOT (arrived_quantity IS NOT NULL AND coalesce(arrived, false))
    AND EXISTS (SELECT FROM unnest($8::text::bigint[], $9::text::date[]) AS fit (qty, day)
        WHERE line.qty <= fit.qty AND need_by >= fit.day OFFSET 0)
    AND (-priority, line.position) > ($6, $7)
    ORDER BY -priority, line.position LIMIT {PAGE_SIZE}
"""

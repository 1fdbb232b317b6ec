"""What the console's pages read: plain functions of a read-only connection, run with `Reader.run`.

Each reads one page by an index, or so many rows at most. Only `totals` reads whole tables; its callers keep the result.
"""

"""The queries of the console's pages: plain functions of a read-only connection, run with `Reader.run`.

Each reads one page by an index, or a limited number of rows. Only `totals` reads whole tables; its callers cache it.
"""

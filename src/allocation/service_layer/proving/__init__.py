"""Proves the books: the ledger replayed, compared with storage, and kept to what is needed."""

"""Verifies the books by replaying the ledger, and deletes old closed lines."""

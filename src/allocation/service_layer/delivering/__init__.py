"""Runs effects on the outside world: relays, leases, webhooks and dead letters."""

"""Hands effects to the outside world: relays, leases, webhooks and dead letters."""

"""Keeps a retailer's promises: every order line stands on a batch of stock, or waits for one in the open."""

__version__ = "0.1.0"

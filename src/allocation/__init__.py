"""Keeps a retailer's promises: every order line is allocated to a batch of stock, or waits openly for one."""

__version__ = "0.1.0"

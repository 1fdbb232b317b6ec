"""The rules: products, batches, order lines and the events they raise. Standard library only."""

"""The limit of each store: allocation rows that are ready to be written, and nothing else to do."""

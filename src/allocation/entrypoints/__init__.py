"""The ways in: each turns what it is given into messages, and outcomes and refusals into answers."""

"""The design as the textbooks teach it: the whole aggregate through an ORM, a transaction per event.

Not a straw man: indexed, pooled, read committed stock in as few queries as the ORM can, and run by
gunicorn with the workers and threads that measured best.
"""

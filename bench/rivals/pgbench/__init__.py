"""A C client without HTTP: the floor that everyone who commits each order by itself pays."""

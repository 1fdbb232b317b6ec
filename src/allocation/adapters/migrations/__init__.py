"""The steps that bring a database up to date. They are frozen: a change of the tables is a new revision.

Revisions are numbered; the newest is named here, so that a database that is up to date needs no look at the files.
"""

HEAD = "0010"

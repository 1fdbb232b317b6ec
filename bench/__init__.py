"""Every number the README states: one command each, our service and its rivals in the same run."""

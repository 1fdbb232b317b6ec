"""Events from files and texts: how they are read, and how the lines of files are imported."""

"""Jobs in one SQLite file; their clips in a folder beside it."""

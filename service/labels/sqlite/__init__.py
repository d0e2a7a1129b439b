"""Label sets in one SQLite file."""

"""Clips as they arrive: the form, the folder they go to, and the URL they may be fetched from."""

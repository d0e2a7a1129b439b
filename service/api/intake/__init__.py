"""Clips as they arrive: in any kind of body, the folder they go to, and the URL they may be fetched from."""

"""Training and export: makes the bundles that the service loads. Needs the `export` extra (torch)."""

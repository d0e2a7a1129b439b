"""HTTP: routes, schemas, and the one table that gives errors their status."""

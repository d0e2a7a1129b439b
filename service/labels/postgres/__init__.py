"""Label sets in PostgreSQL, shared by replicas: what one has changed the next request on any other sees."""

"""Jobs in PostgreSQL, seen by all replicas; the clips of each in a folder of the replica that took it."""

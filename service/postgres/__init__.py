"""What several replicas of the service share, in one PostgreSQL database: the extra `postgres`."""

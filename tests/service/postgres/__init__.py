"""Tests of what replicas share in PostgreSQL."""

"""Candidates: what is known of the names of a request without any clip, kept in memory and on disk."""

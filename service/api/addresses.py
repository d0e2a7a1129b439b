"""Addresses that not only their routes must know."""

CLASSIFY = "/v1/classify"

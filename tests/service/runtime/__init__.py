"""Tests of service/candidates."""

"""Tests of service/batch."""

"""Tests of service/decode."""

"""Tests of service/encode."""

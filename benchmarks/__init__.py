"""Measurements, each a command. Nothing here is run by the tests."""

"""Tests of clips as they arrive."""

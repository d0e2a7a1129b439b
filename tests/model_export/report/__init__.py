"""Tests of measurements and reports."""

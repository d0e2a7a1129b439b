"""Tests of the audit and of the bills of materials."""

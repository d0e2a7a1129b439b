"""Measure runs and show them beside each other and beside the published numbers."""

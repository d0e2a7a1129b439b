"""Batch: rows of several requests through an encoder at once, without waiting for a batch to fill."""

"""Batch: run the rows of several requests through an encoder together, without waiting for a full batch."""

"""Bundles: the contract between training and serving, one directory each."""

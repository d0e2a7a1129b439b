"""Heads: from features of a clip and of names to distances (AHSE, and standardised similarity)."""

"""Encode: clips and names through the frozen encoders, to features of unit length."""

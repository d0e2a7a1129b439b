"""Encode: turn clips and labels into features of unit length with the frozen encoders."""

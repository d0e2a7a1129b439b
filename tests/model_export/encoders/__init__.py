"""Tests of the real encoders."""
